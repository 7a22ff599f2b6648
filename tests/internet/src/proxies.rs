//! SOCKS5 and HTTP CONNECT, for who has the password.
//!
//! # Source
//!
//! RFC 1928 (SOCKS5), RFC 1929 (user and password), RFC 9110 section 9.3.6 (CONNECT).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream, copy_bidirectional,
    },
    net::TcpStream,
    task::JoinSet,
};

use crate::{
    PROXY_PASSWORD, PROXY_USER,
    internet::{Parts, listen},
    port,
};

/// The proxies. Whoever goes away has its reason: errors of connections are none.
pub(crate) async fn serve(tasks: &mut JoinSet<()>, parts: &Parts) -> io::Result<()> {
    let shared = parts.clone();
    listen(tasks, port::SOCKS, move |stream| {
        let parts = shared.clone();
        async move { drop(socks(BufStream::new(stream), &parts).await) }
    })
    .await?;
    let shared = parts.clone();
    listen(tasks, port::CONNECT, move |stream| {
        let parts = shared.clone();
        async move { drop(tunnel(BufStream::new(stream), &parts).await) }
    })
    .await
}

async fn socks(mut client: BufStream<TcpStream>, parts: &Parts) -> io::Result<()> {
    let _version = client.read_u8().await?;
    let methods = bytes(&mut client).await?;
    let method = if methods.contains(&2) { 2 } else { 0xff };
    say(&mut client, &[5, method]).await?;
    let _version = client.read_u8().await?;
    let (user, password) = (bytes(&mut client).await?, bytes(&mut client).await?);
    let known = user == PROXY_USER.as_bytes() && password == PROXY_PASSWORD.as_bytes();
    say(&mut client, &[1, u8::from(!known)]).await?;
    if !known {
        parts.seen.proxy("socks5 refused".to_owned());
        return Ok(());
    }
    let mut head = [0; 4];
    client.read_exact(&mut head).await?;
    let host = match head {
        [5, 1, 0, 1] => Ipv4Addr::from(client.read_u32().await?).to_string(),
        [5, 1, 0, 4] => Ipv6Addr::from(client.read_u128().await?).to_string(),
        [5, 1, 0, 3] => String::from_utf8_lossy(&bytes(&mut client).await?).into_owned(),
        _ => return say(&mut client, &[5, 7, 0, 1, 0, 0, 0, 0, 0, 0]).await,
    };
    let port = client.read_u16().await?;
    parts.seen.proxy(format!("socks5 {host}:{port}"));
    let reached = reach(parts, &host, port).await;
    let code = if reached.is_ok() { 0 } else { 4 };
    say(&mut client, &[5, code, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    copy_bidirectional(&mut client, &mut reached?).await.map(drop)
}

async fn tunnel(mut client: BufStream<TcpStream>, parts: &Parts) -> io::Result<()> {
    let mut first = String::new();
    client.read_line(&mut first).await?;
    let mut known = false;
    let password = STANDARD.encode(format!("{PROXY_USER}:{PROXY_PASSWORD}"));
    loop {
        let mut line = String::new();
        client.read_line(&mut line).await?;
        if line.trim().is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(':') else { continue };
        known |= name.eq_ignore_ascii_case("proxy-authorization")
            && value.trim() == format!("Basic {password}");
    }
    let target = first.strip_prefix("CONNECT ").and_then(|it| it.split(' ').next());
    let Some((host, port)) = target.and_then(|it| it.rsplit_once(':')) else {
        return say(&mut client, b"HTTP/1.1 405 Method Not Allowed\r\n\r\n").await;
    };
    if !known {
        parts.seen.proxy(format!("connect {host}:{port} refused"));
        let refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n";
        return say(&mut client, refusal).await;
    }
    parts.seen.proxy(format!("connect {host}:{port}"));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match reach(parts, host, port.parse().unwrap_or_default()).await {
        Err(_unreachable) => say(&mut client, b"HTTP/1.1 502 Bad Gateway\r\n\r\n").await,
        Ok(mut server) => {
            say(&mut client, b"HTTP/1.1 200 Connected\r\n\r\n").await?;
            copy_bidirectional(&mut client, &mut server).await.map(drop)
        }
    }
}

/// Connects to a machine of the internet.
async fn reach(parts: &Parts, host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses = match host.parse::<IpAddr>() {
        Ok(address) => vec![address],
        Err(_a_name) => parts.zone.addresses(host),
    };
    let addresses: Vec<_> = addresses.into_iter().map(|address| (address, port).into()).collect();
    TcpStream::connect(addresses.as_slice()).await
}

/// So many bytes as the first says.
async fn bytes(client: &mut BufStream<TcpStream>) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::from(client.read_u8().await?)];
    client.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn say(client: &mut BufStream<TcpStream>, bytes: &[u8]) -> io::Result<()> {
    client.write_all(bytes).await?;
    client.flush().await
}
