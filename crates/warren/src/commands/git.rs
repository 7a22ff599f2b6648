//! `warren git`, and the flags that give a new sandbox a repository.

mod flags;
mod rescue;

use std::process::ExitCode;

use clap::Subcommand;
use warren_api::git::{
    CommitGit, GitBranch, GitCommitted, GitLogEntry, GitPushOutcome, GitPushed, GitSession,
    GitStatus,
};

pub(crate) use flags::GitArgs;

use super::Context;
use crate::error::CliError;

/// How many characters of a commit's name are shown.
const SHORT: usize = 10;

/// Work with the repositories of sandboxes
///
/// A sandbox that was made with `--git` works on a branch, its session. What it changes is committed
/// and pushed when it is paused, stopped or removed.
#[derive(clap::Args, Debug)]
pub(crate) struct GitCommandArgs {
    #[command(subcommand)]
    command: GitCommand,
}

#[derive(Subcommand, Debug)]
enum GitCommand {
    /// List sessions: which branch is worked on where, and what of it the remote has
    #[command(visible_alias = "ls")]
    Sessions,
    /// Show branch, commits and changed files of a sandbox's repository
    Status {
        /// Its id or name
        sandbox: String,
    },
    /// Show what has changed in a sandbox and is not committed, as a patch
    Diff {
        /// Its id or name
        sandbox: String,
    },
    /// Commit everything that has changed in a sandbox
    Commit {
        /// Its id or name
        sandbox: String,
        /// The message
        #[arg(long, short)]
        message: Option<String>,
    },
    /// Push the branch of a sandbox
    Push {
        /// Its id or name
        sandbox: String,
    },
    /// Take what the remote has into the branch of a sandbox
    Pull {
        /// Its id or name
        sandbox: String,
    },
    /// Show the last commits of a sandbox
    Log {
        /// Its id or name
        sandbox: String,
        /// How many
        #[arg(long, short = 'n', default_value_t = 20)]
        limit: u32,
    },
    /// List branches of a sandbox and of its remote
    Branches {
        /// Its id or name
        sandbox: String,
    },
    /// Get back work that could not get to its remote, of sandboxes that are gone
    #[command(subcommand)]
    Rescue(rescue::RescueCommand),
}

pub(crate) async fn git(cx: &Context<'_>, args: GitCommandArgs) -> Result<ExitCode, CliError> {
    match args.command {
        GitCommand::Sessions => sessions(cx).await?,
        GitCommand::Status { sandbox } => status(cx, &cx.client.git_status(&sandbox).await?)?,
        GitCommand::Diff { sandbox } => {
            let patch = cx.wait("looking for changes", cx.client.git_diff(&sandbox)).await?;
            cx.output.bytes(&mut std::io::stdout(), &patch)?;
        }
        GitCommand::Commit { sandbox, message } => {
            let request = CommitGit { message };
            let commit = cx.client.commit_git(&sandbox, &request);
            committed(cx, &cx.wait("committing", commit).await?)?;
        }
        GitCommand::Push { sandbox } => {
            pushed(cx, &cx.wait("pushing", cx.client.push_git(&sandbox)).await?)?;
        }
        GitCommand::Pull { sandbox } => {
            let pulled = cx.wait("pulling", cx.client.pull_git(&sandbox)).await?;
            if cx.output.json {
                cx.output.value(&pulled)?;
            } else if let Some(sha) = &pulled.sha {
                cx.output.talk(&format!("{sandbox} is at {}", short(sha)));
            }
        }
        GitCommand::Log { sandbox, limit } => {
            let log = cx.client.git_log(&sandbox, limit).await?;
            if cx.output.json {
                cx.output.value(&log)?;
            } else {
                let rows: Vec<_> = log.commits.iter().map(logged).collect();
                cx.output.table(["COMMIT", "AUTHOR", "SUBJECT"], &rows)?;
            }
        }
        GitCommand::Rescue(command) => rescue::rescue(cx, command).await?,
        GitCommand::Branches { sandbox } => {
            let list = cx.client.git_branches(&sandbox).await?;
            if cx.output.json {
                cx.output.value(&list)?;
            } else {
                let rows: Vec<_> = list.branches.iter().map(branch).collect();
                cx.output.table(["BRANCH", "OF", "COMMIT"], &rows)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn sessions(cx: &Context<'_>) -> Result<(), CliError> {
    let list = cx.client.list_git_sessions().await?;
    if cx.output.json {
        return cx.output.value(&list);
    }
    let rows: Vec<_> = list.sessions.iter().map(session).collect();
    cx.output.table(["SESSION", "REPOSITORY", "SANDBOX", "STATE", "COMMIT", "SAVED"], &rows)
}

fn session(session: &GitSession) -> [String; 6] {
    [
        session.session.clone(),
        session.repository.clone(),
        session.sandbox_id.clone(),
        session.state.to_string(),
        session.commit.as_deref().map(short).unwrap_or_default(),
        saved(session).to_owned(),
    ]
}

/// What is known of the last attempt to save it.
fn saved(session: &GitSession) -> &'static str {
    match (&session.commit, &session.pushed) {
        _ if session.read_only => "read only",
        _ if session.trouble.is_some() => "failed",
        (Some(commit), Some(pushed)) if commit == pushed => "pushed",
        (Some(_), _) => "committed",
        (None, _) => "not yet",
    }
}

fn status(cx: &Context<'_>, status: &GitStatus) -> Result<(), CliError> {
    if cx.output.json {
        return cx.output.value(status);
    }
    let GitStatus { session, branch, head, ahead, behind, changed, truncated } = status;
    let at = head.as_deref().map_or_else(|| "no commit".to_owned(), short);
    let branch = branch.as_deref().unwrap_or("no branch");
    cx.output.line(&format!("on {branch} at {at}, {ahead} ahead and {behind} behind"))?;
    for path in changed {
        cx.output.line(&format!("changed: {path}"))?;
    }
    if *truncated {
        cx.output.line("and more")?;
    }
    if let Some(trouble) = &session.trouble {
        cx.output.warn(&format!("the last attempt to save it failed: {trouble}"));
    }
    Ok(())
}

fn committed(cx: &Context<'_>, commit: &GitCommitted) -> Result<(), CliError> {
    if cx.output.json {
        return cx.output.value(commit);
    }
    match &commit.sha {
        Some(sha) => cx.output.talk(&format!("committed {}", short(sha))),
        None => cx.output.talk("nothing has changed"),
    }
    for path in &commit.left_out {
        cx.output.warn(&format!("{path} is a repository of its own, and not in the commit"));
    }
    Ok(())
}

fn pushed(cx: &Context<'_>, push: &GitPushed) -> Result<(), CliError> {
    if cx.output.json {
        return cx.output.value(push);
    }
    let GitPushed { branch, outcome, sha, rescue, reason } = push;
    let sha = sha.as_deref().map(short).unwrap_or_default();
    match outcome {
        GitPushOutcome::Nothing => cx.output.talk("there is no commit yet"),
        GitPushOutcome::Pushed => cx.output.talk(&format!("{branch} is at {sha}")),
        GitPushOutcome::Integrated => {
            cx.output.talk(&format!("{branch} is at {sha}, with what others have pushed"));
        }
        GitPushOutcome::Rescued => {
            let (rescue, reason) =
                (rescue.as_deref().unwrap_or_default(), reason.as_deref().unwrap_or_default());
            cx.output.warn(&format!("{sha} is on {rescue} and not on {branch}: {reason}"));
        }
    }
    Ok(())
}

fn logged(entry: &GitLogEntry) -> [String; 3] {
    [short(&entry.sha), entry.author.clone(), entry.subject.clone()]
}

fn branch(branch: &GitBranch) -> [String; 3] {
    let of = if branch.remote { "remote" } else { "sandbox" };
    [branch.name.clone(), of.to_owned(), short(&branch.sha)]
}

fn short(sha: &str) -> String {
    sha.chars().take(SHORT).collect()
}
