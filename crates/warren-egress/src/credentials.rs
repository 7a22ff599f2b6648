//! What is done to requests for some hosts: headers set, placeholders replaced, limits.
//!
//! The values are here in clear, and only in memory. Nothing here prints them.

use std::{fmt, sync::Arc};

use http::{HeaderName, HeaderValue, Method};
use zeroize::Zeroizing;

use crate::{authority::Authority, mask::Masks, name::HostName};

/// A value that no output shows. Its memory is overwritten when it goes.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Keeps a value.
    #[must_use]
    pub fn new(value: Vec<u8>) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The value.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Which hosts a rule is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// This one.
    Name(HostName),
    /// Every one below this: `*.example.org` is not `example.org`.
    Below(HostName),
}

impl HostPattern {
    /// Reads a name, or one behind `*.`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("*.") {
            Some(rest) => HostName::parse(rest).map(Self::Below),
            None => HostName::parse(text).map(Self::Name),
        }
    }

    /// How well this fits a name: the longer, the better. `None` where it does not.
    fn fits(&self, name: &HostName) -> Option<usize> {
        match self {
            Self::Name(this) => (this == name).then_some(usize::MAX),
            Self::Below(this) => {
                let rest = name.as_str().strip_suffix(this.as_str())?;
                rest.ends_with('.').then(|| this.as_str().len())
            }
        }
    }
}

/// Where placeholders are replaced besides headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// In the query of the target; the value is encoded for it.
    pub query: bool,
    /// In bodies that are not compressed; the value is put there as it is.
    pub body: bool,
}

/// A text that stands for a secret in what the sandbox sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placeholder {
    /// The text: `{{secret:NAME}}`.
    pub text: String,
    /// What it stands for.
    pub value: Secret,
}

/// What is done to requests for a host.
#[derive(Clone, Debug)]
pub struct HostRule {
    /// Which hosts.
    pub host: HostPattern,
    /// Headers that requests have then, in place of what the sandbox sends by these names. A value
    /// is a header's, secrets included.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What is replaced.
    pub placeholders: Vec<Placeholder>,
    /// Where besides headers.
    pub places: Places,
    /// The methods that pass; all where none is named.
    pub methods: Vec<Method>,
    /// The paths that pass, as patterns in which `*` is a part of one segment and `**` any number
    /// of them; all where none is named.
    pub paths: Vec<String>,
    /// Whether secrets are sent without TLS too.
    pub plain: bool,
    /// What is hidden in responses.
    pub masks: Arc<Masks>,
}

/// What a sandbox's requests are given on their way.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Who signs for the hosts of the rules.
    pub authority: Arc<Authority>,
    /// For which hosts what is done.
    pub rules: Vec<HostRule>,
}

impl Credentials {
    /// The rule for a host: that of its own name, else that of the longest name above it.
    #[must_use]
    pub fn rule(&self, name: &HostName) -> Option<&HostRule> {
        let fits = self.rules.iter().filter_map(|rule| Some((rule.host.fits(name)?, rule)));
        // The first of several that fit equally well.
        fits.rev().max_by_key(|(fit, _)| *fit).map(|(_, rule)| rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_name_or_what_is_below_it() {
        let name = |text| HostName::parse(text).unwrap();
        let below = HostPattern::parse("*.example.org").unwrap();
        assert!(below.fits(&name("a.b.example.org")).is_some());
        assert!(below.fits(&name("example.org")).is_none());
        assert!(below.fits(&name("badexample.org")).is_none());
        let exact = HostPattern::parse("a.example.org").unwrap();
        assert!(exact.fits(&name("A.example.org")) > below.fits(&name("a.example.org")));
        for bad in ["*", "*.", "a.*.b", "**.a", "10.0.0.1", "*.10.0.0.1"] {
            assert_eq!(HostPattern::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn no_output_shows_a_secret() {
        let placeholder = Placeholder {
            text: "{{secret:A}}".to_owned(),
            value: Secret::new(b"hunter2".to_vec()),
        };
        assert!(!format!("{placeholder:?}").contains("hunter2"));
    }
}
