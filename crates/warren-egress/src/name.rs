//! Names of hosts, in the one form in which they are compared.

use std::{fmt, net::IpAddr, sync::Arc};

/// The longest name, in bytes, without the last dot (RFC 1035).
const LONGEST: usize = 253;
/// The longest part between two dots.
const LONGEST_LABEL: usize = 63;

/// The name of a host: lower case, ASCII, no dot at the end, never an address.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(Arc<str>);

impl HostName {
    /// Reads a name. `None` for what is none: an address, an empty part, other characters than
    /// letters, digits, `-` and `_`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() || text.len() > LONGEST || text.parse::<IpAddr>().is_ok() {
            return None;
        }
        let fits = |label: &str| {
            !label.is_empty()
                && label.len() <= LONGEST_LABEL
                && label.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_'))
        };
        // A last part of digits alone is an address to many programs: `127.1`, `2130706433`.
        let last = text.rsplit('.').next().unwrap_or_default();
        if !text.split('.').all(fits) || is_number(last) {
            return None;
        }
        Some(Self(text.to_ascii_lowercase().into()))
    }

    /// The name, without a dot at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a part of a name is read as a number by programs that take `0x7f.1` for an address.
fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    match hex {
        Some(digits) => digits.bytes().all(|it| it.is_ascii_hexdigit()),
        None => label.bytes().all(|it| it.is_ascii_digit()),
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_in_one_form() {
        let name = HostName::parse("API.Example.ORG.").unwrap();
        assert_eq!(name.as_str(), "api.example.org");
        assert_eq!(HostName::parse("_x.a-b"), HostName::parse("_X.a-b."));
    }

    #[test]
    fn what_is_no_name_is_none() {
        let long = "a.".repeat(127) + "aa";
        for text in ["", ".", "a..b", "10.0.0.1", "::1", "127.1", "0x7f", "a b", "é.org", &long] {
            assert_eq!(HostName::parse(text), None, "{text}");
        }
        assert_eq!(HostName::parse(&"a".repeat(64)), None);
    }
}
