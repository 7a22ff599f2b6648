//! Snapshots, forks, and going back.

use http::Method;
use tokio::io::AsyncRead;

use super::{Call, Client, ClientError, Query, TransferStream, encoded, files::FileStream};
use crate::{
    sandbox::Sandbox,
    snapshot::{
        ChangeSnapshot, CreateSnapshot, ForkList, ForkSandbox, ListSnapshots, PullSnapshot,
        PushSnapshot, RollbackSandbox, Snapshot, SnapshotList,
    },
};

impl Client {
    /// Saves what a sandbox's files are.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn create_snapshot(
        &self,
        sandbox: &str,
        request: &CreateSnapshot,
    ) -> Result<Snapshot, ClientError> {
        let path = format!("/v1/sandboxes/{}/snapshots", encoded(sandbox));
        self.json(Call::post(path).with_json(request)?).await
    }

    /// Snapshots, oldest first.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn list_snapshots(
        &self,
        filter: &ListSnapshots,
    ) -> Result<SnapshotList, ClientError> {
        let query = Query::default()
            .with("sandbox", filter.sandbox.as_ref())
            .with("tag", filter.tag.as_ref());
        self.json(Call::get(format!("/v1/snapshots{}", query.0))).await
    }

    /// One snapshot, by id or name.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn get_snapshot(&self, snapshot: &str) -> Result<Snapshot, ClientError> {
        self.json(Call::get(path(snapshot))).await
    }

    /// A snapshot as an OCI image in one file, with what is below it.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn export_snapshot(&self, snapshot: &str) -> Result<FileStream, ClientError> {
        let mut call = Call::get(format!("{}/archive", path(snapshot)));
        call.accept = "*/*";
        Ok(FileStream(self.send(&call).await?))
    }

    /// Makes a snapshot of what [`Client::export_snapshot`] gave, here or elsewhere.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`]. It is never repeated by itself: the stream is used up.
    pub async fn import_snapshot(
        &self,
        name: Option<&str>,
        tags: &[String],
        archive: impl AsyncRead + Send + Unpin + 'static,
    ) -> Result<Snapshot, ClientError> {
        let mut query = Query::default().with("name", name);
        for tag in tags {
            query = query.with("tag", Some(tag));
        }
        let target = format!("/v1/snapshots{}", query.0);
        self.upload(target, "application/x-tar", archive).await
    }

    /// Has the server send a snapshot to a registry.
    ///
    /// # Errors
    ///
    /// As [`Client::push_image`].
    pub async fn push_snapshot(
        &self,
        snapshot: &str,
        request: &PushSnapshot,
    ) -> Result<TransferStream, ClientError> {
        self.transfer(Call::post(format!("{}/push", path(snapshot))).with_json(request)?).await
    }

    /// Has the server fetch a snapshot from a registry.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn pull_snapshot(
        &self,
        request: &PullSnapshot,
    ) -> Result<TransferStream, ClientError> {
        self.transfer(Call::post("/v1/snapshots").with_json(request)?).await
    }

    /// Gives a snapshot another name, other tags, or both.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn change_snapshot(
        &self,
        snapshot: &str,
        change: &ChangeSnapshot,
    ) -> Result<Snapshot, ClientError> {
        self.json(Call::new(Method::PATCH, path(snapshot)).with_json(change)?).await
    }

    /// Removes a snapshot.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`]; `not_found` when there is none.
    pub async fn delete_snapshot(&self, snapshot: &str) -> Result<(), ClientError> {
        self.empty(Call::new(Method::DELETE, path(snapshot))).await
    }

    /// Makes independent sandboxes from the live state of one.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn fork_sandbox(
        &self,
        sandbox: &str,
        request: &ForkSandbox,
    ) -> Result<ForkList, ClientError> {
        let path = format!("/v1/sandboxes/{}/fork", encoded(sandbox));
        self.json(Call::post(path).with_json(request)?).await
    }

    /// Takes a sandbox back to a snapshot.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn rollback_sandbox(
        &self,
        sandbox: &str,
        snapshot: &str,
    ) -> Result<Sandbox, ClientError> {
        let request = RollbackSandbox { snapshot: snapshot.to_owned() };
        let path = format!("/v1/sandboxes/{}/rollback", encoded(sandbox));
        self.json(Call::post(path).with_json(&request)?).await
    }

    /// Adopts a fork's files into its parent, which is the answer.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn keep_sandbox(&self, fork: &str) -> Result<Sandbox, ClientError> {
        self.json(Call::post(format!("/v1/sandboxes/{}/keep", encoded(fork)))).await
    }
}

fn path(snapshot: &str) -> String {
    format!("/v1/snapshots/{}", encoded(snapshot))
}
