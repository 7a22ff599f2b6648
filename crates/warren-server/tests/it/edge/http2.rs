//! HTTP/2, and gRPC on it.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt as _;
use tokio_util::task::TaskTracker;
use warren_server::Config;

use super::{World, backend::Backend};
use crate::tcp::{PATIENCE, rest};

type Sender = SendRequest<Full<Bytes>>;

/// A client that knows that the server speaks HTTP/2.
async fn client(world: &World) -> (Sender, tokio::task::JoinHandle<()>) {
    let stream = TokioIo::new(world.served.connect().await);
    let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let ended = TaskTracker::new().spawn(async move { drop(connection.await) });
    (sender, ended)
}

fn request(world: &World, path: &str, kind: &str, body: &'static [u8]) -> Request<Full<Bytes>> {
    Request::post(format!("http://{}{path}", world.host()))
        .header("content-type", kind)
        .header("te", "trailers")
        .header("x-warren-token", &world.token)
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(Full::new(Bytes::from_static(body)))
        .unwrap()
}

#[tokio::test]
async fn http_2_reaches_servers_of_http_1() {
    let world = World::new().await;
    let (mut sender, _ended) = client(&world).await;
    let answers =
        (0..20).map(|_| sender.send_request(request(&world, "/upload", "text/plain", b"hello")));
    let answers: Vec<_> = answers.collect();
    for answer in futures::future::join_all(answers).await {
        let answer = answer.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "5");
    }
    let seen = world.backend.last();
    assert_eq!(seen.headers["cookie"], "a=1; b=2");
    assert_eq!(seen.headers["host"], world.host());
    // The API speaks it too.
    let health = Request::get(format!("http://{}/v1/health", world.served.address));
    let health = sender.send_request(health.body(Full::default()).unwrap()).await.unwrap();
    assert_eq!(health.status(), 200);
    drop(sender);
    world.served.stop().await;
}

#[tokio::test]
async fn grpc_has_its_trailers() {
    let world = World::with(Config::default(), Backend::http2().await).await;
    let (mut sender, _ended) = client(&world).await;
    for _ in 0..3 {
        let call = request(&world, "/grpc", "application/grpc", b"message");
        let answer = sender.send_request(call).await.unwrap();
        assert_eq!(answer.status(), 200);
        let body = answer.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(body.to_bytes(), "message");
    }
    assert_eq!(world.backend.last().headers["te"], "trailers");
    // One to find out what it speaks, one for all requests.
    assert_eq!(world.app().runtime.dialled(), 2);
    drop(sender);
    world.served.stop().await;
}

#[tokio::test]
async fn grpc_to_a_server_of_http_1_is_a_request_like_others() {
    let world = World::new().await;
    let (mut sender, _ended) = client(&world).await;
    let call = request(&world, "/upload", "application/grpc", b"message");
    let answer = sender.send_request(call).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "7");
    drop(sender);
    world.served.stop().await;
}

#[tokio::test]
async fn a_client_of_http_2_that_idles_is_asked_to_go() {
    let config = Config { head_timeout: Duration::from_millis(200), ..Config::default() };
    let world = World::with(config, Backend::http1().await).await;
    let (mut sender, ended) = client(&world).await;
    let answer = sender.send_request(request(&world, "/upload", "text/plain", b"x")).await.unwrap();
    answer.into_body().collect().await.unwrap();
    tokio::time::timeout(PATIENCE, ended).await.expect("the server ends it").unwrap();
    // One that never says what it wants is not waited for either.
    let mut stream = world.served.connect().await;
    stream.write_all(b"PRI * HT").await.unwrap();
    assert_eq!(rest(stream).await, "");
    world.served.stop().await;
}
