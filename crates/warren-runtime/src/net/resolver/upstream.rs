//! Asking the servers that the host itself asks.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use hickory_proto::{
    op::{Edns, Message, MessageType, Query, ResponseCode},
    rr::DNSClass,
};
use tokio::{
    net::{TcpStream, UdpSocket},
    time::{Instant, timeout},
};

use super::{LARGEST_DATAGRAM, PORT, cache::Question, read_message, write_message};

/// Servers of a `resolv.conf` that are looked at, as in the C library.
const SERVERS: usize = 3;
/// How long a `resolv.conf` that was read is good for.
const FRESH: Duration = Duration::from_secs(2);
/// How long all attempts together may take. A client of the C library gives up after 5 seconds
/// and asks again; it should have an answer before.
const PATIENCE: Duration = Duration::from_millis(4500);
/// How often all servers are asked.
const ROUNDS: u32 = 2;
/// How long a server that answers over TCP may take.
const TCP_PATIENCE: Duration = Duration::from_secs(3);

/// Whom to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstreams {
    /// These servers, in order.
    Fixed(Vec<SocketAddr>),
    /// Those that a file such as `/etc/resolv.conf` names, read again while it changes.
    File(PathBuf),
}

/// Asks servers.
#[derive(Debug)]
pub(super) struct Client {
    upstreams: Upstreams,
    /// Our own address: asking ourselves would never end.
    own: IpAddr,
    read: Mutex<Option<(Instant, Vec<SocketAddr>)>>,
}

impl Client {
    pub(super) fn new(upstreams: Upstreams, own: Ipv4Addr) -> Self {
        Self { upstreams, own: own.into(), read: Mutex::default() }
    }

    /// The first useful answer, or `None` when no server has one in time.
    pub(super) async fn ask(&self, question: &Question) -> Option<Message> {
        timeout(PATIENCE, self.ask_all(question)).await.ok().flatten()
    }

    async fn ask_all(&self, question: &Question) -> Option<Message> {
        let servers = self.servers().await;
        let attempts = u32::try_from(servers.len()).ok()?.checked_mul(ROUNDS)?;
        let patience = PATIENCE.checked_div(attempts)?;
        for _round in 0..ROUNDS {
            for server in &servers {
                match ask_one(*server, question, patience).await {
                    Ok(answer) if useful(answer.metadata.response_code) => return Some(answer),
                    Ok(_refused) => {}
                    Err(error) => {
                        tracing::debug!(%server, %error, "a name server did not answer");
                    }
                }
            }
        }
        None
    }

    async fn servers(&self) -> Vec<SocketAddr> {
        let path = match &self.upstreams {
            Upstreams::Fixed(servers) => {
                return servers.iter().filter(|it| it.ip() != self.own).copied().collect();
            }
            Upstreams::File(path) => path.clone(),
        };
        let fresh = {
            let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
            read.as_ref().filter(|(when, _)| when.elapsed() < FRESH).cloned()
        };
        if let Some((_, servers)) = fresh {
            return servers;
        }
        let text = tokio::task::spawn_blocking(move || std::fs::read_to_string(path)).await;
        let mut servers = match text {
            Ok(Ok(text)) => parse(&text),
            _ => vec![(Ipv4Addr::LOCALHOST, PORT).into()], // resolv.conf(5)
        };
        servers.retain(|server| server.ip() != self.own);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        *read = Some((Instant::now(), servers.clone()));
        servers
    }
}

/// Whether an answer is one, and not a server's trouble that another may not have.
fn useful(code: ResponseCode) -> bool {
    !matches!(code, ResponseCode::ServFail | ResponseCode::Refused | ResponseCode::NotImp)
}

/// The servers that a `resolv.conf` names.
fn parse(text: &str) -> Vec<SocketAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let address = (words.next()? == "nameserver").then(|| words.next())??;
        parse_address(address)
    });
    let mut servers: Vec<SocketAddr> = servers.take(SERVERS).collect();
    if servers.is_empty() {
        servers.push((Ipv4Addr::LOCALHOST, PORT).into()); // resolv.conf(5)
    }
    servers
}

fn parse_address(text: &str) -> Option<SocketAddr> {
    let Some((address, scope)) = text.split_once('%') else {
        return Some((text.parse::<IpAddr>().ok()?, PORT).into());
    };
    let address: Ipv6Addr = address.parse().ok()?;
    let scope = scope.parse().ok().or_else(|| interface_index(scope))?;
    Some(SocketAddrV6::new(address, PORT, 0, scope).into())
}

fn interface_index(name: &str) -> Option<u32> {
    let mut socket = warren_sys::netlink::Socket::route().ok()?;
    Some(warren_sys::netlink::route::link(&mut socket, name).ok()??.index)
}

/// Asks over UDP, and over TCP when the answer does not fit.
async fn ask_one(
    server: SocketAddr,
    question: &Question,
    patience: Duration,
) -> io::Result<Message> {
    let query = query(question);
    let bytes = query.to_vec().map_err(io::Error::other)?;
    let answer = timeout(patience, exchange_udp(server, &query, &bytes)).await??;
    if !answer.metadata.truncation {
        return Ok(answer);
    }
    // Some forwarders have no TCP; a part of the answer, marked as such, is better than none.
    let whole = timeout(TCP_PATIENCE, exchange_tcp(server, &query, &bytes)).await;
    Ok(whole.ok().and_then(Result::ok).unwrap_or(answer))
}

/// The question as a message with a random number of its own.
fn query(question: &Question) -> Message {
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.metadata.checking_disabled = question.unchecked;
    let mut asked = Query::query(question.name.clone(), question.record_type);
    asked.set_query_class(DNSClass::IN);
    query.add_query(asked);
    let mut edns = Edns::new();
    edns.set_max_payload(LARGEST_DATAGRAM).set_dnssec_ok(question.dnssec);
    query.set_edns(edns);
    query
}

async fn exchange_udp(server: SocketAddr, query: &Message, bytes: &[u8]) -> io::Result<Message> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = buffer.get(..length).and_then(|bytes| Message::from_vec(bytes).ok());
        // Anything else was sent by somebody who guesses.
        if let Some(answer) = answer.filter(|answer| answers(answer, query)) {
            return Ok(answer);
        }
    }
}

async fn exchange_tcp(server: SocketAddr, query: &Message, bytes: &[u8]) -> io::Result<Message> {
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
    use super::*;

    fn parsed(text: &str) -> Vec<String> {
        parse(text).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn servers_are_read_as_the_c_library_does() {
        let text = "# nameserver 1.1.1.1\nsearch corp.example\nnameserver 127.0.0.53\n\
                    options edns0\nnameserver\tfd00::1  # here\nnameserver no\nnameserver fe80::1%3";
        assert_eq!(parsed(text), ["127.0.0.53:53", "[fd00::1]:53", "[fe80::1%3]:53"]);
        assert_eq!(parsed(""), ["127.0.0.1:53"]);
        let many = "nameserver 10.0.0.1\n".repeat(9);
        assert_eq!(parsed(&many).len(), SERVERS);
    }

    #[tokio::test]
    async fn the_file_is_read_again_and_never_names_ourselves() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        std::fs::write(&path, "nameserver 10.213.0.1\nnameserver 192.0.2.1\n").unwrap();
        let client = Client::new(Upstreams::File(path.clone()), Ipv4Addr::new(10, 213, 0, 1));
        assert_eq!(client.servers().await, ["192.0.2.1:53".parse::<SocketAddr>().unwrap()]);
        std::fs::write(&path, "nameserver 192.0.2.2\n").unwrap();
        *client.read.lock().unwrap() = None; // as after some seconds
        assert_eq!(client.servers().await, ["192.0.2.2:53".parse::<SocketAddr>().unwrap()]);
        std::fs::remove_file(&path).unwrap();
        *client.read.lock().unwrap() = None;
        assert_eq!(client.servers().await, ["127.0.0.1:53".parse::<SocketAddr>().unwrap()]);
    }
}
