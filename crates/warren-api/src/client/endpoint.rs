//! Where a server is, and the key that it asks for.

use std::{fmt, net::Ipv6Addr, path::PathBuf, str::FromStr};

use http::HeaderValue;

/// The address of a server.
///
/// | text | means |
/// |---|---|
/// | `unix:///run/warren/api.sock` | a socket of this machine |
/// | `http://127.0.0.1:8080` | TCP, readable on the way; port 80 where none is named |
/// | `https://sandboxes.example:8443` | TLS; port 443 where none is named |
///
/// An IPv6 address is in brackets. A path, a query, a user or a password is refused: nothing of it
/// would be used, and a password in an address ends up in logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A unix socket.
    Unix(PathBuf),
    /// TCP without encryption.
    Http(Authority),
    /// TLS over TCP.
    Https(Authority),
}

impl Endpoint {
    /// What requests have in their `Host` header.
    #[must_use]
    pub fn host_header(&self) -> String {
        match self {
            Self::Unix(_) => "warren".to_owned(),
            Self::Http(authority) => authority.without_port(80),
            Self::Https(authority) => authority.without_port(443),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Http(_) => write!(f, "http://{}", self.host_header()),
            Self::Https(_) => write!(f, "https://{}", self.host_header()),
        }
    }
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let refuse = |problem| InvalidEndpoint { text: shown(text), problem };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| refuse("it has no scheme"))?;
        match scheme.to_ascii_lowercase().as_str() {
            "unix" if rest.starts_with('/') => Ok(Self::Unix(rest.into())),
            "unix" => Err(refuse("the path of a socket is absolute")),
            "http" => Authority::read(rest, 80).map(Self::Http).map_err(refuse),
            "https" => Authority::read(rest, 443).map(Self::Https).map_err(refuse),
            _ => Err(refuse("its scheme is none of these")),
        }
    }
}

/// A text without what may be a password in it, for a message.
fn shown(text: &str) -> String {
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://...@{host}"),
        _ => text.to_owned(),
    }
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// A name or an address; an IPv6 address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Authority {
    fn read(text: &str, usual_port: u16) -> Result<Self, &'static str> {
        let text = text.strip_suffix('/').unwrap_or(text);
        if text.contains('@') {
            return Err("a key is no part of it: WARREN_API_KEY has it");
        }
        if text.contains(['/', '?', '#']) {
            return Err("a path is no part of it");
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or("a bracket is not closed")?;
                host.parse::<Ipv6Addr>().map_err(|_none| "in brackets is no IPv6 address")?;
                match port.strip_prefix(':') {
                    None if !port.is_empty() => return Err("a port follows a colon"),
                    port => (host, port),
                }
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let usable = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
        if host.is_empty() || !host.bytes().all(usable) {
            return Err("its host is no name and no address");
        }
        let port = match port {
            None => usual_port,
            Some(port) => {
                let number = port.parse().ok().filter(|port| *port > 0);
                number.ok_or("its port is no number of 1 to 65535")?
            }
        };
        Ok(Self { host: host.to_owned(), port })
    }

    fn without_port(&self, usual_port: u16) -> String {
        if self.port == usual_port {
            let brackets = self.host.contains(':');
            return if brackets { format!("[{}]", self.host) } else { self.host.clone() };
        }
        self.to_string()
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// A text is no address of a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no address of a server ({problem}): expected `https://HOST[:PORT]`, \
     `http://HOST:PORT` or `unix:///PATH`"
)]
pub struct InvalidEndpoint {
    text: String,
    problem: &'static str,
}

/// The secret that a caller shows. Neither `Debug` nor an error prints it.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(HeaderValue);

impl ApiKey {
    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl FromStr for ApiKey {
    type Err = InvalidApiKey;

    /// Takes what is visible ASCII; which keys are valid is for the server to say.
    fn from_str(text: &str) -> Result<Self, InvalidApiKey> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidApiKey);
        }
        let mut value = HeaderValue::try_from(format!("Bearer {text}"))
            .map_err(|_unprintable| InvalidApiKey)?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey")
    }
}

/// A text can be no API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the API key has characters that none has: expected `wrn_` and 40 hexadecimal digits")]
pub struct InvalidApiKey;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str, host: &str) {
        let endpoint: Endpoint = text.parse().unwrap();
        assert_eq!(
            (endpoint.to_string().as_str(), endpoint.host_header().as_str()),
            (expected, host)
        );
    }

    #[test]
    fn addresses_are_read_and_written_back() {
        check("unix:///run/w/api.sock", "unix:///run/w/api.sock", "warren");
        check("http://127.0.0.1:8080", "http://127.0.0.1:8080", "127.0.0.1:8080");
        check("https://Box.example/", "https://Box.example", "Box.example");
        check("HTTPS://a:443", "https://a", "a");
        check("https://a:80", "https://a:80", "a:80");
        check("http://[::1]:9", "http://[::1]:9", "[::1]:9");
        check("http://[::1]", "http://[::1]", "[::1]");
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        for (text, problem) in [
            ("", "no scheme"),
            ("localhost:8080", "no scheme"),
            ("ftp://a", "scheme is none"),
            ("unix://run/x", "absolute"),
            ("http://", "no name and no address"),
            ("http://a b", "no name and no address"),
            ("http://a:0", "port"),
            ("http://a:70000", "port"),
            ("http://a:", "port"),
            ("http://a:b", "port"),
            ("http://[::1", "bracket"),
            ("http://[a]", "no IPv6"),
            ("http://[::1]9", "colon"),
            ("http://::1:9", "no name and no address"),
            ("https://a/v1", "path"),
            ("https://a?b", "path"),
        ] {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains(problem), "{text}: {error}");
            assert!(error.contains("expected `https://HOST"), "{text}: {error}");
        }
    }

    #[test]
    fn no_secret_is_repeated() {
        let error = "https://u:wrn_secret@a".parse::<Endpoint>().unwrap_err().to_string();
        assert!(!error.contains("secret") && error.contains("WARREN_API_KEY"), "{error}");
        let key: ApiKey = "wrn_secret".parse().unwrap();
        assert_eq!(format!("{key:?} {:?}", key.header()), "ApiKey Sensitive");
        assert_eq!("a\nb".parse::<ApiKey>(), Err(InvalidApiKey));
        assert_eq!("".parse::<ApiKey>(), Err(InvalidApiKey));
    }
}
