//! Work that cannot get to the remote, as one file.

use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
};

use super::{
    GitMachine,
    diff::{close_index, open_index},
};
use crate::{
    error::GitError,
    git::{Git, answer, step},
    machine::{Chunk, Machine},
    porcelain,
};

/// Refs that are made for a bundle and removed after it.
const PREFIX: &str = "refs/warren/";
/// Pieces of a bundle that wait to be written.
const PIECES: usize = 16;

/// What a bundle has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// Its length.
    pub bytes: u64,
    /// Its refs and their commits. Beside branches there are `refs/warren/uncommitted` with what was
    /// not committed, `refs/warren/head` for a HEAD that is on no branch, and
    /// `refs/warren/stash-N`.
    pub refs: Vec<(String, String)>,
}

impl<M: Machine> GitMachine<M> {
    /// Writes everything that is not on the remote as a git bundle; `None` where there is nothing.
    ///
    /// `git fetch FILE 'refs/*:refs/rescue/*'` in a clone of the repository takes it out again. What
    /// is written is a bundle only once this has succeeded.
    ///
    /// # Errors
    ///
    /// [`GitError::Bundle`] where it cannot be written, [`GitError`] where the machine or git fails.
    pub async fn bundle<W>(&self, into: W) -> Result<Option<Bundle>, GitError>
    where
        W: AsyncWrite + Send + Unpin + 'static,
    {
        self.operate(move |this| async move {
            this.awake("bundle", async { this.write_bundle(&this.git(), into).await }).await
        })
        .await
    }

    pub(super) async fn write_bundle<W>(
        &self,
        git: &Git<'_, M>,
        into: W,
    ) -> Result<Option<Bundle>, GitError>
    where
        W: AsyncWrite + Send + Unpin,
    {
        self.clear(git).await?;
        self.hold_uncommitted(git).await?;
        for (number, (name, sha)) in self.tips(git).await?.into_iter().enumerate() {
            if name == "HEAD" {
                self.refer("refs/warren/head", &sha, git).await?;
            } else if !name.starts_with("refs/heads/") {
                self.refer(&format!("{PREFIX}stash-{number}"), &sha, git).await?;
            }
        }
        let written = self.stream_bundle(git, into).await;
        let cleared = self.clear(git).await;
        let bundle = written?;
        cleared.map(|()| bundle)
    }

    async fn stream_bundle<W>(
        &self,
        git: &Git<'_, M>,
        mut into: W,
    ) -> Result<Option<Bundle>, GitError>
    where
        W: AsyncWrite + Send + Unpin,
    {
        let words = ["for-each-ref", "--format=%(objectname)%09%(refname)", "refs/heads", PREFIX];
        let listed = git.done(step(words).keep(16 * 1024 * 1024)).await?;
        let mut refs = Vec::new();
        for (name, sha) in porcelain::remote_refs(&listed.stdout) {
            let words = ["rev-list", "--max-count=1", &sha, "--not", "--remotes=origin", "--"];
            if !git.done(step(words)).await?.stdout.is_empty() {
                refs.push((name, sha));
            }
        }
        if refs.is_empty() {
            return Ok(None);
        }
        let (to, from) = mpsc::channel(PIECES);
        let names: String = refs.iter().map(|(name, _)| format!("{name}\n")).collect();
        let words = ["bundle", "create", "--quiet", "-", "--stdin", "--not", "--remotes=origin"];
        let made = git.done(step(words).stdin(names).files().keep(64 * 1024).stream(to));
        let copied = async {
            // Dropped when nothing more can be written, so that git does not wait for it.
            let mut from = from;
            let mut bytes = 0;
            while let Some(chunk) = from.recv().await {
                if let Chunk::Stdout(piece) = chunk {
                    into.write_all(&piece).await?;
                    bytes += piece.len() as u64;
                }
            }
            into.shutdown().await?;
            Ok(bytes)
        };
        let (made, copied) = tokio::join!(made, copied);
        let bytes = copied.map_err(GitError::Bundle)?;
        made?;
        Ok(Some(Bundle { bytes, refs }))
    }

    /// Makes a commit of the files as they are, which no branch has.
    async fn hold_uncommitted(&self, git: &Git<'_, M>) -> Result<(), GitError> {
        let index = open_index(git).await?;
        let written = git.done(step(["write-tree"]).env("GIT_INDEX_FILE", &index)).await;
        close_index(git, &index).await?;
        let text = written?.stdout_text();
        let tree = porcelain::object_id(&text).ok_or(answer("write-tree"))?;
        let head = git.resolve("HEAD^{commit}").await?;
        let known = match &head {
            Some(_) => git.resolve("HEAD^{tree}").await?,
            None => None,
        };
        let empty = git.done(step(["hash-object", "-t", "tree", "--stdin"])).await?.stdout_text();
        if known.as_deref() == Some(tree) || (head.is_none() && empty.trim_end() == tree) {
            return Ok(());
        }
        let mut words = vec!["commit-tree", tree, "-m", "uncommitted work"];
        words.extend(head.as_deref().into_iter().flat_map(|head| ["-p", head]));
        let identity = &self.inner.config.identity;
        let step = step(words).env("GIT_AUTHOR_NAME", &identity.name);
        let made = git.done(step.env("GIT_AUTHOR_EMAIL", &identity.email)).await?.stdout_text();
        let commit = porcelain::object_id(&made).ok_or(answer("commit-tree"))?;
        self.refer("refs/warren/uncommitted", commit, git).await
    }

    async fn refer(&self, name: &str, sha: &str, git: &Git<'_, M>) -> Result<(), GitError> {
        git.done(step(["update-ref", name, sha])).await?;
        Ok(())
    }

    /// Removes the refs of a bundle, also those of one that was not finished.
    async fn clear(&self, git: &Git<'_, M>) -> Result<(), GitError> {
        let listed = git.done(step(["for-each-ref", "--format=delete %(refname)", PREFIX])).await?;
        if !listed.stdout.is_empty() {
            git.done(step(["update-ref", "--stdin"]).stdin(listed.stdout)).await?;
        }
        Ok(())
    }
}
