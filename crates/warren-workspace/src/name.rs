//! What agents and profiles are called.

use std::{fmt, str::FromStr};

/// The name of an agent: ASCII letters, digits and `-`, with a letter or digit first, as it was
/// typed (case counts).
///
/// It is part of file names, so it has no dot, no slash and at most [`AgentName::MOST_BYTES`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentName(String);

/// Why a text names no agent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("the name of an agent is empty")]
    Empty,
    /// It has other characters, or begins with a hyphen.
    #[error(
        "invalid agent name '{0}': must be alphanumeric with hyphens, no leading hyphen, such as \
         `review-2`"
    )]
    Characters(String),
    /// It would be too long for the names of its files.
    #[error("the name of an agent has {0} bytes, at most {most} fit", most = AgentName::MOST_BYTES)]
    Length(usize),
}

impl AgentName {
    /// How long a name may be, so that `NAME.log.partial` is a file name.
    pub const MOST_BYTES: usize = 200;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names of a swarm: `base-1` to `base-count`.
    ///
    /// # Errors
    ///
    /// [`NameError`] where `base` names no agent, or the last name is too long.
    pub fn swarm(base: &str, count: u32) -> Result<Vec<Self>, NameError> {
        let base: Self = base.parse()?;
        (1..=count).map(|number| format!("{base}-{number}").parse()).collect()
    }
}

impl FromStr for AgentName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let first = text.bytes().next().ok_or(NameError::Empty)?;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if !first.is_ascii_alphanumeric() || !text.bytes().all(allowed) {
            return Err(NameError::Characters(crate::text::shown(text)));
        }
        if text.len() > Self::MOST_BYTES {
            return Err(NameError::Length(text.len()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

/// The name of a profile: as that of an agent, with `_` allowed after the first character.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProfileName(String);

/// Why a text names no profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid profile name '{0}': must be letters, digits, `-` and `_`, at most 100")]
pub struct ProfileNameError(String);

impl ProfileName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ProfileName {
    type Err = ProfileNameError;

    fn from_str(text: &str) -> Result<Self, ProfileNameError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let first = text.bytes().next().is_some_and(|it| it.is_ascii_alphanumeric());
        if !first || !text.bytes().all(allowed) || text.len() > 100 {
            return Err(ProfileNameError(crate::text::shown(text)));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ProfileName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_letters_digits_and_hyphens() {
        for good in ["a", "7", "c1", "Review-2", "a--b-", "grid", &"x".repeat(200)] {
            assert_eq!(good.parse::<AgentName>().unwrap().as_str(), good);
        }
        assert_eq!("".parse::<AgentName>(), Err(NameError::Empty));
        for bad in ["-a", ".", "..", "a.b", "a_b", "a/b", "../x", "a b", "ä", "a\n", "a\0", "$(x)"]
        {
            assert!(matches!(bad.parse::<AgentName>(), Err(NameError::Characters(_))), "{bad}");
        }
        assert_eq!("x".repeat(201).parse::<AgentName>(), Err(NameError::Length(201)));
    }

    #[test]
    fn a_refusal_shows_no_escape_codes() {
        let error = "\x1b]0;title\x07".parse::<AgentName>().unwrap_err().to_string();
        assert!(!error.contains('\x1b') && !error.contains('\x07'), "{error}");
    }

    #[test]
    fn profiles_may_have_underscores() {
        for good in ["claude-code", "my_profile", "7"] {
            assert_eq!(good.parse::<ProfileName>().unwrap().as_str(), good);
        }
        for bad in ["", "_a", "-a", "../x", "a.b", "a/b", &"x".repeat(101)] {
            assert!(bad.parse::<ProfileName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_swarm_counts_from_one() {
        let names = AgentName::swarm("w", 3).unwrap();
        assert_eq!(names.iter().map(AgentName::as_str).collect::<Vec<_>>(), ["w-1", "w-2", "w-3"]);
        assert!(AgentName::swarm("-w", 1).is_err());
        assert!(AgentName::swarm(&"x".repeat(199), 10).is_err());
    }
}
