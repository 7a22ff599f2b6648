//! A proxy of somebody's through which a sandbox's connections go.

use std::{fmt, io, net::SocketAddr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use zeroize::Zeroizing;

use crate::{credentials::Secret, name::HostName};

/// The longest answer to a CONNECT.
const LONGEST_ANSWER: usize = 8 * 1024;

/// What a proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyKind {
    /// SOCKS5 (RFC 1928), with a user and a password where there are any (RFC 1929). Names are
    /// looked up by the proxy.
    Socks5,
    /// `CONNECT` of HTTP, with basic authentication.
    Http,
}

/// A proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// What it speaks.
    pub kind: ProxyKind,
    /// Its name or its address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Who is to be let through: a user and a password, of 255 bytes each at most.
    pub user: Option<(String, Secret)>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("kind", &self.kind)
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// Why a proxy does not let a connection through.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    /// The connection to it broke, or it has no address.
    #[error("the proxy does not answer")]
    Broke(#[from] io::Error),
    /// It speaks something else.
    #[error("the proxy does not speak {0:?}")]
    Protocol(ProxyKind),
    /// It wants another user.
    #[error("the proxy does not accept the user and the password")]
    User,
    /// It cannot or does not want to.
    #[error("the proxy refuses: {0}")]
    Refused(String),
}

/// Has a proxy, to which there is a connection, connect to a destination. What follows on the
/// stream is the destination's: no byte of it is read here.
pub(crate) async fn through(
    stream: &mut TcpStream,
    proxy: &Proxy,
    name: Option<&HostName>,
    destination: SocketAddr,
) -> Result<(), ProxyError> {
    match proxy.kind {
        ProxyKind::Socks5 => socks5(stream, proxy, name, destination).await,
        ProxyKind::Http => http(stream, proxy, name, destination).await,
    }
}

async fn socks5(
    stream: &mut TcpStream,
    proxy: &Proxy,
    name: Option<&HostName>,
    destination: SocketAddr,
) -> Result<(), ProxyError> {
    const VERSION: u8 = 5;
    const USER: u8 = 2;
    let odd = ProxyError::Protocol(ProxyKind::Socks5);
    let method = if proxy.user.is_some() { USER } else { 0 };
    stream.write_all(&[VERSION, 1, method]).await?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).await?;
    match answer {
        [VERSION, chosen] if chosen == method => {}
        [VERSION, _] => return Err(ProxyError::User),
        _ => return Err(odd),
    }
    if let Some((user, password)) = &proxy.user {
        let mut login = Zeroizing::new(vec![1]);
        for part in [user.as_bytes(), password.expose()] {
            login.push(u8::try_from(part.len()).map_err(|_long| ProxyError::User)?);
            login.extend_from_slice(part);
        }
        stream.write_all(&login).await?;
        stream.read_exact(&mut answer).await?;
        let [_version, 0] = answer else { return Err(ProxyError::User) };
    }
    stream.write_all(&socks5_request(name, destination)).await?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let [VERSION, reply, _, kind] = head else { return Err(odd) };
    // Where it is bound is said too, and of no use.
    let length = match kind {
        1 => 4,
        4 => 16,
        3 => usize::from(stream.read_u8().await?),
        _ => return Err(odd),
    };
    let mut bound = vec![0; length + 2];
    stream.read_exact(&mut bound).await?;
    match reply {
        0 => Ok(()),
        code => Err(ProxyError::Refused(reply_text(code).to_owned())),
    }
}

fn socks5_request(name: Option<&HostName>, destination: SocketAddr) -> Vec<u8> {
    let mut request = vec![5, 1, 0];
    match (name, destination) {
        (Some(name), _) => {
            let name = name.as_str().as_bytes();
            // A name has 253 bytes at most.
            request.extend([3, u8::try_from(name.len()).unwrap_or(u8::MAX)]);
            request.extend(name);
        }
        (None, SocketAddr::V4(address)) => {
            request.push(1);
            request.extend(address.ip().octets());
        }
        (None, SocketAddr::V6(address)) => {
            request.push(4);
            request.extend(address.ip().octets());
        }
    }
    request.extend(destination.port().to_be_bytes());
    request
}

fn reply_text(code: u8) -> &'static str {
    match code {
        2 => "not allowed",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "too many hops",
        7 | 8 => "not supported",
        _ => "failure",
    }
}

async fn http(
    stream: &mut TcpStream,
    proxy: &Proxy,
    name: Option<&HostName>,
    destination: SocketAddr,
) -> Result<(), ProxyError> {
    let target = match name {
        Some(name) => format!("{name}:{}", destination.port()),
        None => destination.to_string(),
    };
    let mut request = Zeroizing::new(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"));
    if let Some((user, password)) = &proxy.user {
        let both = [user.as_bytes(), b":", password.expose()].concat();
        let encoded = Zeroizing::new(STANDARD.encode(&*Zeroizing::new(both)));
        request.push_str(&format!("Proxy-Authorization: Basic {}\r\n", *encoded));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    // One by one: what follows the empty line is not ours.
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= LONGEST_ANSWER {
            return Err(ProxyError::Protocol(ProxyKind::Http));
        }
        answer.push(stream.read_u8().await?);
    }
    match status(&answer) {
        Some(200..=299) => Ok(()),
        Some(401 | 407) => Err(ProxyError::User),
        Some(code) => Err(ProxyError::Refused(format!("status {code}"))),
        None => Err(ProxyError::Protocol(ProxyKind::Http)),
    }
}

fn status(answer: &[u8]) -> Option<u16> {
    let rest = answer.strip_prefix(b"HTTP/1.1 ").or_else(|| answer.strip_prefix(b"HTTP/1.0 "))?;
    let (digits, after) = rest.split_at_checked(3)?;
    if after.first().is_some_and(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_up_by_the_proxy() {
        let destination = "192.0.2.7:443".parse().unwrap();
        let name = HostName::parse("a.example").unwrap();
        let request = socks5_request(Some(&name), destination);
        assert_eq!(request, b"\x05\x01\x00\x03\x09a.example\x01\xbb");
        assert_eq!(socks5_request(None, destination), [5, 1, 0, 1, 192, 0, 2, 7, 1, 0xbb]);
    }

    #[test]
    fn a_status_has_three_digits() {
        assert_eq!(status(b"HTTP/1.1 200 OK\r\n\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.0 407\r\n\r\n"), Some(407));
        for bad in [&b"HTTP/2 200 OK"[..], b"HTTP/1.1 2000", b"HTTP/1.1 x", b"SSH", b""] {
            assert_eq!(status(bad), None);
        }
    }
}
