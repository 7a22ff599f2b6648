//! What has changed, without touching what somebody inside has staged.

use super::GitMachine;
use crate::{
    error::GitError,
    git::{Git, step},
    machine::{Command, Machine, Output},
};

/// Bytes of a difference that are given.
const DIFF_BYTES: usize = 16 * 1024 * 1024;
/// The index of such operations, in the git directory.
const INDEX: &str = "warren.index";

/// How the files differ from the commit that is checked out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diff {
    /// A patch that `git apply` takes, with new files and binary ones. Texts keep their encoding.
    pub patch: Vec<u8>,
    /// Whether there is more than 16 MiB of it; the rest is not here then.
    pub truncated: bool,
}

impl Diff {
    /// The patch as text, with replacements for what is none.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.patch).into_owned()
    }
}

impl<M: Machine> GitMachine<M> {
    /// How the files differ from the commit that is checked out: changed, new and deleted ones, but
    /// none that `.gitignore` names. Before the first commit all files are new.
    ///
    /// # Errors
    ///
    /// [`GitError`] where the machine or git fails.
    pub async fn diff(&self) -> Result<Diff, GitError> {
        self.operate(|this| async move {
            let work = async {
                let git = this.git();
                let index = open_index(&git).await?;
                let result = cached(&git, &index).await;
                close_index(&git, &index).await?;
                let output = result?;
                Ok(Diff { patch: output.stdout, truncated: output.truncated })
            };
            this.awake("diff", work).await
        })
        .await
    }
}

async fn cached<M: Machine>(git: &Git<'_, M>, index: &str) -> Result<Output, GitError> {
    let words = ["diff", "--cached", "--binary", "--no-ext-diff", "--no-textconv", "--no-color"];
    let step = step(words.into_iter().chain(["--src-prefix=a/", "--dst-prefix=b/"]));
    git.done(step.env("GIT_INDEX_FILE", index).files().keep(DIFF_BYTES)).await
}

/// Makes an index that has all files as they are now. It is to be closed, whatever comes.
pub(super) async fn open_index<M: Machine>(git: &Git<'_, M>) -> Result<String, GitError> {
    let found = git.done(step(["rev-parse", "--absolute-git-dir"])).await?;
    let directory = found.stdout_text().trim_end_matches('\n').to_owned();
    let (own, ours) = (format!("{directory}/index"), format!("{directory}/{INDEX}"));
    close_index(git, &ours).await?;
    // With the index's own notes about files, only those that have changed are read. Before the
    // first `git add` there is none.
    git.plain(Command::new(["cp", "--", &own, &ours])).await?;
    if let Err(error) = git.done(step(["add", "--all"]).env("GIT_INDEX_FILE", &ours)).await {
        close_index(git, &ours).await?;
        return Err(error);
    }
    Ok(ours)
}

/// Removes such an index, and the lock that a command leaves which was killed.
pub(super) async fn close_index<M: Machine>(git: &Git<'_, M>, index: &str) -> Result<(), GitError> {
    let lock = format!("{index}.lock");
    git.plain(Command::new(["rm", "-f", "--", index, &lock])).await?;
    Ok(())
}
