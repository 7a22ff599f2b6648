//! Names of images: `python:3.12`, `ghcr.io/owner/image@sha256:..`, `localhost:5000/x`.

use std::{fmt, str::FromStr};

use super::Digest;

/// The registry that a name without one means.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// The tag that a name without one means.
const DEFAULT_TAG: &str = "latest";
/// The longest name, in bytes.
const MOST_BYTES: usize = 512;

/// The name of an image, completed: registry, repository, and a tag or a digest.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: Box<str>,
    repository: Box<str>,
    version: Version,
}

/// Which of a repository's images.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// What the tag means today.
    Tag(Box<str>),
    /// Exactly this one.
    Digest(Digest),
}

/// What is wrong with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}; expected a name such as `python:3.12` or `registry.example/team/image@sha256:..`")]
pub struct InvalidReference(&'static str);

impl Reference {
    /// Host and perhaps port of the registry, as people write it: `docker.io` is its own name.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path in the registry, such as `library/python`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Which of the repository's images.
    #[must_use]
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// The digest, where the name says one.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        match self.version {
            Version::Digest(digest) => Some(digest),
            Version::Tag(_) => None,
        }
    }

    /// The part behind the repository as registries want it: a tag or a digest.
    #[must_use]
    pub fn version_text(&self) -> String {
        match &self.version {
            Version::Tag(tag) => tag.to_string(),
            Version::Digest(digest) => digest.to_string(),
        }
    }

    /// The same repository's image of this digest.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { version: Version::Digest(digest), ..self.clone() }
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    /// Reads a name as Docker does: what stands before the first `/` is a registry where it has a
    /// dot or a colon or is `localhost`. A tag beside a digest is ignored, for the digest decides.
    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        if text.is_empty() || text.len() > MOST_BYTES {
            return Err(InvalidReference("an image's name has 1 to 512 bytes"));
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => {
                let wrong = |_| InvalidReference("what follows `@` is no digest");
                (name, Some(digest.parse::<Digest>().map_err(wrong)?))
            }
            None => (text, None),
        };
        let (registry, rest) = match name.split_once('/') {
            Some((first, rest)) if is_registry(first) => (first, rest),
            _ => (DEFAULT_REGISTRY, name),
        };
        let (repository, tag) = match rest.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (rest, None),
        };
        let registry = check_registry(registry)?;
        check_repository(repository)?;
        if let Some(tag) = tag {
            check_tag(tag)?;
        }
        let repository = match repository.contains('/') || registry != DEFAULT_REGISTRY {
            true => repository.into(),
            false => format!("library/{repository}").into(),
        };
        let version = match digest {
            Some(digest) => Version::Digest(digest),
            None => Version::Tag(tag.unwrap_or(DEFAULT_TAG).into()),
        };
        Ok(Self { registry: registry.into(), repository, version })
    }
}

fn is_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost"
}

fn check_registry(registry: &str) -> Result<&str, InvalidReference> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    let host = registry.strip_prefix('[').unwrap_or(registry);
    if !host.starts_with(|it: char| it.is_ascii_alphanumeric() || it == ':')
        || !registry.bytes().all(good)
    {
        return Err(InvalidReference("a registry is a host name, perhaps with a port"));
    }
    Ok(match registry {
        "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY,
        registry => registry,
    })
}

fn check_repository(repository: &str) -> Result<(), InvalidReference> {
    let part = |part: &str| {
        let edge = |byte: Option<u8>| byte.is_some_and(|it| it.is_ascii_alphanumeric());
        let good =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
        edge(part.bytes().next()) && edge(part.bytes().last()) && part.bytes().all(good)
    };
    match repository.split('/').all(part) {
        true => Ok(()),
        false => Err(InvalidReference("a repository has parts of small letters, digits and `._-`")),
    }
}

fn check_tag(tag: &str) -> Result<(), InvalidReference> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let first = tag.bytes().next().is_some_and(|it| it.is_ascii_alphanumeric() || it == b'_');
    match first && tag.len() <= 128 && tag.bytes().all(good) {
        true => Ok(()),
        false => Err(InvalidReference("a tag has 1 to 128 letters, digits and `._-`")),
    }
}

impl fmt::Display for Reference {
    /// The name as people write it: without what goes without saying in the default registry.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.registry() {
            DEFAULT_REGISTRY => {
                let repository = self.repository();
                f.write_str(repository.strip_prefix("library/").unwrap_or(repository))?;
            }
            registry => write!(f, "{registry}/{}", self.repository())?,
        }
        match &self.version {
            Version::Tag(tag) => write!(f, ":{tag}"),
            Version::Digest(digest) => write!(f, "@{digest}"),
        }
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_as_docker_does() {
        let digest = Digest::of(b"");
        for (text, registry, repository, shown) in [
            ("python", "docker.io", "library/python", "python:latest"),
            ("python:3.12", "docker.io", "library/python", "python:3.12"),
            ("docker.io/library/python:3.12", "docker.io", "library/python", "python:3.12"),
            ("index.docker.io/a/b", "docker.io", "a/b", "a/b:latest"),
            ("ghcr.io/a/b/c:v1", "ghcr.io", "a/b/c", "ghcr.io/a/b/c:v1"),
            ("localhost/x", "localhost", "x", "localhost/x:latest"),
            ("127.0.0.1:5000/x:y", "127.0.0.1:5000", "x", "127.0.0.1:5000/x:y"),
            ("[::1]:5000/x", "[::1]:5000", "x", "[::1]:5000/x:latest"),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!((reference.registry(), reference.repository()), (registry, repository));
            assert_eq!(reference.to_string(), shown);
            assert_eq!(shown.parse(), Ok(reference));
        }
        let exact: Reference = format!("python:3.12@{digest}").parse().unwrap();
        assert_eq!(exact.digest(), Some(digest));
        assert_eq!(exact.to_string(), format!("python@{digest}"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for wrong in [
            "",
            "UPPER",
            "a//b",
            "../x",
            "a:",
            "a:b c",
            "a@sha256:1",
            "-a",
            "a.b:c/d:e f",
            "ex ample.com/a",
            "a/../b",
            "host.example/",
            "a/b:t/c",
            "x\n",
        ] {
            assert!(wrong.parse::<Reference>().is_err(), "{wrong}");
        }
    }
}
