//! How commands inside a machine may speak with the remote.
//!
//! The seam is [`Access`]: before every command that speaks with the remote it is asked for a
//! [`Grant`]. What it gives is for that one command.
//!
//! | way | the token inside the machine |
//! |---|---|
//! | [`Anonymous`] | there is none |
//! | [`Rewritten`] | there is none: a broker outside is what git speaks with, and the broker adds it |
//! | [`Token`], or an [`Access`] of one's own that gives short-lived ones | in a pipe, while one command runs |
//!
//! A token that goes into the machine is in no argument, environment variable, file, configuration
//! or address there. It is written to the standard input of the command, moved to descriptor 3, and
//! read from there by a credential helper that exists for this command alone, which answers for the
//! repository's own scheme, host and port and for nothing else. Helpers of the machine's
//! configuration are not asked, so none of them can keep it.
//!
//! What runs inside as the same user, at the same time, and reads the memory or the descriptors of
//! git can still take it, and so can a git that somebody has exchanged. Who cannot trust what runs
//! inside uses a broker, or tokens that are short-lived and good for one repository.
//! `docs/adr/0030-git-sessions.md` has the reasons.

use std::fmt;

use async_trait::async_trait;
use zeroize::Zeroizing;

use crate::name::Repository;

/// How often one command may ask for its credential: once for itself, and once for each submodule
/// and each batch of large files.
const ASKED_AT_MOST: usize = 64;

/// The program that moves its standard input to descriptor 3 before git runs, in words of `sh`.
pub(crate) const WITH_PIPE: [&str; 4] =
    ["/bin/sh", "-c", "exec 3<&0 0</dev/null; exec \"$@\"", "sh"];

/// The helper that git asks. It reads what git wants, compares it with what it may answer for, and
/// takes two lines from the pipe. `read` takes single bytes of a pipe, so the next helper finds the
/// next two lines.
pub(crate) const HELPER: &str = concat!(
    "!f() { [ \"$1\" = get ] || return 0; p=; h=; ",
    "while IFS= read -r l && [ -n \"$l\" ]; do case \"$l\" in ",
    "protocol=*) p=${l#protocol=};; host=*) h=${l#host=};; esac; done; ",
    "[ \"$p://$h\" = \"$WARREN_GIT_ORIGIN\" ] || return 0; ",
    "IFS= read -r u <&3 && IFS= read -r s <&3 && printf 'username=%s\\npassword=%s\\n' \"$u\" \"$s\"; ",
    "}; f"
);

/// The variable that tells the helper for which scheme, host and port it may answer.
pub(crate) const ORIGIN_VARIABLE: &str = "WARREN_GIT_ORIGIN";

/// Who may speak with a remote, and how.
#[async_trait]
pub trait Access: Send + Sync + 'static {
    /// What one command gets that does this. It is asked for anew before every command.
    ///
    /// # Errors
    ///
    /// [`AccessError`] where nothing can be given; the command is not run then.
    async fn grant(&self, wanted: &Wanted<'_>) -> Result<Grant, AccessError>;
}

/// What a command wants to do.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Wanted<'a> {
    /// With which repository.
    pub repository: &'a Repository,
    /// Reading, or writing.
    pub right: Right,
}

/// What is done with a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// It is fetched from.
    Read,
    /// It is pushed to.
    Write,
}

/// What one command gets.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Grant {
    /// Nothing: the remote asks for nothing, or somebody outside answers for the machine.
    Nothing,
    /// Settings of git for this command, which everybody inside can see, such as
    /// `url.http://10.0.0.1:8418/.insteadOf`.
    Settings(Vec<(String, String)>),
    /// A name and a token, through the pipe.
    Credential(Credential),
}

/// A name and a token or password.
#[derive(Clone)]
pub struct Credential {
    user: String,
    secret: Zeroizing<String>,
}

impl Credential {
    /// Takes both. Hosts that take tokens look at no name; `x-access-token` suits most.
    ///
    /// # Errors
    ///
    /// [`AccessError::Form`] for an empty secret, and for line breaks and NUL in either.
    pub fn new(user: impl Into<String>, secret: impl Into<String>) -> Result<Self, AccessError> {
        let (user, secret) = (user.into(), Zeroizing::new(secret.into()));
        let odd = |text: &str| text.contains(['\n', '\r', '\0']);
        if secret.is_empty() || odd(&user) || odd(&secret) || user.len() + secret.len() > 900 {
            return Err(AccessError::Form);
        }
        Ok(Self { user, secret })
    }

    /// What is written to the pipe: the same two lines for everyone who asks. All of it fits into a
    /// pipe, so that nobody waits for a command that does not read it.
    pub(crate) fn lines(&self) -> Vec<u8> {
        let both = Zeroizing::new(format!("{}\n{}\n", self.user, self.secret.as_str()));
        both.as_bytes().repeat(ASKED_AT_MOST)
    }

    /// The text without the secret.
    pub(crate) fn masked(&self, text: &str) -> String {
        text.replace(self.secret.as_str(), "***")
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("user", &self.user).finish_non_exhaustive()
    }
}

/// A remote that asks nobody for a credential.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anonymous;

#[async_trait]
impl Access for Anonymous {
    async fn grant(&self, _wanted: &Wanted<'_>) -> Result<Grant, AccessError> {
        Ok(Grant::Nothing)
    }
}

/// One credential for everything.
#[derive(Clone, Debug)]
pub struct Token(Credential);

impl Token {
    /// A token, under the name that hosts take tokens under.
    ///
    /// # Errors
    ///
    /// [`AccessError::Form`], as [`Credential::new`].
    pub fn new(token: impl Into<String>) -> Result<Self, AccessError> {
        Ok(Self(Credential::new("x-access-token", token)?))
    }

    /// A name and a password, or a token of a host that looks at the name.
    #[must_use]
    pub fn of(credential: Credential) -> Self {
        Self(credential)
    }
}

#[async_trait]
impl Access for Token {
    async fn grant(&self, wanted: &Wanted<'_>) -> Result<Grant, AccessError> {
        if wanted.repository.is_open() {
            return Err(AccessError::OpenWire);
        }
        Ok(Grant::Credential(self.0.clone()))
    }
}

/// A broker outside the machine that git speaks with in the place of the remote. It knows who calls
/// by where the call comes from, adds the credential and limits what is done with it.
#[derive(Clone, Debug)]
pub struct Rewritten {
    base: String,
}

impl Rewritten {
    /// What stands in the place of the repository's scheme, host and port, with a slash at its end:
    /// `http://10.0.0.1:8418/git.example/`.
    #[must_use]
    pub fn new(base: impl Into<String>) -> Self {
        Self { base: base.into() }
    }
}

#[async_trait]
impl Access for Rewritten {
    async fn grant(&self, wanted: &Wanted<'_>) -> Result<Grant, AccessError> {
        let original = format!("{}/", wanted.repository.origin());
        Ok(Grant::Settings(vec![(format!("url.{}.insteadOf", self.base), original)]))
    }
}

/// Why nothing could be given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// The credential is none.
    #[error("a credential has at most 900 bytes, no line break, and a secret that is not empty")]
    Form,
    /// Anybody on the way could read it.
    #[error("a token is sent to https:// only, or to http:// on this machine")]
    OpenWire,
    /// Whoever makes credentials failed.
    #[error("get a credential for the repository")]
    Source(#[source] Box<dyn std::error::Error + Send + Sync>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_never_shown() {
        let credential = Credential::new("someone", "s3cret").unwrap();
        assert!(!format!("{credential:?} {:?}", Token::of(credential.clone())).contains("s3cret"));
        assert_eq!(credential.masked("fatal: s3cret is wrong"), "fatal: *** is wrong");
    }

    #[test]
    fn a_credential_is_two_lines_and_fits_into_a_pipe() {
        let credential = Credential::new("u".repeat(400), "s".repeat(500)).unwrap();
        assert!(credential.lines().len() <= 60 * 1024);
        for (user, secret) in [("a\nb", "c"), ("a", "b\r"), ("a", ""), ("a", "\0")] {
            assert!(matches!(Credential::new(user, secret), Err(AccessError::Form)));
        }
    }

    #[tokio::test]
    async fn a_token_does_not_travel_in_the_open() {
        let token = Token::new("s3cret").unwrap();
        let open = Repository::parse("http://git.example/a").unwrap();
        let wanted = Wanted { repository: &open, right: Right::Read };
        assert!(matches!(token.grant(&wanted).await, Err(AccessError::OpenWire)));
    }
}
