//! A plain HTTP/1.1 client over a unix socket.
//!
//! Blocking and without a single allocation that a request does not need: what is measured should be
//! the server.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// No request of the benchmark takes longer.
const LIMIT: Duration = Duration::from_secs(120);

/// One kept-open connection.
#[derive(Debug)]
pub(crate) struct Client {
    socket: PathBuf,
    stream: BufReader<UnixStream>,
}

/// An answer whose body has been read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Client {
    /// Connects to the server's socket.
    pub(crate) fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)
            .with_context(|| format!("connect to {}", socket.display()))?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        Ok(Self { socket: socket.to_owned(), stream: BufReader::with_capacity(1 << 16, stream) })
    }

    /// A further connection to the same server.
    pub(crate) fn another(&self) -> Result<Self> {
        Self::connect(&self.socket)
    }

    /// Sends a request and reads the whole answer, whatever its status.
    pub(crate) fn send(&mut self, method: &str, path: &str, body: &[u8]) -> Result<Answer> {
        self.write(method, path, body)?;
        self.read()
    }

    /// Writes a request; the answer is read by [`Client::read`].
    pub(crate) fn write(&mut self, method: &str, path: &str, body: &[u8]) -> Result<()> {
        let kind = if body.first() == Some(&b'{') {
            "application/json"
        } else {
            "application/octet-stream"
        };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: warren\r\naccept: application/json\r\n\
             content-type: {kind}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let stream = self.stream.get_mut();
        if body.len() < 8192 {
            let mut all = head.into_bytes();
            all.extend_from_slice(body);
            stream.write_all(&all)?;
        } else {
            stream.write_all(head.as_bytes())?;
            stream.write_all(body)?;
        }
        Ok(())
    }

    /// Reads one answer.
    pub(crate) fn read(&mut self) -> Result<Answer> {
        let line = self.line()?;
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.with_context(|| format!("not a status line: {line:?}"))?;
        let (mut length, mut chunked) = (0, false);
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().context("content-length")?,
                "transfer-encoding" => chunked = value.trim().eq_ignore_ascii_case("chunked"),
                _ => {}
            }
        }
        let mut body = Vec::new();
        if chunked {
            while self.chunk(&mut body)? {}
        } else {
            body.resize(length, 0);
            self.stream.read_exact(&mut body)?;
        }
        Ok(Answer { status, body })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            bail!("the server closed the connection");
        }
        line.truncate(line.trim_end().len());
        Ok(line)
    }

    /// Reads one chunk; false after the last.
    fn chunk(&mut self, body: &mut Vec<u8>) -> Result<bool> {
        let line = self.line()?;
        let size = line.split(';').next().unwrap_or_default();
        let size =
            usize::from_str_radix(size, 16).with_context(|| format!("chunk size {line:?}"))?;
        let start = body.len();
        body.resize(start + size, 0);
        self.stream.read_exact(body.get_mut(start..).unwrap_or_default())?;
        self.line()?;
        Ok(size > 0)
    }
}

impl Answer {
    /// The body as JSON, if the request succeeded.
    pub(crate) fn json(&self) -> Result<Value> {
        self.good()?;
        serde_json::from_slice(&self.body).context("the answer is not JSON")
    }

    /// Fails with what the server said, if it refused.
    pub(crate) fn good(&self) -> Result<()> {
        if !(200..300).contains(&self.status) {
            bail!("status {}: {}", self.status, String::from_utf8_lossy(&self.body));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer_to(bytes: &'static [u8]) -> Answer {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(bytes).unwrap();
        let stream = BufReader::new(ours);
        Client { socket: PathBuf::new(), stream }.read().unwrap()
    }

    #[test]
    fn a_body_of_known_length_is_read() {
        let answer = answer_to(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}rest");
        assert_eq!((answer.status, answer.body.as_slice()), (201, &b"{}"[..]));
        assert!(answer.json().is_ok());
    }

    #[test]
    fn a_body_in_chunks_is_joined() {
        let text = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        assert_eq!(answer_to(text).body, b"abcde");
    }

    #[test]
    fn a_refusal_is_an_error_with_its_text() {
        let answer = answer_to(b"HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\ngone");
        assert_eq!(answer.good().unwrap_err().to_string(), "status 404: gone");
    }
}
