//! Settings about listening: addresses, and pages that may ask.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
};

use warren_server::edge::{AddressBlock, Domain};

use super::value::Value;

/// The port where none is named.
const PORT: u16 = 7423;

/// An address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address(pub(crate) SocketAddr);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Ok(address) = text.parse() {
            return Ok(Self(address));
        }
        let (host, port) = match text.rsplit_once(':') {
            // The colons of a bare IPv6 address are its own.
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                (host, port.parse().ok())
            }
            _ => (text, Some(PORT)),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let address = match bare {
            "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            bare => bare.parse().ok(),
        };
        let both = address.zip(port).map(|(address, port)| Self(SocketAddr::new(address, port)));
        both.ok_or_else(|| format!("expected {}", Self::kind()))
    }
}

impl Address {
    fn kind() -> String {
        format!(
            "ADDRESS[:PORT] such as `127.0.0.1`, `0.0.0.0:8080` or `[::1]:8080`; port {PORT} where \
             none is named"
        )
    }

    /// Whether only this machine can connect to it.
    pub(crate) fn is_loopback(self) -> bool {
        self.0.ip().to_canonical().is_loopback()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The addresses to listen on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Addresses(pub(crate) Vec<Address>);

impl Value for Addresses {
    fn kind() -> String {
        format!("{}; several are separated by commas", Address::kind())
    }

    fn read(text: &str) -> Option<Self> {
        text.split(',').map(|text| text.parse().ok()).collect::<Option<_>>().map(Self)
    }

    fn initial(_default: Option<&str>) -> Self {
        Self::default()
    }
}

/// The origins of pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origins(pub(crate) Vec<String>);

impl Value for Origins {
    fn kind() -> String {
        "origins such as `https://console.example`, separated by commas".into()
    }

    fn read(text: &str) -> Option<Self> {
        let origin = |text: &str| {
            let text = text.trim();
            let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
            // As browsers write it: without a path, not even `/`.
            let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:[]".contains(&byte);
            (!host.is_empty() && host.bytes().all(good)).then(|| text.to_ascii_lowercase())
        };
        text.split(',').map(origin).collect::<Option<_>>().map(Self)
    }

    fn initial(_default: Option<&str>) -> Self {
        Self::default()
    }
}

impl Value for Domain {
    fn kind() -> String {
        "a domain such as `sandboxes.example` or `https://sandboxes.example:8443`".into()
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// Addresses and networks of proxies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Proxies(pub(crate) Vec<AddressBlock>);

impl Value for Proxies {
    fn kind() -> String {
        "addresses and networks such as `127.0.0.1` or `10.0.0.0/8`, separated by commas".into()
    }

    fn read(text: &str) -> Option<Self> {
        text.split(',').map(|text| text.trim().parse().ok()).collect::<Option<_>>().map(Self)
    }

    fn initial(_default: Option<&str>) -> Self {
        Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_leave_its_port_out() {
        for (text, expected) in [
            ("127.0.0.1", Some("127.0.0.1:7423")),
            ("localhost", Some("127.0.0.1:7423")),
            ("localhost:80", Some("127.0.0.1:80")),
            ("0.0.0.0:0", Some("0.0.0.0:0")),
            ("::1", Some("[::1]:7423")),
            ("[::1]", Some("[::1]:7423")),
            ("[::1]:80", Some("[::1]:80")),
            ("::", Some("[::]:7423")),
            ("", None),
            (":80", None),
            ("80", None),
            ("example.com:80", None),
            ("127.0.0.1:", None),
            ("127.0.0.1:70000", None),
            ("http://127.0.0.1", None),
        ] {
            let read = text.parse::<Address>().ok().map(|it| it.to_string());
            assert_eq!(read.as_deref(), expected, "{text}");
        }
        assert_eq!(Addresses::read("127.0.0.1, ::1").unwrap().0.len(), 2);
        assert_eq!(Addresses::read("127.0.0.1,"), None);
    }

    #[test]
    fn proxies_are_addresses_and_networks() {
        assert_eq!(Proxies::read("127.0.0.1, fd00::/8").unwrap().0.len(), 2);
        for bad in ["", "127.0.0.1,", "proxy.example", "10.0.0.0/40"] {
            assert_eq!(Proxies::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_origin_is_as_browsers_write_it() {
        let read = Origins::read("https://A.example, http://localhost:3000").unwrap();
        assert_eq!(read.0, ["https://a.example", "http://localhost:3000"]);
        for bad in ["*", "a.example", "https://a/", "https://", "ftp://a", "https://a,"] {
            assert_eq!(Origins::read(bad), None, "{bad}");
        }
    }
}
