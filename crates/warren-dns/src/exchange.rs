//! One question to one server.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use hickory_proto::op::{Message, MessageType};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

/// The largest datagram that is taken, in bytes: more than servers send to whom asks for 1232.
const LARGEST: usize = 4096;

/// How long is waited for one server.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For its answer over UDP.
    pub udp: Duration,
    /// For its answer over TCP, when that over UDP was cut off.
    pub tcp: Duration,
}

/// Asks over UDP, and over TCP where the answer does not fit. An answer that is still marked as
/// truncated is all that this server gives: some forwarders have no TCP.
///
/// # Errors
///
/// The server was not reached, or did not answer this question in time.
pub async fn ask(server: SocketAddr, query: &Message, patience: Patience) -> io::Result<Message> {
    let bytes = query.to_vec().map_err(io::Error::other)?;
    let answer = timeout(patience.udp, over_udp(server, query, &bytes)).await??;
    if !answer.metadata.truncation {
        return Ok(answer);
    }
    let whole = timeout(patience.tcp, over_tcp(server, query, &bytes)).await;
    Ok(whole.ok().and_then(Result::ok).unwrap_or(answer))
}

/// Reads one message of a stream: its length in two bytes, and it.
///
/// # Errors
///
/// Those of the stream; also where it ends before the message does.
///
/// # Source
///
/// RFC 1035, section 4.2.2.
pub async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// Writes one message to a stream, as [`read_message`] reads it.
///
/// # Errors
///
/// Those of the stream; `InvalidInput` for more than 65,535 bytes.
pub async fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_too_long| io::ErrorKind::InvalidInput)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    stream.write_all(&framed).await
}

async fn over_udp(server: SocketAddr, query: &Message, bytes: &[u8]) -> io::Result<Message> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; LARGEST];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = buffer.get(..length).and_then(|bytes| Message::from_vec(bytes).ok());
        // Anything else was sent by somebody who guesses.
        if let Some(answer) = answer.filter(|answer| answers(answer, query)) {
            return Ok(answer);
        }
    }
}

async fn over_tcp(server: SocketAddr, query: &Message, bytes: &[u8]) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    write_message(&mut stream, bytes).await?;
    let answer = Message::from_vec(&read_message(&mut stream).await?).map_err(io::Error::other)?;
    if answers(&answer, query) { Ok(answer) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Whether a message answers this query: its number and its question.
fn answers(answer: &Message, query: &Message) -> bool {
    answer.metadata.message_type == MessageType::Response
        && answer.metadata.id == query.metadata.id
        && answer.queries == query.queries
}

#[cfg(test)]
mod tests {
    use hickory_proto::{
        op::{Query, ResponseCode},
        rr::{Name, RecordType},
    };
    use tokio::{net::TcpListener, task::JoinSet};

    use super::*;

    const PATIENCE: Patience =
        Patience { udp: Duration::from_secs(20), tcp: Duration::from_secs(20) };

    fn query() -> Message {
        let mut query = Message::query();
        query.add_query(Query::query(Name::from_ascii("a.example.").unwrap(), RecordType::A));
        query
    }

    fn answer(query: &[u8], truncated: bool) -> Message {
        let mut answer = Message::from_vec(query).unwrap();
        answer.metadata.message_type = MessageType::Response;
        answer.metadata.truncation = truncated;
        answer
    }

    /// A server whose answers do not fit into datagrams; over TCP it says that there is no name.
    async fn server(has_tcp: bool) -> (SocketAddr, JoinSet<()>) {
        let mut tasks = JoinSet::new();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(address).await.unwrap();
        tasks.spawn(async move {
            let mut buffer = [0; 512];
            let (length, peer) = udp.recv_from(&mut buffer).await.unwrap();
            let right = answer(&buffer[..length], true);
            let mut guessed = right.clone();
            guessed.metadata.id = !guessed.metadata.id;
            for message in [guessed, right] {
                udp.send_to(&message.to_vec().unwrap(), peer).await.unwrap();
            }
        });
        if has_tcp {
            tasks.spawn(async move {
                let (mut stream, _peer) = tcp.accept().await.unwrap();
                let mut whole = answer(&read_message(&mut stream).await.unwrap(), false);
                whole.metadata.response_code = ResponseCode::NXDomain;
                write_message(&mut stream, &whole.to_vec().unwrap()).await.unwrap();
            });
        }
        (address, tasks)
    }

    #[tokio::test]
    async fn what_does_not_fit_is_asked_for_over_tcp() {
        let (address, _tasks) = server(true).await;
        let whole = ask(address, &query(), PATIENCE).await.unwrap();
        assert_eq!(whole.metadata.response_code, ResponseCode::NXDomain);
        assert!(!whole.metadata.truncation);
        let (address, _tasks) = server(false).await;
        let part = ask(address, &query(), PATIENCE).await.unwrap();
        assert!(part.metadata.truncation);
    }
}
