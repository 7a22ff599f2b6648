//! Who reaches the ports of a sandbox from outside.

use http::Method;

use super::{
    Call, Client, ClientError,
    lines::Lines,
    sandboxes::{PortStream, path},
};
use crate::{
    NDJSON,
    edge::{ChangeExposure, CreateLink, Link, ListenerEvent, PublishPort},
    sandbox::Sandbox,
};

impl Client {
    /// Says who reaches the ports of a sandbox without a token.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn expose_sandbox(
        &self,
        sandbox: &str,
        change: &ChangeExposure,
    ) -> Result<Sandbox, ClientError> {
        let call = Call::new(Method::PUT, format!("{}/exposure", path(sandbox)));
        self.json(call.with_json(change)?).await
    }

    /// Makes one port of a sandbox public, or private again.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn publish_port(
        &self,
        sandbox: &str,
        port: u16,
        public: bool,
    ) -> Result<Sandbox, ClientError> {
        let call = Call::new(Method::PUT, format!("{}/ports/{port}", path(sandbox)));
        self.json(call.with_json(&PublishPort { public })?).await
    }

    /// Makes a link to a port of a sandbox, or a token for all of them.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn create_link(
        &self,
        sandbox: &str,
        request: &CreateLink,
    ) -> Result<Link, ClientError> {
        let call = Call::post(format!("{}/links", path(sandbox)));
        self.json(call.with_json(request)?).await
    }

    /// Listens on a port of a sandbox's own loopback until the stream is dropped: what runs in the
    /// sandbox reaches whatever is behind [`Client::take_connection`].
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`]; `failed_precondition` where something listens there.
    pub async fn listen_port(
        &self,
        sandbox: &str,
        port: u16,
    ) -> Result<ListenerStream, ClientError> {
        let call = Call::get(format!("{}/listeners/{port}", path(sandbox))).accepting(NDJSON);
        let mut stream = ListenerStream(Lines::new(self.send(&call).await?));
        match stream.event().await? {
            Some(ListenerEvent::Listening) => Ok(stream),
            _ => Err(ClientError::ended_early()),
        }
    }

    /// Takes a connection from inside that a listener has told of.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`]; `not_found` when it has waited for too long.
    pub async fn take_connection(
        &self,
        sandbox: &str,
        port: u16,
        connection: u64,
    ) -> Result<PortStream, ClientError> {
        self.upgraded(format!("{}/listeners/{port}/{connection}", path(sandbox))).await
    }

    /// Revokes every link and every token of a sandbox.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn revoke_links(&self, sandbox: &str) -> Result<(), ClientError> {
        self.empty(Call::new(Method::DELETE, format!("{}/links", path(sandbox)))).await
    }
}

/// Connections from inside of a sandbox, as they come.
#[derive(Debug)]
pub struct ListenerStream(Lines);

impl ListenerStream {
    /// The number of the next connection; `None` when the sandbox or the server has ended.
    ///
    /// # Errors
    ///
    /// What broke.
    pub async fn next(&mut self) -> Result<Option<u64>, ClientError> {
        loop {
            match self.event().await? {
                Some(ListenerEvent::Connection { id }) => return Ok(Some(id)),
                Some(ListenerEvent::Listening | ListenerEvent::Keepalive) => {}
                None => return Ok(None),
            }
        }
    }

    async fn event(&mut self) -> Result<Option<ListenerEvent>, ClientError> {
        let Some(line) = self.0.next().await? else { return Ok(None) };
        let event = serde_json::from_slice(line);
        event.map(Some).map_err(|source| ClientError::Decode { source })
    }
}
