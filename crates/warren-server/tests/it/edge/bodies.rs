//! Bodies of any size, and what a proxy changes in a head.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use warren_server::{Config, edge::Settings};

use super::{World, backend::Backend, field, is, read_head};
use crate::tcp::{PATIENCE, rest};

#[tokio::test]
async fn bodies_of_any_size_pass_both_ways() {
    let world = World::new().await;
    let answer = world.let_in("/download", "").await;
    assert!(is(&answer, 200).len() > 16 << 20, "in chunks");
    let mut stream = world.served.connect().await;
    let length = 16 << 20;
    let lines = format!("x-warren-token: {}\r\ncontent-length: {length}\r\n", world.token);
    stream.write_all(world.head("POST /upload", &lines).as_bytes()).await.unwrap();
    let piece = vec![b'y'; 1 << 20];
    for _ in 0..16 {
        stream.write_all(&piece).await.unwrap();
    }
    assert_eq!(is(&rest(stream).await, 200), length.to_string());
    assert_eq!(world.backend.last().headers["content-length"], length.to_string());
    let lines = format!("x-warren-token: {}\r\ntransfer-encoding: chunked\r\n", world.token);
    let chunks = "5\r\nhello\r\n6; x=y\r\n world\r\n0\r\n\r\n";
    let answer = world.raw(&format!("{}{chunks}", world.head("POST /upload", &lines))).await;
    assert_eq!(is(&answer, 200), "11");
    world.served.stop().await;
}

#[tokio::test]
async fn nobody_buffers_for_a_guest_that_does_not_read() {
    let world = World::new().await;
    let mut stream = world.served.connect().await;
    let lines = format!("x-warren-token: {}\r\ncontent-length: 1073741824\r\n", world.token);
    stream.write_all(world.head("POST /never-reads", &lines).as_bytes()).await.unwrap();
    let piece = vec![b'z'; 1 << 20];
    let mut sent = 0_usize;
    // The kernel's buffers on both ways take some.
    while sent < 256 {
        match tokio::time::timeout(Duration::from_secs(1), stream.write_all(&piece)).await {
            Ok(written) => written.unwrap(),
            Err(_full) => break,
        }
        sent += 1;
    }
    assert!(sent < 64, "{sent} MiB were taken");
    drop(stream);
    world.served.stop().await;
}

#[tokio::test]
async fn a_body_is_asked_for_only_when_its_sender_is_let_in() {
    let world = World::new().await;
    let expecting = "expect: 100-continue\r\ncontent-length: 5\r\n";
    let mut stream = world.served.connect().await;
    stream.write_all(world.head("POST /upload", expecting).as_bytes()).await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 404"));
    let mut stream = world.served.connect().await;
    let lines = format!("{expecting}x-warren-token: {}\r\n", world.token);
    stream.write_all(world.head("POST /upload", &lines).as_bytes()).await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 100"));
    stream.write_all(b"hello").await.unwrap();
    assert_eq!(is(&rest(stream).await, 200), "5");
    world.served.stop().await;
}

#[tokio::test]
async fn a_head_has_only_what_is_for_the_other_end() {
    let world = World::new().await;
    let lies = "x-forwarded-for: 10.0.0.1\r\nforwarded: for=10.0.0.1\r\nkeep-alive: 5\r\n\
                proxy-connection: close\r\nx-own: 1\r\nte: trailers, gzip\r\n";
    let answer = world.let_in("/hops", lies).await;
    is(&answer, 200);
    let seen = world.backend.last();
    assert_eq!(seen.headers["host"], world.host());
    assert_eq!(seen.headers["x-forwarded-host"], world.host());
    assert_eq!(seen.headers["x-forwarded-for"], "127.0.0.1");
    assert_eq!(seen.headers["x-forwarded-proto"], "http");
    assert_eq!((&*seen.headers["x-own"], &*seen.headers["te"]), ("1", "trailers"));
    for gone in ["forwarded", "keep-alive", "proxy-connection", "connection"] {
        assert!(!seen.headers.contains_key(gone), "{gone}");
    }
    assert_eq!(field(&answer, "set-cookie"), Some("own=1"));
    for gone in ["x-private", "keep-alive", "warren-edge"] {
        assert_eq!(field(&answer, gone), None, "{answer}");
    }
    let answer =
        world.raw(&world.head("HEAD /abc", &format!("x-warren-token: {}\r\n", world.token))).await;
    assert_eq!((is(&answer, 200), field(&answer, "content-length")), ("", Some("4")));
    world.expose(r#"{"mask_request_host":"localhost:${PORT}"}"#).await;
    is(&world.let_in("/", "").await, 200);
    let seen = world.backend.last();
    assert_eq!(seen.headers["host"], "localhost:3000");
    assert_eq!(seen.headers["x-forwarded-host"], world.host());
    world.served.stop().await;
}

#[tokio::test]
async fn a_proxy_that_is_trusted_says_who_asks() {
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let edge = Settings { trusted_proxies, ..Settings::default() };
    let config = Config { edge, ..Config::default() };
    let world = World::with(config, Backend::http1().await).await;
    let lines = "x-forwarded-for: 192.0.2.7\r\nx-forwarded-proto: https\r\n";
    is(&world.let_in("/", lines).await, 200);
    let seen = world.backend.last();
    assert_eq!(seen.headers["x-forwarded-for"], "192.0.2.7, 127.0.0.1");
    assert_eq!(seen.headers["x-forwarded-proto"], "https");
    let target = format!("/?warren_token={}", world.token);
    let answer = world.get(&target, &format!("accept: text/html\r\n{lines}")).await;
    let cookie = field(&answer, "set-cookie").unwrap();
    assert!(cookie.starts_with("__Host-") && cookie.ends_with("; Secure"), "{cookie}");
    world.served.stop().await;
}

#[tokio::test]
async fn a_visitor_who_leaves_takes_the_request_along() {
    let world = World::new().await;
    let mut stream = world.served.connect().await;
    let head = world.head("GET /events", &format!("x-warren-token: {}\r\n", world.token));
    stream.write_all(head.as_bytes()).await.unwrap();
    read_head(&mut stream).await;
    world.backend.say("data: x\n\n");
    stream.read_u8().await.unwrap();
    drop(stream);
    // Nothing is under way any more once the server has seen it.
    let gone = async {
        while world.app().app.activity().in_flight > 0 {
            world.backend.say("data: x\n\n");
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("it is not kept");
    world.served.stop().await;
}

#[tokio::test]
async fn a_domain_that_is_said_to_be_secure_is() {
    let edge = Settings { domain: "https://localhost".parse().unwrap(), ..Settings::default() };
    let config = Config { edge, ..Config::default() };
    let world = World::with(config, Backend::http1().await).await;
    let target = format!("/?warren_token={}", world.token);
    let answer = world.get(&target, "accept: text/html\r\n").await;
    let place = format!("https://{}/", world.host());
    assert_eq!(field(&answer, "location"), Some(&*place));
    let cookie = field(&answer, "set-cookie").unwrap();
    assert!(cookie.starts_with("__Host-") && cookie.ends_with("; Secure"), "{cookie}");
    is(&world.let_in("/", "").await, 200);
    assert_eq!(world.backend.last().headers["x-forwarded-proto"], "https");
    world.served.stop().await;
}

#[tokio::test]
async fn a_body_is_passed_on_whatever_the_method() {
    let world = World::new().await;
    for method in ["GET", "DELETE", "HEAD", "OPTIONS", "POST"] {
        let lines = format!("x-warren-token: {}\r\ntransfer-encoding: chunked\r\n", world.token);
        let head = world.head(&format!("{method} /upload"), &lines);
        let answer = world.raw(&format!("{head}5\r\nhello\r\n0\r\n\r\n")).await;
        let body = is(&answer, 200);
        assert!(method == "HEAD" || body == "5", "{method}: {answer}");
        assert_eq!(world.backend.last().headers["transfer-encoding"], "chunked", "{method}");
    }
    is(&world.let_in("/", "").await, 200);
    assert!(!world.backend.last().headers.contains_key("transfer-encoding"));
    world.served.stop().await;
}

#[tokio::test]
async fn an_answer_in_chunks_has_no_length() {
    let world = World::new().await;
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n\
                  5\r\nhello\r\n0\r\n\r\n";
    let (address, _) = super::backend::raw(answer).await;
    world.app().runtime.set_port(3000, Some(address));
    let answer = world.let_in("/", "").await;
    assert_eq!(field(&answer, "content-length"), None, "{answer}");
    assert!(is(&answer, 200).contains("hello"), "{answer}");
    world.served.stop().await;
}
