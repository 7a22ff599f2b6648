//! The API as a stranger sees it: HTTP/1.1 bytes on a unix socket.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::{fs::MetadataExt, net::UnixStream},
    path::Path,
    thread,
    time::Duration,
};

use serde_json::Value;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; fails the test unless the request succeeded.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert!((200..300).contains(&self.status), "{}: {}", self.status, self.text());
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The error's code; fails the test if the request succeeded.
    #[track_caller]
    pub(crate) fn error_code(&self) -> String {
        assert!(self.status >= 400, "{}: {}", self.status, self.text());
        let body: Value = serde_json::from_slice(&self.body).expect("an error body");
        body["code"].as_str().expect("an error code").to_owned()
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A request to a server that may die before it has answered; what was heard of it by then is
/// worth nothing.
pub(crate) fn attempt(socket: &Path, head: &str, body: &str) -> Option<Answer> {
    let mut stream = connect(socket).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
    let length = body.len();
    let request = format!(
        "{head}\r\nhost: warren\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all).ok()?;
    let end = all.windows(4).position(|four| four == b"\r\n\r\n")?;
    let lines = String::from_utf8(all[..end].to_vec()).ok()?.to_ascii_lowercase();
    let status = lines.split(' ').nth(1)?.parse().ok()?;
    let field = |name: &str| lines.lines().find_map(|line| line.strip_prefix(name));
    let body = all[end + 4..].to_vec();
    match field("content-length: ").map(|length| length.trim().parse::<usize>()) {
        Some(Ok(length)) if length != body.len() => None,
        _ => Some(Answer { status, body }),
    }
}

/// A request; `accept` chooses between one answer and a stream of lines.
pub(crate) fn send(socket: &Path, method: &str, path: &str, accept: &str, body: &[u8]) -> Answer {
    answer(open(socket, method, path, accept, body))
}

/// The same over a connection that is open already.
pub(crate) fn send_over<S: Read + Write>(
    stream: S,
    method: &str,
    path: &str,
    accept: &str,
    body: &[u8],
) -> Answer {
    answer(ask(stream, method, path, accept, body))
}

fn answer<S: Read>(mut stream: BufReader<S>) -> Answer {
    let mut rest = Vec::new();
    let (status, chunked) = head(&mut stream);
    stream.read_to_end(&mut rest).expect("read the answer");
    let body = if chunked { unchunk(&rest) } else { rest };
    Answer { status, body }
}

/// Writes a request and gives the connection, with nothing of the answer read.
pub(crate) fn open(
    socket: &Path,
    method: &str,
    path: &str,
    accept: &str,
    body: &[u8],
) -> BufReader<UnixStream> {
    let stream = connect(socket).expect("connect to the server");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("set a timeout");
    ask(stream, method, path, accept, body)
}

/// Connects as the user whose socket it is: a server knows that one, and others of the machine only
/// where it is root's.
fn connect(socket: &Path) -> io::Result<UnixStream> {
    use rustix::thread::{Gid, Uid, set_thread_groups, set_thread_res_gid, set_thread_res_uid};
    let owner = fs::metadata(socket)?.uid();
    if owner == 0 || !super::is_root() {
        return UnixStream::connect(socket);
    }
    // Rights are a thread's own; the kernel notes whose they are when it connects.
    let as_owner = || {
        let (uid, gid) = (Uid::from_raw(owner), Gid::from_raw(owner));
        set_thread_groups(&[])?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
        UnixStream::connect(socket)
    };
    thread::scope(|scope| scope.spawn(as_owner).join().expect("a thread connects"))
}

fn ask<S: Read + Write>(
    mut stream: S,
    method: &str,
    path: &str,
    accept: &str,
    body: &[u8],
) -> BufReader<S> {
    let kind =
        if body.first() == Some(&b'{') { "application/json" } else { "application/octet-stream" };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: warren\r\nconnection: close\r\naccept: {accept}\r\n\
         content-type: {kind}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("write a request");
    stream.write_all(body).expect("write a body");
    BufReader::new(stream)
}

/// Reads the head of an answer: its status, and whether the body comes in chunks.
pub(crate) fn head<S: Read>(stream: &mut BufReader<S>) -> (u16, bool) {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).expect("read the head of an answer");
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.to_ascii_lowercase());
    }
    let status = lines[0].split(' ').nth(1).expect("a status").parse().expect("a status");
    let chunked = lines.iter().any(|line| line.starts_with("transfer-encoding: chunked"));
    (status, chunked)
}

/// The bytes of a body that came in chunks.
pub(crate) fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") {
        let size = std::str::from_utf8(&bytes[..end]).expect("a chunk size");
        let size = usize::from_str_radix(size, 16).expect("a chunk size");
        if size == 0 {
            break;
        }
        body.extend_from_slice(&bytes[end + 2..end + 2 + size]);
        bytes = &bytes[end + 4 + size..];
    }
    body
}
