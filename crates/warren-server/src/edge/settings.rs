//! What the operator chose about the edge.

use std::{fmt, net::IpAddr, str::FromStr, time::Duration};

use super::token::EdgeKey;

/// How the edge behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The domain that names of ports are below.
    pub domain: Domain,
    /// What tokens are signed with; another one makes all tokens of before good for nothing.
    pub key: EdgeKey,
    /// How long a visitor waits for a sandbox that is being started or woken.
    pub patience: Duration,
    /// How many requests to the ports of one sandbox may be under way.
    pub requests_per_sandbox: u32,
    /// Proxies before this server, whose word for where a request came from is taken.
    pub trusted_proxies: Vec<AddressBlock>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            domain: Domain::default(),
            key: EdgeKey::random(),
            patience: Duration::from_secs(15),
            requests_per_sandbox: 1024,
            trusted_proxies: Vec::new(),
        }
    }
}

impl Settings {
    /// Whether browsers say from which page a request to a port comes, where a listener speaks TLS
    /// or does not: they do over TLS, and to names of their own machine.
    pub(super) fn tells_pages_apart(&self, tls: bool) -> bool {
        let name = self.domain.name();
        tls || self.domain.secure() == Some(true)
            || !self.trusted_proxies.is_empty()
            || name == "localhost"
            || name.ends_with(".localhost")
    }

    /// Whether somebody at this address is believed to say for whom it asks.
    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted_proxies.iter().any(|block| block.contains(address))
    }
}

/// The domain below which ports have names: `[SCHEME://]NAME[:PORT]`.
///
/// Scheme and port are for links alone, where a proxy before the server has others than it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    name: String,
    secure: Option<bool>,
    port: Option<u16>,
}

impl Default for Domain {
    fn default() -> Self {
        Self { name: "localhost".to_owned(), secure: None, port: None }
    }
}

impl Domain {
    /// The name, in small letters.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address at which E2B's API is at the root: what others know this server by who are shown
    /// who a sandbox is. They reach it over TLS, unless the operator or the name says otherwise.
    #[must_use]
    pub fn api_address(&self) -> String {
        let local = self.name == "localhost" || self.name.ends_with(".localhost");
        let scheme = if self.secure.unwrap_or(!local) { "https" } else { "http" };
        let port = self.port.map_or_else(String::new, |port| format!(":{port}"));
        format!("{scheme}://api.{}{port}", self.name)
    }

    /// The scheme of links, where the operator says one.
    pub(crate) fn secure(&self) -> Option<bool> {
        self.secure
    }

    /// The port of links, where the operator says one, or says it by the scheme.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port.or(self.secure.map(|secure| if secure { 443 } else { 80 }))
    }
}

impl FromStr for Domain {
    type Err = InvalidDomain;

    fn from_str(text: &str) -> Result<Self, InvalidDomain> {
        let (secure, rest) = match text.split_once("://") {
            Some(("https", rest)) => (Some(true), rest),
            Some(("http", rest)) => (Some(false), rest),
            Some(_) => return Err(InvalidDomain),
            None => (None, text),
        };
        let (name, port) = match rest.split_once(':') {
            Some((name, port)) => {
                let port = port.parse().ok().filter(|port| *port > 0).ok_or(InvalidDomain)?;
                (name, Some(port))
            }
            None => (rest, None),
        };
        let name = name.to_ascii_lowercase();
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // An address has nothing below it.
        let named = name.len() <= 180 && name.split('.').all(label);
        match named && name.parse::<IpAddr>().is_err() {
            true => Ok(Self { name, secure, port }),
            false => Err(InvalidDomain),
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.secure {
            Some(true) => f.write_str("https://")?,
            Some(false) => f.write_str("http://")?,
            None => {}
        }
        f.write_str(&self.name)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// A text is no domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a domain such as `sandboxes.example` or `https://sandboxes.example:8443`")]
pub struct InvalidDomain;

/// An address, or a network of them: `192.0.2.1`, `10.0.0.0/8`, `fd00::/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressBlock {
    address: IpAddr,
    prefix: u8,
}

impl AddressBlock {
    fn contains(&self, address: IpAddr) -> bool {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 4),
            IpAddr::V6(address) => (address.to_bits(), 6),
        };
        let ((ours, family), (theirs, other)) = (bits(self.address), bits(address));
        let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
        family == other && ours & mask == theirs & mask
    }
}

impl FromStr for AddressBlock {
    type Err = InvalidBlock;

    fn from_str(text: &str) -> Result<Self, InvalidBlock> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_not_one| InvalidBlock)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().map_err(|_not_one| InvalidBlock)?,
            None => most,
        };
        if prefix <= most { Ok(Self { address, prefix }) } else { Err(InvalidBlock) }
    }
}

impl fmt::Display for AddressBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// A text is no address and no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an address or a network such as `127.0.0.1`, `10.0.0.0/8` or `fd00::/8`")]
pub struct InvalidBlock;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_has_an_address_below_the_domain() {
        for (domain, expected) in [
            ("localhost", "http://api.localhost"),
            ("sandboxes.example", "https://api.sandboxes.example"),
            ("https://s.example:8443", "https://api.s.example:8443"),
            ("http://s.example", "http://api.s.example"),
        ] {
            assert_eq!(domain.parse::<Domain>().unwrap().api_address(), expected);
        }
    }

    #[test]
    fn a_domain_may_say_how_links_begin() {
        let check = |text: &str, expected: Option<(&str, Option<bool>, Option<u16>)>| {
            let read = text.parse::<Domain>().ok();
            let parts = read.as_ref().map(|it| (it.name(), it.secure(), it.port()));
            assert_eq!(parts, expected, "{text}");
        };
        check("localhost", Some(("localhost", None, None)));
        check("Sandboxes.Example:8443", Some(("sandboxes.example", None, Some(8443))));
        check("https://s.example", Some(("s.example", Some(true), Some(443))));
        check("http://s.example:81", Some(("s.example", Some(false), Some(81))));
        for bad in ["", ".", "a..b", "127.0.0.1", "[::1]", "a b", "ftp://a", "a/", "a:0", "-a"] {
            check(bad, None);
        }
        assert_eq!("https://a:1".parse::<Domain>().unwrap().to_string(), "https://a:1");
    }

    #[test]
    fn pages_are_told_apart_over_tls_and_on_ones_own_machine() {
        let check = |domain: &str, tls: bool, expected: bool| {
            let settings = Settings { domain: domain.parse().unwrap(), ..Settings::default() };
            assert_eq!(settings.tells_pages_apart(tls), expected, "{domain} {tls}");
        };
        check("localhost", false, true);
        check("a.localhost:7423", false, true);
        check("sandboxes.example", true, true);
        check("https://sandboxes.example", false, true);
        check("sandboxes.example", false, false);
        check("http://sandboxes.example", false, false);
        let trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
        let domain = "sandboxes.example".parse().unwrap();
        let proxied = Settings { domain, trusted_proxies, ..Settings::default() };
        assert!(proxied.tells_pages_apart(false));
    }

    #[test]
    fn a_network_holds_its_addresses_alone() {
        let check = |block: &str, address: &str, inside: bool| {
            let block: AddressBlock = block.parse().unwrap();
            assert_eq!(block.contains(address.parse().unwrap()), inside, "{block} {address}");
        };
        check("10.0.0.0/8", "10.255.0.1", true);
        check("10.0.0.0/8", "11.0.0.1", false);
        check("127.0.0.1", "127.0.0.1", true);
        check("127.0.0.1", "127.0.0.2", false);
        check("0.0.0.0/0", "192.0.2.1", true);
        check("0.0.0.0/0", "::1", false);
        check("fd00::/8", "fd12::1", true);
        check("::/0", "fd12::1", true);
        for bad in ["", "a", "10.0.0.0/33", "::/129", "10.0.0.0/x"] {
            assert!(bad.parse::<AddressBlock>().is_err(), "{bad}");
        }
    }
}
