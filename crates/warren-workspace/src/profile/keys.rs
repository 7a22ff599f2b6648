//! Which keys enter an agent's sandbox, and which stay outside of it.
//!
//! Only variables that the profile names enter. A key that requests to one host carry in one header
//! need not enter at all: the header is set outside, and inside there is a text that opens nothing.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::{Profile, check_host};

/// What stands inside for a key that is outside. Programs only look whether there is one.
pub const STAND_IN: &str = "kept-outside-of-the-sandbox";

/// The keys of one agent.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// Variables of the agent's environment.
    pub inside: BTreeMap<String, String>,
    /// Headers that requests are given outside.
    pub outside: Vec<Header>,
}

/// A header of all requests to one host, over TLS.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    /// The host.
    pub host: String,
    /// The name of the header.
    pub name: String,
    /// Its value, with the key in it.
    pub value: Zeroizing<String>,
}

/// Names, and no values.
impl std::fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.inside.keys().collect();
        formatter
            .debug_struct("Keys")
            .field("inside", &names)
            .field("outside", &self.outside)
            .finish()
    }
}

/// The host and the name, and no value.
impl std::fmt::Debug for Header {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {}", self.host, self.name)
    }
}

impl Profile {
    /// Divides the variables that the profile names and that `set` has a value for. Keys stay
    /// outside where they can, unless they are wanted `all_inside`.
    ///
    /// Where a program is sent to a host of the person's own, that host's requests get the key, if
    /// they can be given it; else the key enters.
    pub fn keys(&self, set: impl Fn(&str) -> Option<String>, all_inside: bool) -> Keys {
        let mut keys = Keys::default();
        for name in &self.env {
            let Some(mut value) = set(name).filter(|it| !it.is_empty()) else { continue };
            let credential = self.credentials.iter().find(|it| it.env == *name && !all_inside);
            if let Some(credential) = credential
                && let Some(host) = credential.host_of(&set)
                && value.bytes().all(|it| it.is_ascii_graphic())
            {
                let header = credential.value.replace("{}", &value);
                keys.outside.push(Header {
                    host,
                    name: credential.header.clone(),
                    value: Zeroizing::new(header),
                });
                STAND_IN.clone_into(&mut value);
            }
            keys.inside.insert(name.clone(), value);
        }
        keys
    }
}

impl super::Credential {
    /// The host whose requests get the key; none where it is reached in another way than by TLS on
    /// its usual port.
    fn host_of(&self, set: impl Fn(&str) -> Option<String>) -> Option<String> {
        let url = self.base_url.as_deref().and_then(set).filter(|it| !it.is_empty());
        let Some(url) = url else { return Some(self.host.clone()) };
        let rest = url.strip_prefix("https://")?;
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = host.strip_suffix(":443").unwrap_or(host).to_ascii_lowercase();
        (!host.contains([':', '*']) && check_host(&host).is_ok()).then_some(host)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Credential, *};

    fn profile() -> Profile {
        Profile {
            env: ["KEY", "KEY_URL", "MODEL"].map(Into::into).into(),
            credentials: vec![Credential {
                env: "KEY".into(),
                host: "api.example.com".into(),
                header: "authorization".into(),
                value: "Bearer {}".into(),
                base_url: Some("KEY_URL".into()),
            }],
            ..Profile::default()
        }
    }

    fn keys(set: &[(&str, &str)], all_inside: bool) -> Keys {
        let find = |name: &str| {
            set.iter().find(|(it, _)| *it == name).map(|(_, value)| (*value).to_owned())
        };
        profile().keys(find, all_inside)
    }

    fn inside(keys: &Keys) -> Vec<(&str, &str)> {
        keys.inside.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
    }

    #[test]
    fn only_what_a_profile_names_enters() {
        let set =
            [("MODEL", "m"), ("AWS_SECRET_ACCESS_KEY", "x"), ("KEY_URL", ""), ("HOME", "/root")];
        let keys = keys(&set, false);
        assert_eq!(inside(&keys), [("MODEL", "m")]);
        assert!(keys.outside.is_empty());
    }

    #[test]
    fn a_key_for_one_host_stays_outside() {
        let keys = keys(&[("KEY", "secret"), ("MODEL", "m")], false);
        assert_eq!(inside(&keys), [("KEY", STAND_IN), ("MODEL", "m")]);
        let header = &keys.outside[0];
        let expected = ("api.example.com", "authorization", "Bearer secret");
        assert_eq!((header.host.as_str(), header.name.as_str(), header.value.as_str()), expected);
        assert!(!format!("{keys:?}").contains("secret"));
    }

    #[test]
    fn a_key_enters_where_no_rule_can_hold_it() {
        let inside_only = |set: &[(&str, &str)], all_inside| {
            let keys = keys(set, all_inside);
            assert_eq!(keys.inside["KEY"], set[0].1);
            assert!(keys.outside.is_empty());
        };
        inside_only(&[("KEY", "secret")], true);
        // No header can hold it.
        inside_only(&[("KEY", "two\r\nlines")], false);
        for url in
            ["http://localhost:4000", "https://x.org:8443/v1", "https://*.x.org", "x", "https://"]
        {
            inside_only(&[("KEY", "secret"), ("KEY_URL", url)], false);
        }
    }

    #[test]
    fn a_host_of_ones_own_gets_the_key() {
        for url in ["https://Proxy.example.org/v1", "https://proxy.example.org:443"] {
            let keys = keys(&[("KEY", "secret"), ("KEY_URL", url)], false);
            assert_eq!(keys.outside[0].host, "proxy.example.org");
            assert_eq!(inside(&keys), [("KEY", STAND_IN), ("KEY_URL", url)]);
        }
    }
}
