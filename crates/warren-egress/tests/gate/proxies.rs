//! Connections that go through a proxy of the sandbox.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::TcpStream,
    sync::mpsc,
};
use warren_egress::{Proxy, ProxyKind, Reach, credentials::Secret};

use crate::world::World;

/// A proxy that connects to one server whatever it is asked for, and tells what that was.
async fn start(
    world: &mut World,
    kind: ProxyKind,
    server: SocketAddr,
) -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let (asked, told) = mpsc::unbounded_channel();
    let serve = move |mut client: TcpStream| {
        let asked = asked.clone();
        async move {
            let target = match kind {
                ProxyKind::Socks5 => socks5(&mut client).await,
                ProxyKind::Http => http(&mut client).await,
            };
            let Some(target) = target else { return };
            asked.send(target).unwrap();
            let mut server = TcpStream::connect(server).await.unwrap();
            drop(copy_bidirectional(&mut client, &mut server).await);
        }
    };
    (world.server(serve).await, told)
}

async fn socks5(client: &mut TcpStream) -> Option<String> {
    let mut head = [0; 3];
    client.read_exact(&mut head).await.unwrap();
    assert_eq!(head, [5, 1, 2], "a user is offered");
    client.write_all(&[5, 2]).await.unwrap();
    let mut login = [0; 11];
    client.read_exact(&mut login).await.unwrap();
    if &login != b"\x01\x02me\x06secret" {
        client.write_all(&[1, 1]).await.unwrap();
        return None;
    }
    client.write_all(&[1, 0]).await.unwrap();
    let mut head = [0; 4];
    client.read_exact(&mut head).await.unwrap();
    let host = match head[3] {
        3 => {
            let mut name = vec![0; usize::from(client.read_u8().await.unwrap())];
            client.read_exact(&mut name).await.unwrap();
            String::from_utf8(name).unwrap()
        }
        _ => {
            let mut address = [0; 4];
            client.read_exact(&mut address).await.unwrap();
            std::net::Ipv4Addr::from(address).to_string()
        }
    };
    let port = client.read_u16().await.unwrap();
    client.write_all(&[5, 0, 0, 3, 2, b'x', b'y', 0, 0]).await.unwrap();
    Some(format!("{host}:{port}"))
}

async fn http(client: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    // `me:secret`
    if !head.contains("Proxy-Authorization: Basic bWU6c2VjcmV0\r\n") {
        client.write_all(b"HTTP/1.1 407 No\r\n\r\n").await.unwrap();
        return None;
    }
    // What the server says first may come with the answer.
    client.write_all(b"HTTP/1.1 200 Yes\r\nX: y\r\n\r\n").await.unwrap();
    Some(head.split(' ').nth(1).unwrap().to_owned())
}

fn proxy(kind: ProxyKind, address: SocketAddr, password: &str) -> Proxy {
    let user = ("me".to_owned(), Secret::new(password.as_bytes().to_vec()));
    Proxy { kind, host: address.ip().to_string(), port: address.port(), user: Some(user) }
}

async fn greet(mut stream: TcpStream) {
    stream.write_all(b"220 hello\r\n").await.unwrap();
    let mut all = Vec::new();
    drop(stream.read_to_end(&mut all).await);
    drop(stream.write_all(&all).await);
}

#[tokio::test]
async fn connections_go_through_a_proxy_with_a_user() {
    for kind in [ProxyKind::Socks5, ProxyKind::Http] {
        let mut world = World::with(&[], true, Reach::Granted);
        let server = world.server(greet).await;
        let (address, mut told) = start(&mut world, kind, server).await;
        world.passport.send_through(proxy(kind, address, "secret"));
        let destination = "192.0.2.9:2222".parse().unwrap();
        let mut client = world.connect(destination).await;
        client.write_all(b"and back").await.unwrap();
        client.shutdown().await.unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "220 hello\r\nand back", "{kind:?}");
        assert_eq!(told.recv().await.unwrap(), "192.0.2.9:2222");
    }
}

#[tokio::test]
async fn a_wrong_password_ends_the_connection() {
    for kind in [ProxyKind::Socks5, ProxyKind::Http] {
        let mut world = World::with(&[], true, Reach::Granted);
        let server = world.server(greet).await;
        let (address, mut told) = start(&mut world, kind, server).await;
        world.passport.send_through(proxy(kind, address, "wrong!"));
        let mut client = world.connect("192.0.2.9:2222".parse().unwrap()).await;
        let mut text = Vec::new();
        let _reset = client.read_to_end(&mut text).await;
        assert!(text.is_empty() && told.try_recv().is_err(), "{kind:?}");
    }
}

#[tokio::test]
async fn a_proxy_is_told_the_name_and_is_no_way_to_the_host() {
    let kind = ProxyKind::Socks5;
    let mut world = World::new(&["a.example"]);
    let server = world.server(greet).await;
    let (address, mut told) = start(&mut world, kind, server).await;
    world.passport.send_through(proxy(kind, address, "secret"));
    for expected in ["192.0.2.9:443", "a.example:443"] {
        let mut client = world.connect("192.0.2.9:443".parse().unwrap()).await;
        client.write_all(&crate::passing::hello("a.example")).await.unwrap();
        assert_eq!(told.recv().await.unwrap(), expected);
        // A name that nobody answered may be anybody's.
        world.passport.answer_all();
    }

    let mut world = World::with(&[], true, Reach::Public);
    let (address, mut told) = start(&mut world, kind, server).await;
    world.passport.send_through(proxy(kind, address, "secret"));
    let mut client = world.connect("192.0.2.9:2222".parse().unwrap()).await;
    let mut text = Vec::new();
    let _reset = client.read_to_end(&mut text).await;
    assert!(text.is_empty() && told.try_recv().is_err());
    // The proxy's own address is refused as every other of the host.
    let denied = world.denials.recv().await.unwrap();
    assert_eq!(denied.reason, warren_egress::Reason::Unreachable);
}
