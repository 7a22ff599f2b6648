//! How a client begins: which version of HTTP it speaks, found out within a time.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use warren_http::Begun;

/// How a client of HTTP/2 begins, and no client of HTTP/1.1.
///
/// # Source
///
/// RFC 9113, section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How much is read at once, in bytes: most requests are whole then.
const FIRST: usize = 4096;

/// Reads until it is clear how the client begins: whether it speaks HTTP/2, and the stream with
/// what was read before it. Who says nothing is waited for: that is the caller's to limit.
pub(super) async fn begin<S>(mut stream: S) -> io::Result<(bool, Begun<S>)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut read = Vec::with_capacity(FIRST);
    loop {
        let known = read.len().min(PREFACE.len());
        let (seen, preface) = (read.get(..known), PREFACE.get(..known));
        if seen != preface || known == PREFACE.len() {
            return Ok((seen == preface, Begun::new(read, stream)));
        }
        if stream.read_buf(&mut read).await? == 0 {
            return Ok((false, Begun::new(read, stream)));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    async fn check(pieces: &[&[u8]], http2: bool) {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let reading = begin(near);
        let writing = async {
            for piece in pieces {
                far.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            far.shutdown().await.unwrap();
        };
        let (begun, ()) = tokio::join!(reading, writing);
        let (found, mut stream) = begun.unwrap();
        assert_eq!(found, http2, "{pieces:?}");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, pieces.concat(), "nothing of it is lost");
    }

    #[tokio::test]
    async fn the_first_bytes_say_which_version_it_is() {
        check(&[PREFACE], true).await;
        check(&[PREFACE, b"more"], true).await;
        check(&[b"PRI * HTTP/2.0\r\n", b"\r\nSM\r\n\r\nmore"], true).await;
        check(&[b"GET / HTTP/1.1\r\n\r\n"], false).await;
        check(&[b"P", b"OST / HTTP/1.1\r\n\r\n"], false).await;
        check(&[b"PRI * HTTP/2.0\r\n\r\nXX"], false).await;
        check(&[b"PRI"], false).await;
        check(&[], false).await;
    }
}
