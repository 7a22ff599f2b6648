//! What clients of E2B are told about reaching a sandbox from outside.

use warren_core::sandbox::Sandbox;

use super::{CameBy, Edge, token::Secret};

impl Edge {
    /// What clients show to reach the agent of this sandbox. It stays the same for as long as its
    /// tokens are not revoked.
    pub(crate) fn access_token(&self, sandbox: &Sandbox) -> String {
        self.signer.secret(sandbox.id, sandbox.exposure.revision, Secret::Access)
    }

    /// What clients of E2B show to reach all other ports of this sandbox where they are private.
    pub(crate) fn traffic_token(&self, sandbox: &Sandbox) -> String {
        self.signer.secret(sandbox.id, sandbox.exposure.revision, Secret::Traffic)
    }

    /// What the names of ports are below, as clients of E2B are told it: with the port, where it is
    /// not that of HTTPS.
    pub(crate) fn e2b_domain(&self, came_by: Option<CameBy>) -> String {
        let port = self.port_of_names(came_by).filter(|port| *port != 443);
        let name = self.domain();
        port.map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"))
    }
}
