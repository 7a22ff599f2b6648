//! What requests of sandboxes are given.

use http::Method;

use super::{Call, Client, ClientError, encoded};
use crate::credentials::{Credentials, GivenCredentials};

impl Client {
    /// What requests of a sandbox are given, without values.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn get_credentials(&self, sandbox: &str) -> Result<GivenCredentials, ClientError> {
        self.json(Call::get(path(sandbox))).await
    }

    /// Gives requests of a sandbox these credentials from now on.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn set_credentials(
        &self,
        sandbox: &str,
        credentials: &Credentials,
    ) -> Result<GivenCredentials, ClientError> {
        self.json(Call::new(Method::PUT, path(sandbox)).with_json(credentials)?).await
    }
}

fn path(sandbox: &str) -> String {
    format!("/v1/sandboxes/{}/credentials", encoded(sandbox))
}
