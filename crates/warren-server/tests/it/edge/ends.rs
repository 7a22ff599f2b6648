//! When connections that have stopped being HTTP end, and what they count for until then.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use warren_core::Caller;
use warren_server::Config;

use super::{World, backend::Backend, read_head};
use crate::tcp::{PATIENCE, rest};

const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
                        upgrade: websocket\r\n\r\n";

#[tokio::test]
async fn a_web_socket_is_a_connection_like_others() {
    let config = Config { connections: 1, ..Config::default() };
    let world = World::with(config, Backend::http1().await).await;
    let stream = world.socket(&format!("x-warren-token: {}\r\n", world.token)).await;
    assert_eq!(rest(world.served.connect().await).await, "", "there is no place for a second one");
    drop(stream);
    let again = async { while world.let_in("/", "").await.is_empty() {} };
    tokio::time::timeout(PATIENCE, again).await.expect("its place is free again");
    world.served.stop().await;
}

#[tokio::test]
async fn a_stream_to_a_port_is_a_connection_like_others() {
    let config = Config { connections: 1, ..Config::default() };
    let world = World::with(config, Backend::http1().await).await;
    let client = super::reverse::client(&world, "default").await;
    let stream = client.connect_port(&world.id, 3000).await.unwrap();
    assert_eq!(rest(world.served.connect().await).await, "", "there is no place for a second one");
    drop(stream);
    world.served.stop().await;
}

#[tokio::test]
async fn nothing_outlives_its_sandbox() {
    let world = World::new().await;
    let socket = world.socket(&format!("x-warren-token: {}\r\n", world.token)).await;
    let client = super::reverse::client(&world, "default").await;
    let mut stream = client.connect_port(&world.id, 3000).await.unwrap();
    // What listens here lives on, as what has left its sandbox by a trick would.
    world.app().app.sandboxes().stop(&Caller::local(), &world.id).await.unwrap();
    assert_eq!(rest(socket).await, "");
    let ended = tokio::time::timeout(PATIENCE, stream.read_u8()).await.expect("it ends too");
    ended.unwrap_err();
    world.served.stop().await;
}

#[tokio::test]
async fn a_web_socket_ends_with_the_token_it_was_opened_by() {
    let world = World::new().await;
    let links = format!("/v1/sandboxes/{}/links", world.id);
    let link = world.app().post(&links, r#"{"port":3000,"expires_seconds":2}"#).await.expect(200);
    let token = link["token"].as_str().unwrap();
    let stream = world.socket(&format!("x-warren-token: {token}\r\n")).await;
    assert_eq!(rest(stream).await, "");
    // Whoever needs no token is not asked for the end of one.
    world.expose(r#"{"public_ports":[3000]}"#).await;
    let mut stream = world.socket("").await;
    world.app().ask("DELETE", &links, "").await.expect(204);
    stream.write_all(b"x").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'x');
    world.served.stop().await;
}

#[tokio::test]
async fn a_token_that_is_revoked_while_the_port_thinks_opens_nothing() {
    let world = World::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.app().runtime.set_port(3000, Some(listener.local_addr().unwrap()));
    let mut stream = world.served.connect().await;
    let (host, token) = (world.host(), &world.token);
    let head = format!(
        "GET / HTTP/1.1\r\nhost: {host}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         x-warren-token: {token}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut port, _) = listener.accept().await.unwrap();
    read_head(&mut port).await;
    let links = format!("/v1/sandboxes/{}/links", world.id);
    world.app().ask("DELETE", &links, "").await.expect(204);
    port.write_all(SWITCH).await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 101"));
    assert_eq!(rest(stream).await, "");
    world.served.stop().await;
}
