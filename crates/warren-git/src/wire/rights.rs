//! What a machine may do with a repository.

use super::{
    push::Update,
    request::{Request, Service},
};
use crate::name::BranchName;

/// What one machine may do: reading one repository, and perhaps pushing to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    repository: String,
    push: PushRight,
}

/// What a machine may push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushRight {
    /// Nothing.
    Nothing,
    /// Its session's branch, and new rescue branches of that session. It may remove neither.
    Session(BranchName),
}

impl Rights {
    /// Rights to the repository of this path; slashes around it and `.git` at its end mean nothing.
    #[must_use]
    pub fn new(path: &str, push: PushRight) -> Self {
        let path = path.trim_matches('/');
        Self { repository: path.strip_suffix(".git").unwrap_or(path).to_owned(), push }
    }

    /// Whether the request may be sent on. For a push, what it changes is yet to be looked at.
    ///
    /// # Errors
    ///
    /// [`Denied`], with what it was about.
    pub fn allow(&self, request: &Request) -> Result<(), Denied> {
        if request.repository != self.repository {
            return Err(Denied::Repository(request.repository.clone()));
        }
        if request.service == Service::Write && self.push == PushRight::Nothing {
            return Err(Denied::Push);
        }
        Ok(())
    }

    /// Whether a push may change these refs: all of them, or none.
    ///
    /// Whether a branch would only move forward cannot be seen in its head: that is for the remote's
    /// own rules.
    ///
    /// # Errors
    ///
    /// [`Denied`], with the first ref that may not be changed so.
    pub fn allow_push(&self, updates: &[Update]) -> Result<(), Denied> {
        let PushRight::Session(session) = &self.push else { return Err(Denied::Push) };
        let (branch, rescue) = (session.full(), format!("refs/heads/session/{session}/rescue-"));
        for update in updates {
            let number = update.name.strip_prefix(&rescue);
            let is_number = |it: &str| {
                (1..=9).contains(&it.len()) && it.bytes().all(|byte| byte.is_ascii_digit())
            };
            let is_rescue = number.is_some_and(is_number) && update.old.is_none();
            if update.new.is_none() || !(update.name == branch || is_rescue) {
                return Err(Denied::Ref(update.name.clone()));
            }
        }
        Ok(())
    }
}

/// What a machine has no right to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The repository.
    #[error("this machine has no right to repository {0}")]
    Repository(String),
    /// Changing anything.
    #[error("this machine may read the repository and not push to it")]
    Push,
    /// Changing this ref, in this way.
    #[error("this machine may not change {0} so")]
    Ref(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(name: &str, old: bool, new: bool) -> Update {
        let id = |some: bool| some.then(|| "1".repeat(40));
        Update { name: name.to_owned(), old: id(old), new: id(new) }
    }

    fn session() -> Rights {
        let session = BranchName::session("work").unwrap();
        Rights::new("/team/agent.git", PushRight::Session(session))
    }

    #[test]
    fn one_repository_is_read_and_no_other() {
        let read = |path: &str| Request::read("POST", path, None).unwrap();
        let reader = Rights::new("team/agent", PushRight::Nothing);
        assert_eq!(reader.allow(&read("/team/agent.git/git-upload-pack")), Ok(()));
        assert_eq!(reader.allow(&read("/team/agent/git-receive-pack")), Err(Denied::Push));
        assert_eq!(session().allow(&read("/team/agent/git-receive-pack")), Ok(()));
        for other in [
            "/team/agent2/git-upload-pack",
            "/Team/agent/git-upload-pack",
            "/agent/git-upload-pack",
        ] {
            assert!(matches!(session().allow(&read(other)), Err(Denied::Repository(_))), "{other}");
        }
    }

    #[test]
    fn a_session_is_pushed_and_rescued_and_nothing_else() {
        let rights = session();
        let good = [
            update("refs/heads/work", true, true),
            update("refs/heads/work", false, true),
            update("refs/heads/session/work/rescue-1", false, true),
        ];
        assert_eq!(rights.allow_push(&good), Ok(()));
        assert_eq!(rights.allow_push(&[]), Ok(()));
        for bad in [
            update("refs/heads/work", true, false),
            update("refs/heads/trunk", true, true),
            update("refs/heads/work2", false, true),
            update("refs/tags/work", false, true),
            update("refs/heads/session/work/rescue-1", true, true),
            update("refs/heads/session/work/rescue-", false, true),
            update("refs/heads/session/work/rescue-1/x", false, true),
            update("refs/heads/session/other/rescue-1", false, true),
        ] {
            let name = bad.name.clone();
            assert_eq!(rights.allow_push(&[good[0].clone(), bad]), Err(Denied::Ref(name)));
        }
        let reader = Rights::new("team/agent", PushRight::Nothing);
        assert_eq!(reader.allow_push(&[]), Err(Denied::Push));
    }
}
