//! Connections: kept, changed to another protocol, cut; and answers that come bit by bit.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_util::task::TaskTracker;
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

/// A port of which each connection answers one request, and closes when the next one comes. Counts
/// the requests.
async fn answers_once(world: &World) -> Arc<AtomicUsize> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.app().runtime.set_port(3000, Some(listener.local_addr().unwrap()));
    let count = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&count);
    TaskTracker::new().spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let counted = Arc::clone(&counted);
            TaskTracker::new().spawn(async move {
                read_head(&mut stream).await;
                counted.fetch_add(1, Ordering::AcqRel);
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                stream.write_all(answer).await.unwrap();
                read_head(&mut stream).await;
                counted.fetch_add(1, Ordering::AcqRel);
            });
        }
    });
    count
}

#[tokio::test]
async fn what_may_be_asked_twice_survives_a_connection_that_ends() {
    let world = World::new().await;
    let count = answers_once(&world).await;
    is(&world.let_in("/", "").await, 200);
    // The second request comes to a connection that ends of it, and once more to another one.
    assert_eq!(is(&world.let_in("/", "").await, 200), "ok");
    assert_eq!(count.load(Ordering::Acquire), 3);
    // What may not be done twice is not.
    let lines = format!("x-warren-token: {}\r\ncontent-length: 0\r\n", world.token);
    is(&world.raw(&world.head("POST /", &lines)).await, 502);
    assert_eq!(count.load(Ordering::Acquire), 4);
    world.served.stop().await;
}

#[tokio::test]
async fn an_upload_does_not_wait_for_a_reader_of_its_answer() {
    const ALL: usize = 48 << 20;
    let world = World::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.app().runtime.set_port(3000, Some(listener.local_addr().unwrap()));
    let mut visitor = world.served.connect().await;
    let lines = format!("x-warren-token: {}\r\ncontent-length: {ALL}\r\n", world.token);
    visitor.write_all(world.head("POST /", &lines).as_bytes()).await.unwrap();
    let (mut port, _) = listener.accept().await.unwrap();
    read_head(&mut port).await;
    port.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    let (mut from, mut to) = port.into_split();
    let answering = TaskTracker::new().spawn(async move {
        let piece = vec![b'x'; 1 << 20];
        while to.write_all(&piece).await.is_ok() {}
    });
    let (_unread, mut sending) = visitor.into_split();
    let sent = async {
        let piece = vec![b'y'; 1 << 20];
        for _ in 0..ALL >> 20 {
            sending.write_all(&piece).await.unwrap();
        }
    };
    let came = async {
        let (mut all, mut buffer) = (0, vec![0; 1 << 16]);
        while all < ALL {
            all += from.read(&mut buffer).await.unwrap();
        }
    };
    let both = async { tokio::join!(sent, came) };
    tokio::time::timeout(PATIENCE, both).await.expect("it goes on");
    answering.abort();
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

#[tokio::test]
async fn strangers_leave_places_for_those_with_a_token() {
    let edge = Settings { requests_per_sandbox: 2, ..Settings::default() };
    let config = Config { edge, ..Config::default() };
    let world = World::with(config, Backend::http1().await).await;
    world.expose(r#"{"public_ports":[3000]}"#).await;
    let _stranger = world.socket("").await;
    is(&world.get("/", "").await, 429);
    is(&world.let_in("/", "").await, 200);
    world.served.stop().await;
}
