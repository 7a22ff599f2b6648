//! Sessions of git.

use warren_api::git as api;
use warren_core::{
    git::answers as git,
    git::{Fetch, GitSession, PushMoments, Rescue, WantedGit, WantedToken, WhenMoved},
    sandbox::Sandbox,
};
use zeroize::Zeroizing;

use crate::error::ApiError;

pub(crate) fn wanted_git(request: api::Git) -> Result<WantedGit, ApiError> {
    let token = match (request.token, request.secret) {
        (Some(_), Some(_)) => {
            return Err(ApiError::invalid("git", "expected one of `token` and `secret`"));
        }
        (Some(token), None) => Some(WantedToken::Given(Zeroizing::new(token))),
        (None, Some(name)) => Some(WantedToken::Secret(name)),
        (None, None) => None,
    };
    if request.depth == Some(0) {
        return Err(ApiError::invalid("git.depth", "expected at least 1"));
    }
    let push_on = request.push_on.map(|moments| PushMoments {
        pause: moments.contains(&api::GitMoment::Pause),
        stop: moments.contains(&api::GitMoment::Stop),
        deadline: moments.contains(&api::GitMoment::Deadline),
    });
    Ok(WantedGit {
        repository: request.repository,
        reference: request.reference,
        session: request.session,
        path: request.path,
        identity: request.identity.map(|it| (it.name, it.email)),
        user: request.user,
        token,
        push: !request.read_only,
        auto_commit: request.auto_commit.unwrap_or(true),
        push_on: push_on.unwrap_or_default(),
        on_moved: match request.on_moved {
            None | Some(api::GitOnMoved::Rebase) => WhenMoved::Rebase,
            Some(api::GitOnMoved::Merge) => WhenMoved::Merge,
            Some(api::GitOnMoved::Rescue) => WhenMoved::Rescue,
        },
        fetch: Fetch {
            depth: request.depth,
            blobless: request.blobless,
            single_branch: request.single_branch,
            submodules: request.submodules,
        },
    })
}

pub(crate) fn git_session(session: GitSession, sandbox: &Sandbox) -> api::GitSession {
    api::GitSession {
        sandbox_id: session.sandbox.to_string(),
        state: super::state(sandbox.state),
        repository: session.repository,
        session: session.session,
        path: session.path,
        read_only: !session.push,
        commit: session.commit,
        pushed: session.pushed,
        trouble: session.trouble,
        updated_at: session.updated_at.map(super::timestamp),
    }
}

pub(crate) fn git_status(session: api::GitSession, status: git::Status) -> api::GitStatus {
    api::GitStatus {
        session,
        branch: status.branch,
        head: status.head,
        ahead: status.ahead,
        behind: status.behind,
        changed: status.changed,
        truncated: status.truncated,
    }
}

pub(crate) fn git_committed(commit: Option<git::Commit>) -> api::GitCommitted {
    match commit {
        None => api::GitCommitted::default(),
        Some(commit) => api::GitCommitted {
            sha: Some(commit.sha),
            message: Some(commit.message),
            left_out: commit.left_out,
        },
    }
}

pub(crate) fn git_pushed(push: git::Push) -> api::GitPushed {
    use api::GitPushOutcome as Outcome;
    use git::PushOutcome as P;
    let branch = push.branch.to_string();
    let (outcome, sha, rescue, reason) = match push.outcome {
        P::Nothing => (Outcome::Nothing, None, None, None),
        P::Pushed { sha } => (Outcome::Pushed, Some(sha), None, None),
        P::Integrated { sha } => (Outcome::Integrated, Some(sha), None, None),
        P::Rescued { sha, rescue, reason } => {
            (Outcome::Rescued, Some(sha), Some(rescue.to_string()), Some(reason))
        }
    };
    api::GitPushed { branch, outcome, sha, rescue, reason }
}

pub(crate) fn git_log(commits: Vec<git::Logged>) -> api::GitLog {
    let entry = |it: git::Logged| api::GitLogEntry {
        sha: it.sha,
        author: it.author,
        email: it.email,
        time: it.time,
        subject: it.subject,
    };
    api::GitLog { commits: commits.into_iter().map(entry).collect() }
}

pub(crate) fn git_branches(branches: Vec<git::Branch>) -> api::GitBranchList {
    let branch = |it: git::Branch| api::GitBranch { name: it.name, sha: it.sha, remote: it.remote };
    api::GitBranchList { branches: branches.into_iter().map(branch).collect() }
}

pub(crate) fn git_rescue(rescue: &Rescue) -> api::GitRescue {
    let refs = rescue.refs.iter().cloned();
    api::GitRescue {
        id: rescue.sandbox.to_string(),
        repository: rescue.repository.clone(),
        session: rescue.session.clone(),
        reason: rescue.reason.clone(),
        bytes: rescue.bytes,
        refs: refs.map(|(name, sha)| api::GitRescueRef { name, sha }).collect(),
        created_at: super::timestamp(rescue.created_at),
    }
}
