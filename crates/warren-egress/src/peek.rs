//! What the first bytes of a connection say, without decrypting anything.

mod hello;

use std::{io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    time::{Instant, timeout_at},
};
use tokio_rustls::rustls::server::Acceptor;

use crate::name::HostName;

/// How long the first bytes may take. Beyond it the other side is to speak first, perhaps.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest first line of a request.
const LONGEST_LINE: usize = 16 * 1024;
/// The most bytes of a client hello, all records together.
const LONGEST_HELLO: usize = 80 * 1024;
/// How a client that knows the server speaks HTTP/2 begins.
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The type of a TLS record that holds a part of a handshake.
const HANDSHAKE: u8 = 22;

/// What a connection begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum First {
    /// A TLS client hello.
    Tls(Hello),
    /// A request of HTTP/1.
    Http1,
    /// HTTP/2 without TLS.
    Http2,
    /// Something else, or nothing for a while.
    Other,
}

/// What a client hello says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hello {
    /// The server that is asked for.
    pub(crate) name: Option<HostName>,
    /// Whether the real name may be another one, which is encrypted.
    pub(crate) hidden: bool,
    /// Whether HTTP/2 would do.
    pub(crate) h2: bool,
    /// Whether HTTP/1.1 would do.
    pub(crate) http1: bool,
}

/// Reads until it is clear what this is. What was read is in `bytes` then, and is to be passed on
/// before anything else.
///
/// # Errors
///
/// Those of reading; the end of the stream is none.
pub(crate) async fn peek(
    stream: &mut (impl AsyncRead + Unpin),
    bytes: &mut Vec<u8>,
) -> io::Result<First> {
    let deadline = Instant::now() + PATIENCE;
    let mut peek = Peek::default();
    loop {
        let before = bytes.len();
        let read = match timeout_at(deadline, stream.read_buf(bytes)).await {
            Ok(read) => read?,
            Err(_elapsed) => return Ok(First::Other),
        };
        let new = bytes.get(before..).unwrap_or_default();
        if let Some(first) = peek.push(new) {
            return Ok(first);
        }
        if read == 0 {
            return Ok(First::Other);
        }
    }
}

/// What has been seen so far.
#[derive(Default)]
pub(crate) struct Peek {
    seen: Vec<u8>,
    acceptor: Acceptor,
}

impl Peek {
    /// Takes the next bytes and says what it is, as soon as that is clear.
    pub(crate) fn push(&mut self, new: &[u8]) -> Option<First> {
        self.seen.extend_from_slice(new);
        match self.seen.first() {
            None => None,
            Some(&HANDSHAKE) => self.hello(new),
            Some(_) => plain(&self.seen),
        }
    }

    fn hello(&mut self, mut new: &[u8]) -> Option<First> {
        while !new.is_empty() {
            match self.acceptor.read_tls(&mut new) {
                Ok(0) | Err(_) => return Some(First::Other),
                Ok(_) => {}
            }
            match self.acceptor.accept() {
                Ok(Some(accepted)) => {
                    let hello = accepted.client_hello();
                    let offers = |protocol: &[u8]| {
                        hello.alpn().is_some_and(|mut all| all.any(|it| it == protocol))
                    };
                    return Some(First::Tls(Hello {
                        name: hello.server_name().and_then(HostName::parse),
                        hidden: hello::hides_name(&self.seen),
                        h2: offers(b"h2"),
                        http1: offers(b"http/1.1") || hello.alpn().is_none(),
                    }));
                }
                Ok(None) => {}
                // A server that is less strict may still take it; it has no name that is known.
                Err(_refused) => return Some(First::Other),
            }
        }
        (self.seen.len() > LONGEST_HELLO).then_some(First::Other)
    }
}

impl std::fmt::Debug for Peek {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peek").field("seen", &self.seen.len()).finish_non_exhaustive()
    }
}

/// What bytes that are no TLS are.
fn plain(seen: &[u8]) -> Option<First> {
    if let Some(after) = seen.strip_prefix(H2_PREFACE) {
        let _frames = after;
        return Some(First::Http2);
    }
    if H2_PREFACE.starts_with(seen) {
        return None;
    }
    // A method is a short word; servers skip empty lines before it.
    let start = seen.iter().position(|it| !matches!(it, b'\r' | b'\n'));
    let line = seen.get(start.unwrap_or(seen.len())..).unwrap_or_default();
    let word = line.iter().take_while(|it| is_token(**it)).count();
    match line.get(word) {
        _ if word > 32 => return Some(First::Other),
        None => return (seen.len() > LONGEST_LINE).then_some(First::Other),
        Some(b' ') if word > 0 => {}
        Some(_) => return Some(First::Other),
    }
    let Some(end) = line.iter().position(|it| *it == b'\n') else {
        return (line.len() > LONGEST_LINE).then_some(First::Other);
    };
    let line = line.get(..end).unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let is_http = line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0");
    Some(if is_http { First::Http1 } else { First::Other })
}

/// Whether a byte may be in a method (RFC 9110, `tchar`).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    /// What a client of rustls begins with.
    fn hello(name: &str, alpn: &[&[u8]]) -> Vec<u8> {
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|it| it.to_vec()).collect();
        let name = name.to_owned().try_into().unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// The same handshake message in records of this many bytes.
    fn in_records(hello: &[u8], size: usize) -> Vec<u8> {
        let record = |part: &[u8]| {
            let length = u16::try_from(part.len()).unwrap().to_be_bytes();
            [&[HANDSHAKE, 3, 1][..], &length, part].concat()
        };
        hello[5..].chunks(size).flat_map(record).collect()
    }

    fn push_all(bytes: &[u8], at_once: usize) -> Option<First> {
        let mut peek = Peek::default();
        bytes.chunks(at_once).find_map(|part| peek.push(part))
    }

    #[test]
    fn a_client_hello_is_read_however_it_is_cut() {
        let hello = hello("API.example.org", &[b"h2", b"http/1.1"]);
        for bytes in [hello.clone(), in_records(&hello, 1), in_records(&hello, 60)] {
            for at_once in [1, 7, 5000] {
                let first = push_all(&bytes, at_once);
                let Some(First::Tls(hello)) = first else { panic!("{first:?}") };
                assert_eq!(hello.name, HostName::parse("api.example.org"));
                assert!(hello.h2 && hello.http1 && !hello.hidden, "{hello:?}");
            }
        }
    }

    #[test]
    fn a_client_that_names_an_address_names_nobody() {
        let first = push_all(&hello("192.0.2.1", &[]), 5000);
        let expected = Hello { http1: true, ..Hello::default() };
        assert_eq!(first, Some(First::Tls(expected)));
    }

    #[test]
    fn an_encrypted_client_hello_is_noticed() {
        let plain = hello("public.example.org", &[]);
        for kind in [[0xfe, 0x0d], [0xff, 0xce]] {
            let first = push_all(&hello::tests::with_extension(&plain, kind), 5000);
            let Some(First::Tls(hello)) = first else { panic!("{first:?}") };
            assert!(hello.hidden);
        }
    }

    #[test]
    fn broken_tls_is_something_else() {
        let mut broken = hello("a.example.org", &[]);
        broken[5] = 2;
        assert_eq!(push_all(&broken, 100), Some(First::Other));
        assert_eq!(push_all(&in_records(&vec![1; 90_000], 16_000), 1000), Some(First::Other));
    }

    #[test]
    fn requests_are_told_from_other_protocols() {
        let cases: [(&[u8], Option<First>); 11] = [
            (b"GET / HTTP/1.1\r\nHost: a", Some(First::Http1)),
            (b"\r\nPOST /x HTTP/1.0\n", Some(First::Http1)),
            (b"GET / HT", None),
            (b"G", None),
            (b"PRI * HT", None),
            (H2_PREFACE, Some(First::Http2)),
            (b"PRI * HTTP/1.1\r\n", Some(First::Http1)),
            (b"SSH-2.0-x\r\n", Some(First::Other)),
            (b"GET /\r\n", Some(First::Other)),
            (b" GET / HTTP/1.1\r\n", Some(First::Other)),
            (b"\0\0\0", Some(First::Other)),
        ];
        for (bytes, expected) in cases {
            assert_eq!(push_all(bytes, 1), expected, "{}", bytes.escape_ascii());
            assert_eq!(push_all(bytes, 5000), expected, "{}", bytes.escape_ascii());
        }
        assert_eq!(push_all(&b"a".repeat(40), 1), Some(First::Other));
        let endless = [&b"GET /"[..], &b"a".repeat(LONGEST_LINE + 1)].concat();
        assert_eq!(push_all(&endless, 1000), Some(First::Other));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300),
            kept in 0..300_usize,
            at_once in 1..300_usize,
        ) {
            let mut hello = hello("a.example.org", &[b"h2"]);
            hello.truncate(kept);
            hello.extend_from_slice(&bytes);
            push_all(&hello, at_once);
            push_all(&bytes, at_once);
        }
    }
}
