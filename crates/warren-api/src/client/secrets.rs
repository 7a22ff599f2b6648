//! Secrets.

use http::Method;

use super::{Call, Client, ClientError, encoded};
use crate::secret::{Secret, SecretList, SetSecret};

impl Client {
    /// Sets the value of a secret, which is made where there is none of this name.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn set_secret(&self, name: &str, value: &SetSecret) -> Result<Secret, ClientError> {
        self.json(Call::new(Method::PUT, path(name)).with_json(value)?).await
    }

    /// Every secret of the caller's, without values.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn list_secrets(&self) -> Result<SecretList, ClientError> {
        self.json(Call::get("/v1/secrets")).await
    }

    /// One secret, without its value.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn get_secret(&self, name: &str) -> Result<Secret, ClientError> {
        self.json(Call::get(path(name))).await
    }

    /// Removes a secret.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn delete_secret(&self, name: &str) -> Result<(), ClientError> {
        self.empty(Call::new(Method::DELETE, path(name))).await
    }
}

fn path(name: &str) -> String {
    format!("/v1/secrets/{}", encoded(name))
}
