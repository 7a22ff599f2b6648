//! The edge on real sockets, before servers that stand for those of guests.

mod backend;
mod bodies;
mod domains;
mod ends;
mod framing;
mod http2;
mod people;
mod reverse;
mod streams;
mod visitors;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use warren_server::{Access, Config};

use crate::{
    app::TestApp,
    tcp::{PATIENCE, Served, rest},
};
use backend::Backend;

/// A server, a sandbox, and what listens in it on port 3000.
pub(crate) struct World {
    pub(crate) served: Served,
    pub(crate) backend: Backend,
    pub(crate) id: String,
    pub(crate) token: String,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Config::default(), Backend::http1().await).await
    }

    pub(crate) async fn with(config: Config, backend: Backend) -> Self {
        let served = Served::with_access(config, None, Access::Keys).await;
        let id = served.app.create().await;
        served.app.runtime.set_port(3000, Some(backend.address));
        let made = served.app.post(&format!("/v1/sandboxes/{id}/links"), r#"{"port":3000}"#).await;
        let token = made.expect(200)["token"].as_str().expect("a token").to_owned();
        Self { served, backend, id, token }
    }

    pub(crate) fn app(&self) -> &TestApp {
        &self.served.app
    }

    pub(crate) fn host(&self) -> String {
        format!("3000-{}.localhost:{}", self.id, self.served.address.port())
    }

    /// The head of a request with these further lines, which asks for the end of the connection.
    pub(crate) fn head(&self, first: &str, lines: &str) -> String {
        let host = self.host();
        format!("{first} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{lines}\r\n")
    }

    /// Everything that is answered to these bytes until the connection ends.
    pub(crate) async fn raw(&self, bytes: &str) -> String {
        let mut stream = self.served.connect().await;
        stream.write_all(bytes.as_bytes()).await.unwrap();
        rest(stream).await
    }

    /// The answer to a request without a body.
    pub(crate) async fn get(&self, target: &str, lines: &str) -> String {
        self.raw(&self.head(&format!("GET {target}"), lines)).await
    }

    /// The same with the token.
    pub(crate) async fn let_in(&self, target: &str, lines: &str) -> String {
        self.get(target, &format!("x-warren-token: {}\r\n{lines}", self.token)).await
    }

    pub(crate) async fn expose(&self, body: &str) {
        let target = format!("/v1/sandboxes/{}/exposure", self.id);
        self.app().ask("PUT", &target, body).await.expect(200);
    }

    /// A connection that has become a pipe of bytes to the port.
    pub(crate) async fn socket(&self, lines: &str) -> TcpStream {
        let mut stream = self.served.connect().await;
        let host = self.host();
        let head = format!(
            "GET /socket HTTP/1.1\r\nhost: {host}\r\nconnection: upgrade\r\n\
             upgrade: websocket\r\n{lines}\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = read_head(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        stream
    }
}

/// The head of an answer.
pub(crate) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = tokio::time::timeout(PATIENCE, stream.read_u8()).await.expect("in time");
        head.push(byte.expect("a whole head"));
    }
    String::from_utf8(head).unwrap()
}

/// The value of a field in an answer.
#[track_caller]
pub(crate) fn field<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let head = answer.split("\r\n\r\n").next().unwrap();
    head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")))
}

#[track_caller]
pub(crate) fn is(answer: &str, status: u16) -> &str {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1
}
