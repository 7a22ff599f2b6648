//! What E2B's clients do not show: both codecs, signs of life, who is let in, and how a stream ends.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use serde_json::{Value, json};

use super::Server;
use crate::{
    harness::{Home, http},
    ports::read_head,
};

/// A sandbox, as its creation was answered.
struct Made<'a> {
    server: &'a Server<'a>,
    id: String,
    token: String,
}

impl<'a> Made<'a> {
    #[track_caller]
    fn new(server: &'a Server<'a>) -> Self {
        let made = server.api("POST", "/v2/sandboxes", &json!({"templateID": "base"}));
        assert_eq!(made.status, 201, "{}", made.text());
        let made = made.json();
        let text = |name: &str| made[name].as_str().unwrap_or_default().to_owned();
        Self { server, id: text("sandboxID"), token: text("envdAccessToken") }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.server.address).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("set a timeout");
        stream
    }

    /// Sends a request with these headers to this host, and gives what is read of its answer.
    fn open(
        &self,
        (method, path): (&str, &str),
        headers: &str,
        body: &[u8],
    ) -> BufReader<TcpStream> {
        let mut stream = self.connect();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("write a request");
        stream.write_all(body).expect("write a body");
        BufReader::new(stream)
    }

    /// Status and body of a request that names the sandbox in headers.
    #[track_caller]
    fn ask(&self, line: (&str, &str), more: &str, body: &[u8]) -> (u16, String, Vec<u8>) {
        whole(self.open(line, &format!("{}{more}", self.named()), body))
    }

    /// The lines that name the sandbox's agent.
    fn named(&self) -> String {
        let id = &self.id;
        format!("host: 127.0.0.1\r\ne2b-sandbox-id: {id}\r\ne2b-sandbox-port: 49983\r\n")
    }

    fn shown(&self) -> String {
        format!("x-access-token: {}\r\n", self.token)
    }

    /// Starts a program in a stream of this codec.
    fn start(&self, kind: &str, more: &str, message: &[u8]) -> BufReader<TcpStream> {
        let headers = format!(
            "{}{}content-type: application/connect+{kind}\r\nconnect-protocol-version: 1\r\n{more}",
            self.named(),
            self.shown()
        );
        self.open(("POST", "/process.Process/Start"), &headers, &envelope(message))
    }
}

/// Status, head and body of an answer.
fn whole(mut stream: BufReader<TcpStream>) -> (u16, String, Vec<u8>) {
    let head = read_head(&mut stream).to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|it| it.parse().ok()).expect("a status");
    let mut body = Vec::new();
    stream.read_to_end(&mut body).expect("a body");
    let chunked = head.contains("transfer-encoding: chunked");
    let body = if chunked { http::unchunk(&body) } else { body };
    (status, head, body)
}

/// A message of a stream.
fn envelope(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a short message").to_be_bytes();
    [&[0], &length[..], message].concat()
}

/// The messages of a stream, with their flags.
fn messages(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut messages = Vec::new();
    while let [flags, a, b, c, d, rest @ ..] = bytes {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        messages.push((*flags, rest[..length].to_vec()));
        bytes = &rest[length..];
    }
    assert!(bytes.is_empty(), "half a message");
    messages
}

/// A field of a message in Protocol Buffers that is bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).expect("a short field");
    [&[number << 3 | 2, length], bytes].concat()
}

/// `StartRequest` for a shell line, without input.
fn shell(line: &str) -> Vec<u8> {
    let config = [field(1, b"/bin/sh"), field(2, b"-c"), field(2, line.as_bytes())].concat();
    [field(1, &config), vec![4 << 3, 0]].concat()
}

fn shell_json(line: &str) -> Vec<u8> {
    let process = json!({"cmd": "/bin/sh", "args": ["-c", line]});
    json!({"process": process, "stdin": false}).to_string().into_bytes()
}

#[test]
fn both_codecs_say_the_same() {
    let home = Home::new();
    let server = Server::start(&home);
    let made = Made::new(&server);
    let (status, head, body) = whole(made.start("proto", "", &shell("echo hello; exit 3")));
    assert_eq!(status, 200);
    assert!(head.contains("content-type: application/connect+proto\r\n"), "{head}");
    let all = messages(&body);
    let (last, events) = all.split_last().expect("messages");
    assert_eq!(last, &(2, b"{}".to_vec()));
    // StartResponse.event.start, with a pid; then data.stdout; then end.
    assert_eq!(events[0].1[2] >> 3, 1, "{events:?}");
    let data = field(1, &field(2, &field(1, b"hello\n")));
    assert!(events[1].1.windows(data.len() - 2).any(|it| it == &data[2..]), "{events:?}");
    let end = b"exit status 3";
    assert!(events[2].1.windows(end.len()).any(|it| it == end), "{events:?}");

    let (status, head, body) = whole(made.start("json", "", &shell_json("echo hello; exit 3")));
    assert_eq!(status, 200);
    assert!(head.contains("content-type: application/connect+json\r\n"), "{head}");
    let texts: Vec<Value> =
        messages(&body).iter().map(|it| serde_json::from_slice(&it.1).expect("JSON")).collect();
    assert!(texts[0]["event"]["start"]["pid"].is_number(), "{texts:?}");
    assert_eq!(texts[1]["event"]["data"]["stdout"], "aGVsbG8K");
    assert_eq!(texts[2]["event"]["end"]["exitCode"], 3);

    for (kind, question) in [("proto", &b""[..]), ("json", b"{}")] {
        let more = format!("{}content-type: application/{kind}\r\n", made.shown());
        let (status, head, _) = made.ask(("POST", "/process.Process/List"), &more, question);
        assert_eq!(status, 200, "{kind}");
        assert!(head.contains(&format!("content-type: application/{kind}\r\n")), "{head}");
    }
    // What a stream refuses comes at its end, and what is asked once in the answer's status.
    let unknown = json!({"process": {"cmd": "/no/such/program"}}).to_string();
    let (status, _, body) = whole(made.start("json", "", unknown.as_bytes()));
    let all = messages(&body);
    assert_eq!((status, all.len(), all[0].0), (200, 1, 2));
    assert!(String::from_utf8_lossy(&all[0].1).contains(r#""code":"not_found""#), "{all:?}");
    let more = format!("{}content-type: application/json\r\n", made.shown());
    let stat = br#"{"path":"/no/such/file"}"#;
    let (status, _, body) = made.ask(("POST", "/filesystem.Filesystem/Stat"), &more, stat);
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!((status, &body["code"]), (404, &json!("not_found")));
}

#[test]
fn a_silent_stream_gives_signs_of_life_and_ends_with_its_time() {
    let home = Home::new();
    let server = Server::start(&home);
    let made = Made::new(&server);
    let more = "keepalive-ping-interval: 1\r\nconnect-timeout-ms: 2500\r\n";
    let (status, _, body) = whole(made.start("json", more, &shell_json("sleep 60")));
    assert_eq!(status, 200);
    let all = messages(&body);
    let texts: Vec<String> =
        all.iter().map(|it| String::from_utf8_lossy(&it.1).into_owned()).collect();
    assert!(texts[0].contains("start") && texts[1].contains("keepalive"), "{texts:?}");
    assert!(texts.last().is_some_and(|it| it.contains("deadline_exceeded")), "{texts:?}");
}

#[test]
fn a_kill_cuts_streams_and_is_told_at_once() {
    let home = Home::new();
    let server = Server::start(&home);
    let made = Made::new(&server);
    let mut stream = made.start("json", "", &shell_json("echo up; sleep 60"));
    read_head(&mut stream);
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("stdout") {
        assert_ne!(stream.read_until(b'}', &mut seen).expect("a message"), 0, "{seen:?}");
    }
    assert_eq!(server.api("DELETE", &format!("/sandboxes/{}", made.id), &json!({})).status, 204);
    let mut rest = Vec::new();
    let ended = stream.read_to_end(&mut rest);
    assert!(ended.is_err() || !rest.ends_with(b"0\r\n\r\n"), "as if all had come: {rest:?}");
    let (status, _, body) = made.ask(("GET", "/health"), "", b"");
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    let gone = json!({"sandboxId": made.id, "message": "The sandbox was not found", "code": 502});
    assert_eq!((status, body), (502, gone));
}

#[test]
fn who_shows_no_token_does_nothing() {
    let home = Home::new();
    let server = Server::start(&home);
    let (made, other) = (Made::new(&server), Made::new(&server));
    assert_eq!(made.ask(("GET", "/health"), "", b"").0, 204);
    let json = "content-type: application/json\r\n";
    let foreign = format!("{json}{}", other.shown());
    for more in [json, &foreign] {
        let (status, head, body) = made.ask(("POST", "/process.Process/List"), more, b"{}");
        assert_eq!(status, 401, "{more}");
        assert!(head.contains("access-control-allow-origin: *"), "{head}");
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        let said = "unauthorized access, please provide a valid access token or method signing if \
                    supported";
        assert_eq!(body, json!({"code": 401, "message": said}));
    }
    // By its name it is the same agent, and what is the host's alone is not there.
    let host = format!("host: 49983-{}.localhost\r\n{}", made.id, made.shown());
    let open = |line, body: &[u8]| whole(made.open(line, &format!("{host}{json}"), body)).0;
    assert_eq!(open(("POST", "/process.Process/List"), b"{}"), 200);
    for path in ["/init", "/freeze", "/upgrade", "/port/22"] {
        assert_eq!(open(("POST", path), b"{}"), 404, "{path}");
    }
    // A native sandbox is not there for whoever has no token of it.
    let native = home.create(&json!({}));
    let named =
        format!("host: 127.0.0.1\r\ne2b-sandbox-id: {}\r\ne2b-sandbox-port: 49983\r\n", native.id);
    assert_eq!(whole(made.open(("GET", "/health"), &named, b"")).0, 502);
    // One that was made without a token has none.
    let open = json!({"templateID": "base", "secure": false, "timeout": 60});
    let open = server.api("POST", "/sandboxes", &open).json();
    assert_eq!(open["envdAccessToken"], Value::Null);
    let id = open["sandboxID"].as_str().expect("an id");
    let named =
        format!("host: 127.0.0.1\r\ne2b-sandbox-id: {id}\r\ne2b-sandbox-port: 49983\r\n{json}");
    assert_eq!(whole(made.open(("POST", "/process.Process/List"), &named, b"{}")).0, 200);
    // Both headers, or none.
    let half = format!("host: 127.0.0.1\r\ne2b-sandbox-id: {id}\r\n");
    let (status, _, body) = whole(made.open(("GET", "/health"), &half, b""));
    assert_eq!(status, 400);
    assert!(String::from_utf8_lossy(&body).contains("E2b-Sandbox-Port"), "{body:?}");
}
