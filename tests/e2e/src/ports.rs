//! Ports of real sandboxes, by name, as browsers and programs reach them.

mod browser;
mod clients;
mod forward;
mod owner;
mod visitor;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

pub(crate) use browser::{Browser, PREVIEW, reported};

use crate::harness::{Home, Sandbox, wait_until};

/// What the sandboxes of these tests serve.
const SERVERS: &[u8] = include_bytes!("ports/guest.py");

/// A sandbox with servers in it, and the way to them.
pub(crate) struct Served<'a> {
    pub(crate) sandbox: Sandbox<'a>,
    pub(crate) link: Value,
    /// Where browsers are listened to.
    pub(crate) edge: SocketAddr,
}

impl<'a> Served<'a> {
    /// Starts the servers; `page` is what `/page` shows.
    pub(crate) fn start(home: &'a Home, request: &Value, page: &str) -> Self {
        Self::of(home.create(request), page)
    }

    /// Starts the servers in a sandbox that is there.
    pub(crate) fn of(sandbox: Sandbox<'a>, page: &str) -> Self {
        let home = sandbox.home;
        serve_in(&sandbox, page);
        let said = home.warren(&["--json", "port", &sandbox.id, "3000"]).good().text();
        let link: Value = serde_json::from_str(&said).expect("a link");
        let url = link["url"].as_str().expect("an address");
        let port = url.rsplit(':').next().expect("a port").trim_end_matches('/');
        let edge = format!("127.0.0.1:{port}").parse().expect("an address");
        Self { sandbox, link, edge }
    }

    pub(crate) fn host(&self, port: u16) -> String {
        format!("{port}-{}.localhost:{}", self.sandbox.id, self.edge.port())
    }

    pub(crate) fn token(&self) -> &str {
        self.link["token"].as_str().expect("a token")
    }

    /// The head of a request with the token.
    pub(crate) fn head(&self, first: &str, lines: &str) -> String {
        let (host, token) = (self.host(3000), self.token());
        format!("{first} HTTP/1.1\r\nhost: {host}\r\nx-warren-token: {token}\r\n{lines}\r\n")
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.edge).expect("the edge listens");
        stream.set_read_timeout(Some(Duration::from_secs(90))).expect("set a timeout");
        stream
    }

    /// Everything that is answered to these bytes.
    pub(crate) fn raw(&self, bytes: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes.as_bytes()).expect("write a request");
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer)); // a reset is an end too
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// The answer to a request with the token.
    pub(crate) fn get(&self, path: &str) -> String {
        self.raw(&self.head(&format!("GET {path}"), "connection: close\r\n"))
    }
}

/// A sandbox with servers in it; `page` is what `/page` shows.
pub(crate) fn serving<'a>(home: &'a Home, request: &Value, page: &str) -> Sandbox<'a> {
    let sandbox = home.create(request);
    serve_in(&sandbox, page);
    sandbox
}

fn serve_in(sandbox: &Sandbox<'_>, page: &str) {
    for (path, bytes) in [("/tmp/guest.py", SERVERS), ("/tmp/page.html", page.as_bytes())] {
        let path = format!("/files?path={path}");
        assert_eq!(sandbox.api("PUT", &path, bytes).status, 200, "the file is there");
    }
    let exec = ["exec", "--detach", &sandbox.id, "--", "/usr/bin/python3", "/tmp/guest.py"];
    sandbox.home.warren(&exec).good();
    wait_until("the servers listen", || {
        let ports = sandbox.api("GET", "/ports", b"").text();
        ports.contains("3000") && ports.contains("3001")
    });
}

/// Reads the head of an answer.
pub(crate) fn read_head(stream: &mut BufReader<TcpStream>) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(stream.read_line(&mut head).expect("a line"), 0, "ended after {head}");
    }
    head
}
