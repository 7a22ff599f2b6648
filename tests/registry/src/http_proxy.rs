//! A proxy as companies have them between their machines and registries.

use std::{
    io::{self, BufRead, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

/// Passes requests for plain HTTP on to a registry, whatever name they have for it. Dropping it
/// ends it.
#[derive(Debug)]
pub struct HttpProxy {
    address: String,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    requests: Vec<String>,
    closed: bool,
}

impl HttpProxy {
    /// Listens at a port of its own before the registry at `target`.
    ///
    /// # Errors
    ///
    /// When it cannot listen.
    pub fn start(target: &str) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let seen = Arc::<Mutex<Seen>>::default();
        let (target, shared) = (target.to_owned(), Arc::clone(&seen));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if lock(&shared).closed {
                    return;
                }
                let (target, shared) = (target.clone(), Arc::clone(&shared));
                // A connection that breaks is the client's to notice.
                thread::spawn(move || pass(client, &target, &shared).is_ok());
            }
        });
        Ok(Self { address, seen })
    }

    /// Host and port.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What was asked for: the first line of every request.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        lock(&self.seen).requests.clone()
    }
}

impl Drop for HttpProxy {
    fn drop(&mut self) {
        lock(&self.seen).closed = true;
        // The listener looks when somebody comes.
        drop(TcpStream::connect(&self.address));
    }
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Passes one request on, and closes the connection after its answer.
fn pass(client: TcpStream, target: &str, seen: &Mutex<Seen>) -> io::Result<()> {
    let mut client = BufReader::new(client);
    let mut first = String::new();
    client.read_line(&mut first)?;
    lock(seen).requests.push(first.trim().to_owned());
    let (mut head, mut length) = (origin_form(&first)?, 0_u64);
    loop {
        let mut line = String::new();
        if client.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
        if !lower.starts_with("connection:") {
            head.push_str(&line);
        }
    }
    head.push_str("connection: close\r\n\r\n");
    let mut server = TcpStream::connect(target)?;
    server.write_all(head.as_bytes())?;
    io::copy(&mut client.by_ref().take(length), &mut server)?;
    let mut client = client.into_inner();
    io::copy(&mut server, &mut client)?;
    client.shutdown(Shutdown::Both)
}

/// `GET http://name/path HTTP/1.1` as the registry itself is asked.
fn origin_form(line: &str) -> io::Result<String> {
    let odd = || io::Error::other(format!("no request for a proxy: {line}"));
    let (method, rest) = line.split_once(" http://").ok_or_else(odd)?;
    let (_, path) = rest.split_once('/').ok_or_else(odd)?;
    Ok(format!("{method} /{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_for_a_proxy_becomes_one_for_the_registry() {
        let asked = origin_form("GET http://registry.test:5000/v2/x?y HTTP/1.1\r\n").unwrap();
        assert_eq!(asked, "GET /v2/x?y HTTP/1.1\r\n");
        assert!(origin_form("CONNECT registry.test:443 HTTP/1.1\r\n").is_err());
    }
}
