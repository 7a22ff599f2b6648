//! What nobody should send. The agent answers or hangs up, and goes on.

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::client::{Agent, in_time, request};

const JSON: (&str, &str) = ("content-type", "application/json");
const STREAM: (&str, &str) = ("content-type", "application/connect+json");

#[tokio::test]
async fn bytes_that_are_no_http_end_the_connection_only() {
    let agent = Agent::start().await;
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(600_000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(5000));
    let garbage: Vec<u8> = (0..100_000_u32).map(|it| (it * 7919) as u8).collect();
    let cases: [&[u8]; 9] = [
        b"\0\0\0\0\0\0\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"POST /files HTTP/1.1\r\ncontent-length: -5\r\n\r\n",
        b"POST /files HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"POST /files HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzzz\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        long.as_bytes(),
        many.as_bytes(),
        &garbage,
    ];
    for socket in ["envd.sock", "control.sock"] {
        for case in cases {
            let mut stream = agent.socket(socket).await;
            // The agent may hang up before it has read everything.
            drop(stream.write_all(case).await);
            drop(stream.shutdown().await);
            let mut answer = Vec::new();
            drop(in_time("the end of the connection", stream.read_to_end(&mut answer)).await);
            let text = String::from_utf8_lossy(&answer);
            assert!(!text.starts_with("HTTP/1.1 2"), "{text}");
        }
    }
    assert_eq!(agent.http("GET", "/health", &[], "").await.status, 204);
}

#[tokio::test]
async fn unary_calls_refuse_what_they_cannot_read() {
    let agent = Agent::start().await;
    let deep = "[".repeat(100_000);
    let bodies: [&[u8]; 7] = [
        b"",
        b"{",
        b"\xff\xfe",
        b"{\"path\": 5}",
        b"{\"path\": {\"path\": \"x\"}}",
        b"{\"path\": \"a\", \"path\": \"b\"}",
        deep.as_bytes(),
    ];
    for body in bodies {
        let path = "/filesystem.Filesystem/Stat";
        let answer = agent.http("POST", path, &[JSON], body.to_vec()).await;
        assert_eq!((answer.status, &answer.json()["code"]), (400, &json!("invalid_argument")));
    }
    let binary = [("content-type", "application/proto")];
    for body in [&[0x0a, 0xff][..], &[0xff; 11], &[0x0a, 0x01, 0xff]] {
        let answer =
            agent.http("POST", "/filesystem.Filesystem/Stat", &binary, body.to_vec()).await;
        assert_eq!((answer.status, &answer.json()["code"]), (400, &json!("invalid_argument")));
    }
    // The agent answers before it has read all of this, and hangs up.
    let long = request("POST", "/filesystem.Filesystem/Stat", &[JSON], vec![b' '; 5 << 20]);
    if let Ok(response) = agent.try_send("envd.sock", long).await {
        assert!(response.status().is_client_error(), "{}", response.status());
    }
    assert_eq!(agent.http("GET", "/health", &[], "").await.status, 204);
}

#[tokio::test]
async fn streams_refuse_in_the_stream() {
    let agent = Agent::start().await;
    let envelope = |flags: u8, length: u32, payload: &[u8]| {
        [&[flags][..], &length.to_be_bytes(), payload].concat()
    };
    for body in [
        vec![],
        vec![0, 0, 0],
        envelope(0, 100, b"{}"),
        envelope(0, u32::MAX, b"{}"),
        envelope(1, 2, b"{}"),
        envelope(0, 1, b"{"),
        envelope(0, 2, b"{}"),
        [envelope(0, 2, b"{}"), envelope(0, 2, b"{}")].concat(),
    ] {
        for method in [
            "process.Process/Start",
            "process.Process/Connect",
            "filesystem.Filesystem/WatchDir",
            "process.Process/StreamInput",
        ] {
            // A watch of the default directory is a good request: its time ends it.
            let headers = [STREAM, ("connect-timeout-ms", "200")];
            let answer = agent.http("POST", &format!("/{method}"), &headers, body.clone()).await;
            assert_eq!(answer.status, 200, "{method} {body:?}");
            assert_eq!(answer.header("content-type"), "application/connect+json");
            let text = String::from_utf8_lossy(&answer.body);
            assert!(
                text.contains("error") || method.ends_with("Input"),
                "{method} {body:?}: {text}"
            );
        }
    }
}

#[tokio::test]
async fn methods_and_types_that_do_not_exist_are_refused() {
    let agent = Agent::start().await;
    let unknown = agent.http("POST", "/process.Process/NoSuch", &[JSON], "{}").await;
    assert_eq!((unknown.status, &unknown.json()["code"]), (404, &json!("unimplemented")));
    assert_eq!(agent.http("GET", "/no/such", &[], "").await.status, 404);
    assert_eq!(agent.http("POST", "/no.Service/Method", &[JSON], "{}").await.status, 404);
    let text = [("content-type", "text/plain")];
    assert_eq!(agent.http("POST", "/process.Process/List", &text, "{}").await.status, 415);
    let wrong = agent.http("POST", "/process.Process/Start", &[JSON], "{}").await;
    assert!(wrong.status >= 400, "a stream asked for as unary: {}", wrong.status);
}

#[tokio::test]
async fn users_that_cannot_be_read_are_unauthenticated() {
    let agent = Agent::start().await;
    for value in ["Basic", "Basic !!!", "Basic /////w==", "nonsense"] {
        let headers = [JSON, ("authorization", value)];
        let answer = agent.http("POST", "/filesystem.Filesystem/Stat", &headers, "{}").await;
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (401, &json!("unauthenticated")),
            "{value}"
        );
        let path = "/files?path=/etc/passwd";
        assert_eq!(agent.http("GET", path, &[("authorization", value)], "").await.status, 401);
    }
}
