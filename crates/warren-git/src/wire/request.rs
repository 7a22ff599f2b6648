//! Which repository and which service a request is for.

/// What a client wants of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// To read: `git-upload-pack`.
    Read,
    /// To change refs: `git-receive-pack`.
    Write,
}

impl Service {
    /// The service's name in requests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "git-upload-pack",
            Self::Write => "git-receive-pack",
        }
    }
}

/// Which of the two requests of an exchange it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// `GET .../info/refs?service=...`: which refs there are.
    Refs,
    /// `POST .../git-...-pack`: the exchange of objects.
    Exchange,
}

/// A request of git, as it is understood and as it is sent on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The repository's path, without a slash in front and without `.git` at its end.
    pub repository: String,
    /// Whether the path had `.git` at its end.
    pub suffix: bool,
    /// What is wanted of it.
    pub service: Service,
    /// Which step this is.
    pub step: Step,
}

impl Request {
    /// Reads method, path and query of a request. Everything else that servers of git answer, such as
    /// files of the repository one by one, is refused.
    ///
    /// ```
    /// use warren_git::wire::{Request, Service, Step};
    ///
    /// let request = Request::read("POST", "/team/agent.git/git-receive-pack", None)?;
    /// assert_eq!((request.service, request.step), (Service::Write, Step::Exchange));
    /// assert_eq!(request.repository, "team/agent");
    /// assert!(Request::read("GET", "/team/../other.git/HEAD", None).is_err());
    /// # Ok::<(), warren_git::wire::RequestError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`RequestError`] for anything else.
    pub fn read(method: &str, path: &str, query: Option<&str>) -> Result<Self, RequestError> {
        let path = path.strip_prefix('/').ok_or(RequestError::Path)?;
        let (repository, service, step) = if let Some(it) = path.strip_suffix("/info/refs") {
            let service = match query {
                Some("service=git-upload-pack") => Service::Read,
                Some("service=git-receive-pack") => Service::Write,
                _ => return Err(RequestError::Unknown),
            };
            (it, service, Step::Refs)
        } else {
            let services = [Service::Read, Service::Write];
            let found = services.into_iter().find_map(|service| {
                let it = path.strip_suffix(service.name())?.strip_suffix('/')?;
                Some((it, service, Step::Exchange))
            });
            found.filter(|_| query.is_none_or(str::is_empty)).ok_or(RequestError::Unknown)?
        };
        let expected = if step == Step::Refs { "GET" } else { "POST" };
        if method != expected {
            return Err(RequestError::Unknown);
        }
        let short = repository.strip_suffix(".git");
        let suffix = short.is_some();
        let repository = short.unwrap_or(repository);
        // No escapes: what two could decode in two ways has no place in an address.
        let good = |c: char| c.is_ascii_alphanumeric() || "-_.~+@/".contains(c);
        let odd = |part: &str| part.is_empty() || part == "." || part == "..";
        if !repository.chars().all(good) || repository.split('/').any(odd) {
            return Err(RequestError::Path);
        }
        Ok(Self { repository: repository.to_owned(), suffix, service, step })
    }

    /// The path and query to send on.
    #[must_use]
    pub fn target(&self) -> String {
        let (repository, service) = (&self.repository, self.service.name());
        let suffix = if self.suffix { ".git" } else { "" };
        match self.step {
            Step::Refs => format!("/{repository}{suffix}/info/refs?service={service}"),
            Step::Exchange => format!("/{repository}{suffix}/{service}"),
        }
    }
}

/// A request that is not sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It is none of the four that git makes.
    #[error("git asks for info/refs of a service, and for git-upload-pack and git-receive-pack")]
    Unknown,
    /// The repository's path has what none has.
    #[error(
        "a repository's path has letters, digits and any of - _ . ~ + @ between single slashes"
    )]
    Path,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_requests_of_git_are_read_and_written() {
        let refs = |name: &str| ("GET", "/a/b.git/info/refs", Some(format!("service={name}")));
        let post = |path: &'static str| ("POST", path, None);
        for (method, path, query) in [
            refs("git-upload-pack"),
            refs("git-receive-pack"),
            post("/a/b/git-upload-pack"),
            post("/a/b.git/git-receive-pack"),
        ] {
            let request = Request::read(method, path, query.as_deref()).unwrap();
            assert_eq!(request.repository, "a/b");
            let whole = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
            assert_eq!(request.target(), whole);
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let upload = Some("service=git-upload-pack");
        for (method, path, query) in [
            ("GET", "/a/b/info/refs", None),
            ("GET", "/a/b/info/refs", Some("service=git-upload-pack&service=git-receive-pack")),
            ("HEAD", "/a/b/info/refs", upload),
            ("POST", "/a/b/info/refs", upload),
            ("GET", "/a/b/git-receive-pack", None),
            ("POST", "/a/b/git-receive-pack", Some("x")),
            ("GET", "/a/b/HEAD", None),
            ("GET", "/a/b/objects/info/packs", None),
            ("GET", "a/b/info/refs", upload),
            ("GET", "//a/info/refs", upload),
            ("GET", "/a/../b/info/refs", upload),
            ("GET", "/a/%2e%2e/b/info/refs", upload),
            ("GET", "/a;b/info/refs", upload),
            ("GET", "/info/refs", upload),
            ("GET", "/.git/info/refs", upload),
            ("GET", "/a//info/refs", upload),
            ("POST", "/git-receive-pack", None),
        ] {
            assert!(Request::read(method, path, query).is_err(), "{method} {path} {query:?}");
        }
    }
}
