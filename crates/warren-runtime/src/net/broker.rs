//! The broker of git for sandboxes, at the gateway address: who connects is told by the address
//! that the connection comes from, and core says what that sandbox may do.
//!
//! A port below 1024 is taken, so that no ordinary user of the host stands in for the broker while no
//! server runs.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use warren_core::{git::GitRights, id::SandboxId};
use warren_egress::{Broker, GitPassport, Reach, TrustError, broker::Admitted};
use warren_git::wire::Request;
use zeroize::Zeroizing;

use super::{NetError, listener, policy::Policies, resolver::Limits};

/// The ports that are tried, in order.
const PORTS: std::ops::RangeInclusive<u16> = 418..=440;
/// How many connections there may be, and how many of one sandbox.
const CONNECTIONS: (usize, usize) = (256, 16);

/// Why there is no broker.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// No port could be had.
    #[error("could not listen at {address} on any port from {} to {}", PORTS.start(), PORTS.end())]
    Listen {
        /// The gateway address.
        address: Ipv4Addr,
        /// Why, of the last port.
        #[source]
        source: io::Error,
    },
    /// The authorities to trust cannot be read.
    #[error("could not set up what the broker trusts")]
    Trust(#[from] TrustError),
    /// Sandboxes could not be let in.
    #[error("could not let sandboxes connect to the broker")]
    Rules(#[from] NetError),
}

/// Tells which sandbox is in a slot.
pub type InSlot = Arc<dyn Fn(u32) -> Option<SandboxId> + Send + Sync>;

/// A running broker; it ends when this is dropped.
pub struct BrokerHandle {
    policies: Arc<Policies>,
    base: String,
    tasks: JoinSet<()>,
}

impl fmt::Debug for BrokerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerHandle").field("base", &self.base).finish_non_exhaustive()
    }
}

impl BrokerHandle {
    /// Where sandboxes find it: `http://10.0.0.1:418`.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Ends the broker: sandboxes are refused from here on.
    pub async fn stop(mut self) {
        if let Err(error) = self.policies.set_broker(None) {
            let cause = &error as &dyn std::error::Error;
            tracing::warn!(error = cause, "sandboxes are still let to the broker");
        }
        self.tasks.shutdown().await;
    }
}

/// Starts the broker on the calling runtime, in the namespace of its threads. `roots` are
/// authorities, as PEM, that are trusted besides those of the host.
///
/// # Errors
///
/// [`BrokerError`].
pub async fn start(
    policies: Arc<Policies>,
    rights: Arc<dyn GitRights>,
    in_slot: InSlot,
    roots: &[u8],
) -> Result<BrokerHandle, BrokerError> {
    let broker = Arc::new(Broker::new(roots)?);
    let address = policies.gateway;
    let failed = |source| BrokerError::Listen { address, source };
    let listener = listener::bind(address, PORTS).await.map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    policies.set_broker(Some(port))?;
    let base = format!("http://{address}:{port}");
    let door = Door { policies: Arc::clone(&policies), rights, in_slot };
    let mut tasks = JoinSet::new();
    tasks.spawn(accept(listener, broker, Arc::new(door)));
    Ok(BrokerHandle { policies, base, tasks })
}

async fn accept(listener: TcpListener, broker: Arc<Broker>, door: Arc<Door>) {
    let limits = Limits::new(CONNECTIONS.0, CONNECTIONS.1);
    let serve = |stream: TcpStream, peer: SocketAddr| {
        let slot = door.policies.slot_at(peer.ip())?;
        let sandbox = (door.in_slot)(slot)?;
        let permit = limits.admit(peer.ip())?;
        let (broker, door) = (Arc::clone(&broker), Arc::clone(&door));
        Some(async move {
            let passport = SandboxPassport { door, sandbox };
            broker.serve(stream, &passport).await;
            drop(permit);
        })
    };
    listener::accept(listener, serve).await;
}

/// What the broker needs to know who comes and what they may do.
struct Door {
    policies: Arc<Policies>,
    rights: Arc<dyn GitRights>,
    in_slot: InSlot,
}

/// What the broker gets to know about one sandbox.
struct SandboxPassport {
    door: Arc<Door>,
    sandbox: SandboxId,
}

impl GitPassport for SandboxPassport {
    fn admit(&self, authority: &str, request: &Request) -> Result<Admitted, String> {
        let admission = self.door.rights.admit(self.sandbox, authority, request)?;
        let credential = match admission.credential {
            None => None,
            Some((user, token)) => {
                let token = std::str::from_utf8(token.expose());
                let token = token.map_err(|_binary| "the session's token is no text".to_owned())?;
                // Tokens that were written to a file mostly end with its last line.
                Some((user, Zeroizing::new(token.trim_end().to_owned())))
            }
        };
        let (https, anywhere) = (admission.https, admission.anywhere);
        Ok(Admitted { https, credential, anywhere, rights: admission.rights })
    }

    fn reach(&self, address: IpAddr) -> Reach {
        self.door.policies.reach(address)
    }

    fn refused(&self, repository: &str, reason: &str) {
        self.door.rights.refused(self.sandbox, repository, reason);
    }
}
