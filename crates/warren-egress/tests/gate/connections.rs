//! Connections on which requests come: how many there are, and when they end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};
use warren_egress::Patience;

use crate::{requests::describe, world::World};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
/// Much longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(50);

/// Sends a request in HTTP/1.1 and gives the answer, up to its last byte.
async fn ask(client: &mut TcpStream, request: &[u8]) -> String {
    client.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head.lines().find_map(|it| it.strip_prefix("content-length: "));
            if body.len() == length.unwrap().parse::<usize>().unwrap() {
                return text;
            }
        }
        assert!(client.read_buf(&mut answer).await.unwrap() > 0, "{text}");
    }
}

/// A client that speaks HTTP/2, and its connection until that ends.
async fn http2(stream: TcpStream) -> (http2::SendRequest<Full<Bytes>>, JoinHandle<()>) {
    let (sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    #[allow(clippy::disallowed_methods, reason = "ends with the connection that the test makes")]
    let connection = tokio::spawn(async move { drop(connection.await) });
    (sender, connection)
}

fn post(host: &str) -> Request<Full<Bytes>> {
    Request::post(format!("http://{host}/")).body(Full::new(Bytes::from_static(b"body"))).unwrap()
}

#[tokio::test]
async fn a_connection_outlives_the_answer_that_it_was_made_by() {
    let mut world = World::new(&["a.example", "b.example"]);
    let server = world.server(describe).await;
    let mut client = world.connect(server).await;
    assert!(ask(&mut client, GET).await.starts_with("HTTP/1.1 200 OK"));
    world.passport.expire();
    assert!(ask(&mut client, GET).await.starts_with("HTTP/1.1 200 OK"));
    // Another name has no part in it, nor has another connection.
    let other = b"GET / HTTP/1.1\r\nHost: b.example\r\n\r\n";
    assert!(ask(&mut client, other).await.starts_with("HTTP/1.1 403"));
    let mut client = world.connect(server).await;
    assert!(ask(&mut client, GET).await.starts_with("HTTP/1.1 403"));
}

#[tokio::test]
async fn requests_at_once_share_one_connection_to_the_other_side() {
    let mut world = World::new(&["a.example"]);
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    let count = move |stream: TcpStream| {
        counter.fetch_add(1, Ordering::Relaxed);
        describe(stream)
    };
    let server = world.server(count).await;
    let client = TokioIo::new(world.connect(server).await);
    let (mut sender, mut connection) =
        http2::handshake(TokioExecutor::new(), client).await.unwrap();
    let all = (0..100).map(|_| sender.send_request(post("a.example")));
    tokio::select! {
        ended = &mut connection => panic!("{ended:?}"),
        responses = futures::future::join_all(all) => for response in responses {
            assert_eq!(response.unwrap().status(), StatusCode::OK);
        }
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
    assert_eq!(connection.current_max_send_streams(), 100);
    // What would come so is a WebSocket, which needs a connection of its own.
    assert!(!connection.is_extended_connect_protocol_enabled());
}

#[tokio::test]
async fn a_client_that_goes_away_ends_what_it_has_asked_for() {
    let mut world = World::new(&["a.example"]);
    world.wait(Patience { closed: SHORT, ..Patience::default() });
    let (asked, mut was_asked) = mpsc::unbounded_channel();
    let (ended, mut was_ended) = mpsc::unbounded_channel();
    let silent = move |mut stream: TcpStream| {
        let (asked, ended) = (asked.clone(), ended.clone());
        async move {
            stream.read_exact(&mut [0; 16]).await.unwrap();
            asked.send(()).unwrap();
            // How it ends does not matter.
            let _ended = stream.read_to_end(&mut Vec::new()).await;
            ended.send(()).unwrap();
        }
    };
    let server = world.server(silent).await;
    let mut client = world.connect(server).await;
    client.write_all(GET).await.unwrap();
    was_asked.recv().await.unwrap();
    drop(client);
    timeout(LONG, was_ended.recv()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_request_on_which_nothing_happens_ends() {
    let mut world = World::new(&["a.example"]);
    world.wait(Patience { idle: SHORT, ..Patience::default() });
    let silent = |mut stream: TcpStream| async move {
        // How it ends does not matter.
        let _ended = stream.read_to_end(&mut Vec::new()).await;
    };
    let server = world.server(silent).await;
    let mut client = world.connect(server).await;
    client.write_all(GET).await.unwrap();
    let mut rest = Vec::new();
    let _reset = timeout(LONG, client.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty(), "{}", rest.escape_ascii());
}

#[tokio::test]
async fn a_connection_of_http2_ends_when_no_request_comes() {
    let mut world = World::new(&["a.example"]);
    world.wait(Patience { between: SHORT, ..Patience::default() });
    let server = world.server(describe).await;
    let (mut sender, connection) = http2(world.connect(server).await).await;
    let response = sender.send_request(post("a.example")).await.unwrap();
    drop(response.into_body().collect().await.unwrap());
    timeout(LONG, connection).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_request_that_meets_the_end_of_a_connection_is_sent_again_where_it_may() {
    let mut world = World::new(&["a.example"]);
    // Answers one request, and closes when it has read the next.
    let closes = |mut stream: TcpStream| async move {
        let mut head = [0; 1024];
        let _read = stream.read(&mut head).await.unwrap();
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        stream.write_all(answer).await.unwrap();
        let _read = stream.read(&mut head).await;
    };
    let server = world.server(closes).await;
    let mut client = world.connect(server).await;
    for _ in 0..3 {
        assert!(ask(&mut client, GET).await.ends_with("hi"));
    }
    let post = b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1\r\n\r\nx";
    let answer = ask(&mut client, post).await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
}
