//! Bytes without meaning.

use std::io;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    task::JoinSet,
};

use crate::{
    internet::{self, listen, plain},
    port,
};

const PIECE: usize = 256 << 10;

/// The servers of bytes. Whoever goes away has its reason: errors of connections are none.
pub(crate) async fn serve(tasks: &mut JoinSet<()>) -> io::Result<()> {
    for address in internet::udp_addresses() {
        for port in [port::ECHO, port::HTTPS, port::SECRET_NAMES] {
            tasks.spawn(return_datagrams(UdpSocket::bind((address, port)).await?));
        }
    }
    listen(tasks, port::ECHO, |mut stream| async move {
        let (mut from, mut to) = stream.split();
        drop(tokio::io::copy(&mut from, &mut to).await);
    })
    .await?;
    listen(tasks, port::SOURCE, |stream| async move { drop(give(stream).await) }).await?;
    listen(tasks, port::SINK, |stream| async move { drop(take(stream).await) }).await?;
    for port in [port::WHO, port::SECRET_NAMES] {
        listen(tasks, port, |stream| async move { drop(tell(stream).await) }).await?;
    }
    Ok(())
}

async fn return_datagrams(socket: UdpSocket) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        // An error is the echo of an answer that nobody took.
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else { continue };
        drop(socket.send_to(buffer.get(..length).unwrap_or_default(), peer).await);
    }
}

async fn give(mut stream: TcpStream) -> io::Result<()> {
    let piece = vec![0; PIECE];
    loop {
        stream.write_all(&piece).await?;
    }
}

async fn take(mut stream: TcpStream) -> io::Result<()> {
    let (mut piece, mut taken) = (vec![0; PIECE], 0);
    loop {
        match stream.read(&mut piece).await? {
            0 => return stream.write_all(format!("{taken}\n").as_bytes()).await,
            more => taken += more,
        }
    }
}

/// Who connected, and to what: `198.51.100.2 203.0.113.1`.
async fn tell(mut stream: TcpStream) -> io::Result<()> {
    let ends = [plain(stream.peer_addr()), plain(stream.local_addr())];
    let [peer, local] = ends.map(|end| end.map_or(String::new(), |it| it.ip().to_string()));
    stream.write_all(format!("{peer} {local}\n").as_bytes()).await
}
