//! The server itself.

use super::{Call, Client, ClientError};
use crate::server::{Health, Version};

impl Client {
    /// Whether the server answers.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn health(&self) -> Result<Health, ClientError> {
        self.json(Call::get("/v1/health")).await
    }

    /// What the server is.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn version(&self) -> Result<Version, ClientError> {
        self.json(Call::get("/v1/version")).await
    }

    /// Asks the server to end. Sandboxes live on.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`]; `permission_denied` for all but the socket's owner.
    pub async fn shutdown(&self) -> Result<(), ClientError> {
        self.empty(Call::post("/v1/shutdown")).await
    }
}
