//! Connections whose bytes pass unseen.

use std::sync::atomic::Ordering;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore};
use warren_egress::{HostName, Reach, Reason};

use crate::world::World;

/// What a TLS client begins with that asks for this name.
pub(crate) fn hello(name: &str) -> Vec<u8> {
    let provider = tokio_rustls::rustls::crypto::ring::default_provider();
    let config = ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = name.to_owned().try_into().unwrap();
    let mut client = ClientConnection::new(config.into(), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// Sends back all that comes, and then says the end.
async fn echo(mut stream: TcpStream) {
    let (mut from, mut to) = stream.split();
    tokio::io::copy(&mut from, &mut to).await.unwrap();
    to.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_is_allowed_passes_whole_in_both_directions() {
    let mut world = World::new(&["a.example"]);
    let server = world.server(echo).await;
    let mut client = world.connect(server).await;
    let mut sent = hello("a.example");
    // Much more than goes through a buffer, in a pattern that shows what is lost or doubled.
    sent.extend((0..3_000_000_u32).flat_map(|it| it.to_be_bytes()));
    let (mut from, mut to) = client.split();
    let mut back = Vec::new();
    let write = async {
        to.write_all(&sent).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let (_written, read) = tokio::join!(write, from.read_to_end(&mut back));
    read.unwrap();
    assert!(back == sent, "{} of {} bytes came back", back.len(), sent.len());
    let total = sent.len() as u64;
    assert_eq!(world.passport.sent.load(Ordering::Relaxed), total);
    assert_eq!(world.passport.received.load(Ordering::Relaxed), total);
}

#[tokio::test]
async fn a_name_that_is_not_allowed_gets_an_alert_and_is_told() {
    let mut world = World::new(&["a.example"]);
    let server = world.server(echo).await;
    let mut client = world.connect(server).await;
    client.write_all(&hello("b.example")).await.unwrap();
    let mut back = Vec::new();
    client.read_to_end(&mut back).await.unwrap();
    assert_eq!(back, [21, 3, 3, 0, 2, 2, 49]);
    let denied = world.denials.recv().await.unwrap();
    assert_eq!(denied.name, HostName::parse("b.example"));
    assert_eq!((denied.destination, denied.reason), (server, Reason::Rule));
}

#[tokio::test]
async fn a_client_that_gives_no_name_is_refused() {
    let mut world = World::new(&["a.example"]);
    let server = world.server(echo).await;
    for first in [hello("192.0.2.1"), b"SSH-2.0-client\r\n".to_vec()] {
        let mut client = world.connect(server).await;
        client.write_all(&first).await.unwrap();
        // It is told by a reset or by an alert; what was sent is not echoed.
        let mut back = Vec::new();
        let _reset = client.read_to_end(&mut back).await;
        assert!(back.len() <= 7, "{}", back.escape_ascii());
        let denied = world.denials.recv().await.unwrap();
        assert_eq!((denied.name, denied.reason), (None, Reason::NoName));
    }
}

#[tokio::test]
async fn a_server_may_speak_first_where_names_do_not_matter() {
    let mut world = World::with(&[], true, Reach::Granted);
    let greet = |mut stream: TcpStream| async move {
        stream.write_all(b"220 hello\r\n").await.unwrap();
    };
    let server = world.server(greet).await;
    let mut client = world.connect(server).await;
    let mut greeting = String::new();
    client.read_to_string(&mut greeting).await.unwrap();
    assert_eq!(greeting, "220 hello\r\n");
}

#[tokio::test]
async fn the_host_itself_is_not_reached_unless_it_is_granted() {
    for reach in [Reach::Public, Reach::No] {
        let mut world = World::with(&[], true, reach);
        let server = world.server(echo).await;
        let mut client = world.connect(server).await;
        let mut back = Vec::new();
        let _reset = client.read_to_end(&mut back).await;
        assert!(back.is_empty());
        assert_eq!(world.denials.recv().await.unwrap().reason, Reason::Unreachable);
    }
}

#[tokio::test]
async fn a_connection_is_cut_when_the_rules_forbid_it_and_not_before() {
    let mut world = World::new(&["a.example", "b.example"]);
    let server = world.server(echo).await;
    let mut client = world.connect(server).await;
    let first = hello("a.example");
    client.write_all(&first).await.unwrap();
    let mut back = vec![0; first.len()];
    client.read_exact(&mut back).await.unwrap();

    world.passport.allow(&["a.example"]);
    client.write_all(b"still here").await.unwrap();
    let mut back = [0; 10];
    client.read_exact(&mut back).await.unwrap();

    world.passport.allow(&["b.example"]);
    client.read_exact(&mut [0]).await.unwrap_err();
    let denied = world.denials.recv().await.unwrap();
    assert_eq!(denied.reason, Reason::Changed);
    assert_eq!(denied.name, HostName::parse("a.example"));
}

#[tokio::test]
async fn one_direction_may_end_before_the_other() {
    let mut world = World::with(&[], true, Reach::Granted);
    let late = |mut stream: TcpStream| async move {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        stream.write_all(format!("{} bytes", all.len()).as_bytes()).await.unwrap();
    };
    let server = world.server(late).await;
    let mut client = world.connect(server).await;
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "8 bytes");
}

#[tokio::test]
async fn a_server_that_breaks_breaks_the_client() {
    let mut world = World::with(&[], true, Reach::Granted);
    let break_it = |mut stream: TcpStream| async move {
        stream.read_exact(&mut [0]).await.unwrap();
        stream.set_zero_linger().unwrap();
    };
    let server = world.server(break_it).await;
    let mut client = world.connect(server).await;
    client.write_all(b"x").await.unwrap();
    let error = client.read_exact(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}
