//! Projects, keys, and copies of the database.

use http::Method;

use super::{Call, Client, ClientError, FileStream, encoded};
use crate::access::{
    CreateKey, CreateProject, KeyList, NewKey, Project, ProjectList, ProjectQuota,
};

impl Client {
    /// Makes a key. It is never repeated by itself, for then there might be two.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`]; `permission_denied` for callers from afar, as all of these.
    pub async fn create_key(&self, request: &CreateKey) -> Result<NewKey, ClientError> {
        self.json(Call::post("/v1/keys").with_json(request)?).await
    }

    /// Every key.
    ///
    /// # Errors
    ///
    /// As [`Client::create_key`].
    pub async fn list_keys(&self) -> Result<KeyList, ClientError> {
        self.json(Call::get("/v1/keys")).await
    }

    /// Removes a key.
    ///
    /// # Errors
    ///
    /// As [`Client::create_key`].
    pub async fn revoke_key(&self, id: &str) -> Result<(), ClientError> {
        self.empty(Call::new(Method::DELETE, format!("/v1/keys/{}", encoded(id)))).await
    }

    /// Makes a project.
    ///
    /// # Errors
    ///
    /// As [`Client::create_key`].
    pub async fn create_project(&self, request: &CreateProject) -> Result<Project, ClientError> {
        self.json(Call::post("/v1/projects").with_json(request)?).await
    }

    /// Every project.
    ///
    /// # Errors
    ///
    /// As [`Client::create_key`].
    pub async fn list_projects(&self) -> Result<ProjectList, ClientError> {
        self.json(Call::get("/v1/projects")).await
    }

    /// One project.
    ///
    /// # Errors
    ///
    /// As [`Client::create_key`].
    pub async fn get_project(&self, name: &str) -> Result<Project, ClientError> {
        self.json(Call::get(project(name))).await
    }

    /// Changes what a project may have, to exactly this.
    ///
    /// # Errors
    ///
    /// As [`Client::create_key`].
    pub async fn set_project_quota(
        &self,
        name: &str,
        quota: &ProjectQuota,
    ) -> Result<Project, ClientError> {
        let call = Call::new(Method::PUT, format!("{}/quota", project(name)));
        self.json(call.with_json(quota)?).await
    }

    /// Removes a project that has neither sandboxes nor keys.
    ///
    /// # Errors
    ///
    /// As [`Client::create_key`].
    pub async fn delete_project(&self, name: &str) -> Result<(), ClientError> {
        self.empty(Call::new(Method::DELETE, project(name))).await
    }

    /// A consistent copy of the server's database, as it arrives.
    ///
    /// # Errors
    ///
    /// As [`Client::create_key`].
    pub async fn backup(&self) -> Result<FileStream, ClientError> {
        let mut call = Call::get("/v1/backup");
        call.accept = "*/*";
        Ok(FileStream(self.send(&call).await?))
    }
}

fn project(name: &str) -> String {
    format!("/v1/projects/{}", encoded(name))
}
