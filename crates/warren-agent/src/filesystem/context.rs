//! Acting on files as a user.

use std::io;
use std::sync::Arc;

use rustix::io::Errno;
use warren_proto::{Code, Status};
use warren_sys::users::with_files_of;

use super::path;
use crate::daemon::Agent;
use crate::daemon::state::Sandbox;
use crate::users::{self, User};

/// Whose files, and where relative paths start.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) user: User,
    pub(crate) sandbox: Arc<Sandbox>,
    switches_users: bool,
}

impl Context {
    /// Looks the user up. Reads files, so it belongs on a thread that may block.
    ///
    /// # Errors
    ///
    /// `unauthenticated` for an unknown user.
    pub(crate) fn new(
        user: Option<&str>,
        sandbox: Arc<Sandbox>,
        switches_users: bool,
    ) -> Result<Self, Status> {
        let user = users::resolve(user, sandbox.default_user.as_deref())?;
        Ok(Self { user, sandbox, switches_users })
    }

    /// The absolute path that a caller means.
    ///
    /// # Errors
    ///
    /// As [`path::resolve`].
    pub(crate) fn path(&self, path: &str) -> Result<String, Status> {
        path::resolve(path, &self.user, &self.sandbox)
    }

    /// User and group of what is made here.
    pub(crate) fn owner(&self) -> (u32, u32) {
        if self.switches_users {
            (self.user.identity.uid, self.user.identity.gid)
        } else {
            (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
        }
    }

    /// Runs work with the user's rights.
    ///
    /// # Errors
    ///
    /// Those of the work, or `internal` when the rights cannot be taken on.
    pub(crate) fn act<T>(&self, work: impl FnOnce() -> Result<T, Status>) -> Result<T, Status> {
        let is_root = self.user.identity.uid == 0;
        if is_root || !self.switches_users {
            return work();
        }
        with_files_of(&self.user.identity, work)
            .map_err(|it| Status::new(Code::Internal, format!("act as {}: {it}", self.user.name)))?
    }
}

/// Runs work on a thread that may block, with the rights of the request's user.
///
/// # Errors
///
/// Those of the work and of [`Context::new`].
pub(crate) async fn on_thread<T: Send + 'static>(
    agent: &Arc<Agent>,
    user: Option<String>,
    work: impl FnOnce(&Context) -> Result<T, Status> + Send + 'static,
) -> Result<T, Status> {
    let (sandbox, switches_users) = (agent.sandbox(), agent.switches_users);
    agent
        .pool
        .with_files(move || {
            let context = Context::new(user.as_deref(), sandbox, switches_users)?;
            context.act(|| work(&context))
        })
        .await
}

/// The error of a file operation, in the protocol's words.
pub(crate) fn failed(operation: &str, path: &str) -> impl FnOnce(io::Error) -> Status {
    let what = format!("{operation} '{path}'");
    move |error| {
        let code = match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT) => Code::NotFound,
            Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => Code::PermissionDenied,
            Some(Errno::EXIST) => Code::AlreadyExists,
            Some(Errno::NOTDIR | Errno::ISDIR | Errno::INVAL | Errno::NAMETOOLONG) => {
                Code::InvalidArgument
            }
            Some(Errno::LOOP | Errno::NOTEMPTY | Errno::XDEV | Errno::BUSY | Errno::NXIO) => {
                Code::FailedPrecondition
            }
            Some(Errno::NOSPC | Errno::DQUOT | Errno::MFILE | Errno::NFILE) => {
                Code::ResourceExhausted
            }
            _ => Code::Internal,
        };
        Status::new(code, format!("{what}: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_codes_that_clients_act_on() {
        for (errno, code) in [
            (Errno::NOENT, Code::NotFound),
            (Errno::ACCESS, Code::PermissionDenied),
            (Errno::NOTDIR, Code::InvalidArgument),
            (Errno::LOOP, Code::FailedPrecondition),
            (Errno::NOSPC, Code::ResourceExhausted),
            (Errno::IO, Code::Internal),
        ] {
            let status = failed("open", "/x")(errno.into());
            assert_eq!(status.code, code);
            assert!(status.message.starts_with("open '/x': "), "{}", status.message);
        }
    }
}
