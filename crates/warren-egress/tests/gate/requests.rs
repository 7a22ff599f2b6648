//! Requests over plain HTTP, which are looked at one by one.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use warren_egress::Reason;

use crate::world::World;

/// Says what was asked, in either version of HTTP.
pub(crate) async fn describe(stream: TcpStream) {
    let service = service_fn(|request: Request<Incoming>| async move {
        let (parts, body) = request.into_parts();
        let host = parts.headers.get("host").and_then(|it| it.to_str().ok());
        let host = host.map(str::to_owned).or(parts.uri.host().map(str::to_owned));
        let body = body.collect().await.unwrap().to_bytes();
        let text = format!(
            "{} {} {} {} bytes",
            parts.method,
            host.unwrap_or_default(),
            parts.uri.path(),
            body.len()
        );
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
    });
    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    // The gate closes as it likes.
    drop(builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await);
}

/// Sends these bytes and gives what comes back until the connection ends.
async fn ask(world: &mut World, request: &str) -> String {
    let server = world.server(describe).await;
    let mut client = world.connect(server).await;
    client.write_all(request.as_bytes()).await.unwrap();
    client.shutdown().await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn requests_of_one_connection_are_decided_one_by_one() {
    let mut world = World::new(&["a.example"]);
    let asked = "GET /1 HTTP/1.1\r\nHost: a.example\r\n\r\n\
                 GET /2 HTTP/1.1\r\nHost: b.example\r\n\r\n\
                 POST http://a.example/3 HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\nhi";
    let answer = ask(&mut world, asked).await;
    assert!(answer.contains("GET a.example /1 0 bytes"), "{answer}");
    assert!(answer.contains("HTTP/1.1 403 Forbidden"), "{answer}");
    assert!(answer.contains("b.example was not reached: the rules"), "{answer}");
    assert!(!answer.contains("GET b.example"), "{answer}");
    assert!(answer.contains("POST a.example /3 2 bytes"), "{answer}");
    let denied = world.denials.recv().await.unwrap();
    assert_eq!((denied.name.unwrap().as_str(), denied.reason), ("b.example", Reason::Rule));
}

#[tokio::test]
async fn lies_about_the_host_are_refused() {
    let lies = [
        ("Host: a.example\r\nHost: a.example\r\n", "/", Reason::Contradiction),
        ("Host: a.example\r\nHost: b.example\r\n", "/", Reason::Contradiction),
        ("Host: a.example\r\n", "http://b.example/", Reason::Contradiction),
        ("Host: b.example\r\n", "http://a.example/", Reason::Contradiction),
        ("Host: a.example@b.example\r\n", "/", Reason::Contradiction),
        ("Host: 127.0.0.1\r\n", "/", Reason::NoName),
        ("", "/", Reason::NoName),
    ];
    for (hosts, target, reason) in lies {
        let mut world = World::new(&["a.example"]);
        let answer = ask(&mut world, &format!("GET {target} HTTP/1.1\r\n{hosts}\r\n")).await;
        assert!(answer.contains("was not reached"), "{hosts} {target}: {answer}");
        assert_eq!(world.denials.recv().await.unwrap().reason, reason, "{hosts} {target}");
    }
}

#[tokio::test]
async fn a_second_request_does_not_hide_in_the_first() {
    let mut world = World::new(&["a.example"]);
    let hidden = "GET /hidden HTTP/1.1\r\nHost: b.example\r\n\r\n";
    let asked = format!(
        "POST /x HTTP/1.1\r\nHost: a.example\r\nContent-Length: 4\r\n\
         Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"
    );
    let answer = ask(&mut world, &asked).await;
    assert!(!answer.contains("/hidden"), "{answer}");
}

#[tokio::test]
async fn a_body_in_chunks_passes_whatever_the_method() {
    let mut world = World::new(&["a.example"]);
    let asked = "GET /x HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n\
                 2\r\nhi\r\n0\r\n\r\n";
    let answer = ask(&mut world, asked).await;
    assert!(answer.contains("GET a.example /x 2 bytes"), "{answer}");
}

#[tokio::test]
async fn only_what_is_no_http_may_follow() {
    for (asked, passed) in [("h2c", ""), ("websocket, h2c", "websocket"), ("TLS/1.0", "")] {
        let mut world = World::new(&["a.example"]);
        let echo = |mut stream: TcpStream| async move {
            let mut head = vec![0; 2000];
            let read = stream.read(&mut head).await.unwrap();
            let length = format!("HTTP/1.1 200 OK\r\nContent-Length: {read}\r\n\r\n");
            stream.write_all(length.as_bytes()).await.unwrap();
            stream.write_all(&head[..read]).await.unwrap();
        };
        let server = world.server(echo).await;
        let mut client = world.connect(server).await;
        let request = format!(
            "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade, http2-settings\r\n\
             Upgrade: {asked}\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
        );
        client.write_all(request.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        let sent = answer.to_ascii_lowercase();
        let upgrade = sent.lines().find_map(|line| line.strip_prefix("upgrade: "));
        assert_eq!(upgrade.unwrap_or_default(), passed, "{answer}");
        assert!(!sent.contains("http2-settings"), "{answer}");
    }
}

#[tokio::test]
async fn http2_without_tls_is_read_too() {
    let mut world = World::new(&["a.example"]);
    let server = world.server(describe).await;
    let client = world.connect(server).await;
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
    world.tasks.spawn(async move { drop(connection.await) });
    for (host, status) in [
        ("a.example", StatusCode::OK),
        ("b.example", StatusCode::FORBIDDEN),
        ("a.example", StatusCode::OK),
    ] {
        let request = Request::post(format!("http://{host}/path"));
        let request = request.body(Full::new(Bytes::from_static(b"body"))).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), status, "{host}");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&body);
        assert_eq!(status == StatusCode::OK, text.contains("POST a.example /path 4 bytes"));
    }
}

#[tokio::test]
async fn a_connection_of_http_is_cut_when_the_rules_change() {
    let mut world = World::new(&["a.example"]);
    let server = world.server(describe).await;
    let mut client = world.connect(server).await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await.unwrap();
    let mut answer = [0; 64];
    let read = client.read(&mut answer).await.unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 200 OK"));
    world.passport.allow(&["b.example"]);
    let mut rest = Vec::new();
    let _reset = client.read_to_end(&mut rest).await;
    assert_eq!(world.denials.recv().await.unwrap().reason, Reason::Changed);
}

#[tokio::test]
async fn a_host_that_is_away_is_said_so() {
    let mut world = World::new(&["a.example"]);
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let mut client = world.connect(nobody).await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await.unwrap();
    let mut answer = [0; 1024];
    let read = client.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]);
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
}
