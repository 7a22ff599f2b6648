//! Names of one's own.

use http::Method;

use super::{Call, Client, ClientError, encoded};
use crate::domain::{Domain, DomainList, SetDomain};

impl Client {
    /// Lets a name lead to a port of a sandbox.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn set_domain(&self, name: &str, to: &SetDomain) -> Result<Domain, ClientError> {
        self.json(Call::new(Method::PUT, path(name)).with_json(to)?).await
    }

    /// Has the server look whether a name is shown to be the caller's.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn verify_domain(&self, name: &str) -> Result<Domain, ClientError> {
        self.json(Call::post(format!("{}/verify", path(name)))).await
    }

    /// Every name of the caller's.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn list_domains(&self) -> Result<DomainList, ClientError> {
        self.json(Call::get("/v1/domains")).await
    }

    /// One name.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn get_domain(&self, name: &str) -> Result<Domain, ClientError> {
        self.json(Call::get(path(name))).await
    }

    /// Removes a name.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn delete_domain(&self, name: &str) -> Result<(), ClientError> {
        self.empty(Call::new(Method::DELETE, path(name))).await
    }
}

fn path(name: &str) -> String {
    format!("/v1/domains/{}", encoded(name))
}
