//! What goes wrong on the command line: a kind, a sentence with its causes, and hints.

use std::error::Error;

use warren_api::{Code, client::ClientError};

use crate::remote;

/// A failed command.
#[derive(Debug)]
pub(crate) struct CliError {
    /// Chooses the exit status.
    pub(crate) kind: Kind,
    /// What happened; printed with its whole chain of sources.
    pub(crate) source: Box<dyn Error + Send + Sync>,
    /// What the person can do about it.
    pub(crate) hints: Vec<String>,
}

/// What kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The command line or a setting is wrong.
    Usage,
    /// The server refused.
    Refused(Code),
    /// There is no server and none could be started, or it went away.
    Unreachable,
    /// Something on this machine failed.
    Local,
    /// Nobody reads our output any more.
    BrokenPipe,
    /// A signal of this number asked us to end.
    Interrupted(i32),
}

impl Kind {
    /// The exit status of this process.
    pub(crate) fn status(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Refused(_) | Self::Unreachable | Self::Local => 1,
            Self::BrokenPipe => 128 + 13,
            Self::Interrupted(signal) => 128 + u8::try_from(signal).unwrap_or(0),
        }
    }

    /// The name for machines.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Usage => "invalid_argument",
            Self::Refused(code) => code.as_str(),
            Self::Unreachable => "unavailable",
            Self::Local => "internal",
            Self::BrokenPipe => "broken_pipe",
            Self::Interrupted(_) => "canceled",
        }
    }
}

impl CliError {
    pub(crate) fn new(kind: Kind, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind, source: source.into(), hints: Vec::new() }
    }

    pub(crate) fn usage(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(Kind::Usage, source)
    }

    /// Names the step that failed; for `map_err`.
    pub(crate) fn local<E>(step: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        move |source| Self::new(Kind::Local, StepFailed { step, source: source.into() })
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    pub(crate) fn hints(self, hints: Vec<String>) -> Self {
        hints.into_iter().fold(self, Self::hint)
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        let kind = match &error {
            ClientError::Refused(body) => Kind::Refused(body.code),
            ClientError::Connect { .. } | ClientError::Transport { .. } => Kind::Unreachable,
            ClientError::Encode { .. } | ClientError::Decode { .. } => Kind::Local,
        };
        let hint = match &error {
            ClientError::Refused(body) => hint(body.code, &body.message),
            error => remote::hint(error),
        };
        Self { hints: hint.into_iter().map(str::to_owned).collect(), ..Self::new(kind, error) }
    }
}

/// What helps against a refusal, where we know.
fn hint(code: Code, message: &str) -> Option<&'static str> {
    match code {
        Code::NotFound if message.contains("no sandbox") => {
            Some("`warren list` shows the sandboxes there are")
        }
        Code::NotFound if message.contains("no volume") => {
            Some("`warren volume list` shows the volumes there are")
        }
        Code::NotFound if message.contains("no command") => {
            Some("`warren ps SANDBOX` shows the commands there are")
        }
        Code::FailedPrecondition if message.contains(" is paused") => {
            Some("`warren resume` lets it go on")
        }
        Code::Unauthenticated if message.contains("this socket") => Some(
            "run it as that user, such as by `sudo -u USER`; without --server each user has one of their own",
        ),
        Code::Unauthenticated => {
            Some("WARREN_API_KEY holds the key; `warren key create` makes one")
        }
        Code::ResourceExhausted if message.contains("disk space") => {
            Some("remove sandboxes or files, or make room: `warren doctor` says how much there is")
        }
        Code::AlreadyExists => Some("another --name, or `warren rm` on the one that has it"),
        _ => None,
    }
}

impl From<crate::config::ConfigError> for CliError {
    fn from(error: crate::config::ConfigError) -> Self {
        Self::usage(error).hint("docs/configuration.md has every setting")
    }
}

/// A step of ours that failed for a reason of the system's.
#[derive(Debug, thiserror::Error)]
#[error("could not {step}")]
struct StepFailed {
    step: &'static str,
    #[source]
    source: Box<dyn Error + Send + Sync>,
}
