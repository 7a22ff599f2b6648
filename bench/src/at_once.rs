//! A stand-in for a server of E2B's protocol that answers at once and does nothing: what its clients
//! take against it is what they cost themselves.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
};

use anyhow::{Context as _, Result};

use crate::origin;

/// What a create is answered.
const SANDBOX: &str = r#"{"templateID":"base","sandboxID":"sb-aaaaaaaaaaaaaaaa","clientID":"none","envdVersion":"0.6.13","envdAccessToken":"token","domain":null,"alias":"base","trafficAccessToken":null}"#;

/// What a command says that has ended well, and how its stream ends.
const EVENTS: [(u8, &str); 3] = [
    (0, r#"{"event":{"start":{"pid":7}}}"#),
    (0, r#"{"event":{"end":{"exitCode":0,"exited":true,"status":"exit status 0"}}}"#),
    (2, "{}"),
];

/// Serves until the process ends.
pub(crate) fn serve(listener: TcpListener) -> Result<()> {
    origin::accept(&listener, converse)
}

fn converse(stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut out = stream.try_clone()?;
    let mut read = BufReader::new(stream);
    while let Some(first) = request(&mut read)? {
        out.write_all(&answer(&first))?;
    }
    Ok(())
}

/// Reads a request to its end and gives its first line; none where there is no further one.
fn request(read: &mut BufReader<TcpStream>) -> Result<Option<String>> {
    let (mut first, mut length, mut chunked) = (None, 0, false);
    loop {
        let mut line = String::new();
        if read.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if first.is_none() {
            first = Some(line.to_owned());
        } else if line.is_empty() {
            break;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().context("content-length")?;
        }
        chunked |= lower.starts_with("transfer-encoding:");
    }
    while chunked {
        let mut size = String::new();
        read.read_line(&mut size)?;
        let size = u64::from_str_radix(size.trim(), 16).context("a chunk's size")?;
        skip(read, size + 2)?;
        chunked = size > 0;
    }
    skip(read, length)?;
    Ok(first)
}

fn skip(read: &mut BufReader<TcpStream>, bytes: u64) -> Result<()> {
    std::io::copy(&mut read.take(bytes), &mut std::io::sink())?;
    Ok(())
}

fn answer(first: &str) -> Vec<u8> {
    if first.starts_with("DELETE ") {
        return b"HTTP/1.1 204 No Content\r\n\r\n".to_vec();
    }
    if !first.contains("/process.Process/") {
        let head = "HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length";
        return format!("{head}: {}\r\n\r\n{SANDBOX}", SANDBOX.len()).into_bytes();
    }
    let mut answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/connect+json\r\n\
                       transfer-encoding: chunked\r\n\r\n"
        .to_vec();
    for (flags, text) in EVENTS {
        answer.extend(format!("{:x}\r\n", text.len() + 5).into_bytes());
        answer.push(flags);
        answer.extend(u32::try_from(text.len()).unwrap_or_default().to_be_bytes());
        answer.extend(text.as_bytes());
        answer.extend(b"\r\n");
    }
    answer.extend(b"0\r\n\r\n");
    answer
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn each_request_has_its_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || serve(listener));
        let mut stream = TcpStream::connect(address).unwrap();
        let chunked = "POST /process.Process/Start HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
                       3\r\nabc\r\n0\r\n\r\n";
        let create = "POST /e2b/v2/sandboxes HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}";
        let kill = "DELETE /e2b/sandboxes/x HTTP/1.1\r\n\r\n";
        stream.write_all(format!("{create}{chunked}{kill}").as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        let status = said.split("HTTP/1.1 ").skip(1).map(|answer| answer.get(..3).unwrap());
        assert_eq!(status.collect::<Vec<_>>(), ["201", "200", "204"], "{said}");
        assert!(said.contains("exit status 0"), "{said}");
    }
}
