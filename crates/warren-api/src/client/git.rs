//! Sessions of git.

use http::Method;

use super::{Call, Client, ClientError, FileStream, Query, encoded, sandboxes::path};
use crate::git::{
    CommitGit, GitBranchList, GitCommitted, GitLog, GitPulled, GitPushed, GitRescueList,
    GitSessionList, GitStatus,
};

impl Client {
    /// Every session of the caller's sandboxes.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn list_git_sessions(&self) -> Result<GitSessionList, ClientError> {
        self.json(Call::get("/v1/git/sessions")).await
    }

    /// How the repository of a sandbox is.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn git_status(&self, sandbox: &str) -> Result<GitStatus, ClientError> {
        self.json(Call::get(format!("{}/git", path(sandbox)))).await
    }

    /// What has changed and is not committed, as a patch.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn git_diff(&self, sandbox: &str) -> Result<Vec<u8>, ClientError> {
        let mut call = Call::get(format!("{}/git/diff", path(sandbox)));
        call.accept = "*/*";
        let reply = self.send(&call).await?;
        self.read(reply).await
    }

    /// Commits everything that has changed.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn commit_git(
        &self,
        sandbox: &str,
        request: &CommitGit,
    ) -> Result<GitCommitted, ClientError> {
        self.json(Call::post(format!("{}/git/commit", path(sandbox))).with_json(request)?).await
    }

    /// Pushes the session's branch.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn push_git(&self, sandbox: &str) -> Result<GitPushed, ClientError> {
        self.json(Call::post(format!("{}/git/push", path(sandbox)))).await
    }

    /// Takes in what the remote's branch has.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn pull_git(&self, sandbox: &str) -> Result<GitPulled, ClientError> {
        self.json(Call::post(format!("{}/git/pull", path(sandbox)))).await
    }

    /// The last commits, the newest first.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn git_log(&self, sandbox: &str, limit: u32) -> Result<GitLog, ClientError> {
        let query = Query::default().with("limit", Some(limit.to_string()));
        self.json(Call::get(format!("{}/git/log{}", path(sandbox), query.0))).await
    }

    /// Branches of a sandbox and of its remote.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn git_branches(&self, sandbox: &str) -> Result<GitBranchList, ClientError> {
        self.json(Call::get(format!("{}/git/branches", path(sandbox)))).await
    }

    /// Every bundle of work that could not get to its remote.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn list_git_rescues(&self) -> Result<GitRescueList, ClientError> {
        self.json(Call::get("/v1/git/rescues")).await
    }

    /// Reads a bundle.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn read_git_rescue(&self, id: &str) -> Result<FileStream, ClientError> {
        let mut call = Call::get(rescue(id));
        call.accept = "*/*";
        Ok(FileStream(self.send(&call).await?))
    }

    /// Removes a bundle.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn delete_git_rescue(&self, id: &str) -> Result<(), ClientError> {
        self.empty(Call::new(Method::DELETE, rescue(id))).await
    }
}

fn rescue(id: &str) -> String {
    format!("/v1/git/rescues/{}", encoded(id))
}
