//! Names of branches, and where repositories are.

use std::fmt;

/// Bytes that a name of a branch may have; with `refs/heads/` and `.lock` it fits into every file
/// system's names, part by part.
const LONGEST: usize = 200;

/// A name that git takes for a branch.
///
/// The rules are those of `git check-ref-format --branch`, without its abbreviations such as `@{-1}`.
///
/// ```
/// use warren_git::BranchName;
///
/// assert!(BranchName::parse("feature/login").is_ok());
/// for wrong in ["", "-f", "a..b", "a b", "HEAD", "x.lock", "/a", "a//b", "a/.b", "@", "$(id)~"] {
///     assert!(BranchName::parse(wrong).is_err(), "{wrong}");
/// }
/// ```
///
/// # Source
///
/// `git-check-ref-format(1)`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BranchName(String);

impl BranchName {
    /// Reads a name.
    ///
    /// # Errors
    ///
    /// [`NameError`] with the rule that the name breaks.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let wrong = |rule| Err(NameError { name: text.chars().take(80).collect(), rule });
        if text.is_empty() || text.len() > LONGEST {
            return wrong("has from 1 to 200 bytes");
        }
        if text.starts_with('-') || text == "HEAD" || text == "@" {
            return wrong("does not begin with a dash, and is neither HEAD nor @");
        }
        let forbidden = |c: char| c.is_ascii_control() || " ~^:?*[\\".contains(c);
        if text.contains(forbidden) {
            return wrong("has no space, control character or any of ~ ^ : ? * [ \\");
        }
        if text.contains("..") || text.contains("@{") || text.ends_with('.') {
            return wrong("has no two dots in a row, no @{, and no dot at its end");
        }
        let part = |part: &str| part.is_empty() || part.starts_with('.') || part.ends_with(".lock");
        if text.split('/').any(part) {
            return wrong(
                "has parts between slashes that neither begin with a dot nor end in .lock",
            );
        }
        Ok(Self(text.to_owned()))
    }

    /// Reads the name of a session.
    ///
    /// # Errors
    ///
    /// Also for `session` and what begins with `session/`: there the rescue branches are.
    pub fn session(text: &str) -> Result<Self, NameError> {
        if text == "session" || text.starts_with("session/") {
            let rule = "is not in session/, where the rescue branches are";
            return Err(NameError { name: text.to_owned(), rule });
        }
        Self::parse(text)
    }

    /// The name as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the ref: `refs/heads/...`.
    #[must_use]
    pub fn full(&self) -> String {
        format!("refs/heads/{}", self.0)
    }

    /// The ref that remembers where the remote's branch was: `refs/remotes/origin/...`.
    pub(crate) fn tracking(&self) -> String {
        format!("refs/remotes/origin/{}", self.0)
    }

    /// The branch that takes work which this branch could not: `session/NAME/rescue-N`.
    #[must_use]
    pub fn rescue(&self, number: u32) -> Self {
        Self(format!("session/{}/rescue-{number}", self.0))
    }
}

impl fmt::Display for BranchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name that git does not take for a branch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} names no branch: a name {rule}")]
pub struct NameError {
    name: String,
    rule: &'static str,
}

/// Where a repository is: an address of `https`, `http` or `file`.
///
/// ```
/// use warren_git::Repository;
///
/// let repository = Repository::parse("https://Git.example/team/agent.git")?;
/// assert_eq!(repository.url(), "https://git.example/team/agent.git");
/// assert!(Repository::parse("https://token@git.example/a.git").is_err());
/// assert!(Repository::parse("ext::sh -c id").is_err());
/// # Ok::<(), warren_git::RepositoryError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    scheme: &'static str,
    /// Host and port; empty for a file.
    authority: String,
    path: String,
}

impl Repository {
    /// Reads an address.
    ///
    /// # Errors
    ///
    /// [`RepositoryError`] for another scheme, a user or token in the address, and for characters
    /// that have no place in one.
    pub fn parse(text: &str) -> Result<Self, RepositoryError> {
        let split = ["https", "http", "file"].into_iter().find_map(|scheme| {
            let rest = text.strip_prefix(scheme)?.strip_prefix("://")?;
            Some((scheme, rest))
        });
        let (scheme, rest) = split.ok_or(RepositoryError::Scheme)?;
        let (authority, path) = rest.split_once('/').ok_or(RepositoryError::Path)?;
        // Before anything is said about the rest, which might then show it.
        if authority.contains('@') {
            return Err(RepositoryError::Credential);
        }
        let odd = |c: char| c.is_whitespace() || c.is_control() || "\"'\\?#`<>".contains(c);
        if path.is_empty() || text.contains(odd) {
            return Err(RepositoryError::Path);
        }
        let host = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
        if (scheme == "file") != authority.is_empty() || !authority.chars().all(host) {
            return Err(RepositoryError::Host);
        }
        Ok(Self { scheme, authority: authority.to_ascii_lowercase(), path: path.to_owned() })
    }

    /// The address, without any secret: addresses with one are refused.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}/{}", self.origin(), self.path)
    }

    /// Scheme, host and port: what a credential belongs to.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}://{}", self.scheme, self.authority)
    }

    /// The scheme: `https`, `http` or `file`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        self.scheme
    }

    /// Host and port, as they were given; empty for a file.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The path, without a slash in front.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether what is sent there can be read on the way.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let host = match self.authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => host,
            _ => self.authority.as_str(),
        };
        let here = host == "localhost" || host == "[::1]" || is_loopback(host);
        self.scheme == "http" && !here
    }
}

fn is_loopback(host: &str) -> bool {
    host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url())
    }
}

/// An address that is none of a repository. It is not shown: it might hold a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RepositoryError {
    /// Another scheme, or none.
    #[error("a repository's address begins with https://, http:// or file://")]
    Scheme,
    /// There is no path, or one with odd characters.
    #[error("a repository's address has a path after the host, without spaces, quotes, ? and #")]
    Path,
    /// The host is none.
    #[error("a repository's address has a host, which only file:// is without")]
    Host,
    /// There is a user or a token in it.
    #[error("a repository's address holds no user, password or token: give the token by itself")]
    Credential,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_is_named_as_git_allows() {
        for good in ["main", "a/b", "über", "v1.2", "a@b", "a-", "lock", "(x)", "$(id)", "a;b"] {
            assert_eq!(BranchName::parse(good).unwrap().as_str(), good);
        }
        for bad in ["a/", "a/./b", "a.lock/b", "a@{1}", "a\nb", "a\u{7f}", "a?", "a*", "[", "x."] {
            assert!(BranchName::parse(bad).is_err(), "{bad:?}");
        }
        assert!(BranchName::parse(&"x".repeat(201)).is_err());
    }

    #[test]
    fn no_session_is_where_rescues_are() {
        assert!(BranchName::session("session").is_err());
        assert!(BranchName::session("session/a").is_err());
        assert_eq!(BranchName::session("sessions/a").unwrap().rescue(2).full().len(), 38);
    }

    #[test]
    fn addresses_hold_no_secret_and_lead_to_no_program() {
        for bad in ["git@host:a.git", "ssh://host/a", "--upload-pack=id", "/a", "https:///a", "a"] {
            assert!(Repository::parse(bad).is_err(), "{bad}");
        }
        for bad in
            ["https://host", "https://host/", "https://host/a b", "https://h/a?x", "file://h/a"]
        {
            assert!(Repository::parse(bad).is_err(), "{bad}");
        }
        let error = Repository::parse("https://s3cret@host/a.git").unwrap_err();
        assert_eq!(error, RepositoryError::Credential);
        assert!(!format!("{error:?} {error}").contains("s3cret"));
    }

    #[test]
    fn a_token_goes_over_an_open_wire_on_loopback_alone() {
        let open = |text: &str| Repository::parse(text).unwrap().is_open();
        assert!(open("http://git.example/a"));
        assert!(open("http://127.0.0.1.example:80/a"));
        assert!(!open("https://git.example/a"));
        assert!(!open("http://127.0.0.1:8080/a"));
        assert!(!open("http://[::1]:8080/a"));
        assert!(!open("http://[::1]/a"));
        assert!(!open("http://localhost/a"));
    }
}
