//! Connections: kept, changed to another protocol, cut; and answers that come bit by bit.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use warren_core::Caller;
use warren_server::{Config, edge::Settings};

use super::{World, backend::Backend, is, read_head};
use crate::tcp::{PATIENCE, rest};

#[tokio::test]
async fn connections_to_a_port_are_used_again_until_it_rests() {
    let world = World::new().await;
    let dialled = || world.app().runtime.dialled();
    for _ in 0..5 {
        is(&world.let_in("/", "").await, 200);
        is(&world.let_in("/download", "").await, 200);
    }
    assert_eq!(dialled(), 1);
    // So are the visitors' own.
    let mut stream = world.served.connect().await;
    for _ in 0..3 {
        let (host, token) = (world.host(), &world.token);
        let request =
            format!("GET /abc HTTP/1.1\r\nhost: {host}\r\nx-warren-token: {token}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200"));
        let mut body = [0; 4];
        stream.read_exact(&mut body).await.unwrap();
        assert_eq!(&body, b"/abc");
    }
    assert_eq!(dialled(), 1);
    let local = Caller::local();
    let sandboxes = world.app().app.sandboxes();
    sandboxes.pause(&local, &world.id).await.unwrap();
    sandboxes.resume(&local, &world.id).await.unwrap();
    let again = async {
        while dialled() == 1 {
            is(&world.let_in("/", "").await, 200);
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("it was closed when the sandbox rested");
    world.served.stop().await;
}

#[tokio::test]
async fn a_connection_that_the_guest_has_closed_is_not_used() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let world = World::new().await;
    let (address, seen) = super::backend::raw(answer).await;
    world.app().runtime.set_port(3000, Some(address));
    // Each connection answers once, and then never again.
    let first = world.let_in("/", "").await;
    assert!(!seen.lock().unwrap().is_empty());
    assert!(first.starts_with("HTTP/1.1 200") || first.starts_with("HTTP/1.1 502"), "{first}");
    world.served.stop().await;
}

#[tokio::test]
async fn a_web_socket_is_a_pipe() {
    let world = World::new().await;
    let mut stream = world.socket(&format!("x-warren-token: {}\r\n", world.token)).await;
    for _ in 0..3 {
        stream.write_all(b"there").await.unwrap();
        let mut back = [0; 5];
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"there");
    }
    // Half of it may end first.
    stream.write_all(b"last").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(rest(stream).await, "last");
    world.served.stop().await;
}

#[tokio::test]
async fn a_web_socket_ends_when_its_visitor_is_locked_out() {
    let world = World::new().await;
    let links = format!("/v1/sandboxes/{}/links", world.id);
    let stream = world.socket(&format!("x-warren-token: {}\r\n", world.token)).await;
    world.app().ask("DELETE", &links, "").await.expect(204);
    assert_eq!(rest(stream).await, "");
    world.expose(r#"{"public_ports":[3000]}"#).await;
    let stream = world.socket("").await;
    world.expose(r#"{"public_ports":[]}"#).await;
    assert_eq!(rest(stream).await, "");
    // And when the server goes.
    world.expose(r#"{"public_ports":[3000]}"#).await;
    let stream = world.socket("").await;
    world.served.stop().await;
    assert_eq!(rest(stream).await, "");
}

#[tokio::test]
async fn events_come_as_they_are_said() {
    let world = World::new().await;
    let mut stream = world.served.connect().await;
    let head = world.head("GET /events", &format!("x-warren-token: {}\r\n", world.token));
    stream.write_all(head.as_bytes()).await.unwrap();
    assert!(read_head(&mut stream).await.contains("content-type: text/event-stream"));
    for text in ["data: one\n\n", "data: two\n\n"] {
        world.backend.say(text);
        let mut said = String::new();
        while !said.contains(text) {
            let mut byte = [0; 64];
            let read = tokio::time::timeout(PATIENCE, stream.read(&mut byte)).await.unwrap();
            said.push_str(std::str::from_utf8(&byte[..read.unwrap()]).unwrap());
        }
    }
    drop(stream);
    world.served.stop().await;
}

#[tokio::test]
async fn requests_to_one_sandbox_have_a_limit() {
    let edge = Settings { requests_per_sandbox: 1, ..Settings::default() };
    let config = Config { edge, ..Config::default() };
    let world = World::with(config, Backend::http1().await).await;
    let stream = world.socket(&format!("x-warren-token: {}\r\n", world.token)).await;
    is(&world.let_in("/", "").await, 429);
    drop(stream);
    let again = async { while world.let_in("/", "").await.starts_with("HTTP/1.1 429") {} };
    tokio::time::timeout(PATIENCE, again).await.expect("its place is free again");
    world.served.stop().await;
}
