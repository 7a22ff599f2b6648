//! The name server that sandboxes use, at the gateway address.
//!
//! The host's own resolver is often on loopback or at a private address, where no sandbox can go.
//! So a sandbox asks here, and this server asks what the host asks (`upstream.rs`). A question is
//! taken apart and asked anew, and an answer likewise: nothing a sandbox sends is passed on as
//! bytes, and only the question's name, type and flags leave. There are no search domains.
//!
//! Questions come from hostile guests. Each source has a bounded share of the work at hand;
//! beyond it datagrams are dropped and connections closed, and a client that asks again later is
//! served. What is answered is remembered for at most a minute (`cache.rs`); one sandbox could
//! measure that another asked for a name, as it could at the host's own resolver.
//!
//! Under rules a name is answered where the rules let it be reached, and never with an address that
//! no sandbox may reach (`policy.rs`). Addresses of IPv6 are given where the host has a way out by
//! it. Sandboxes ask by IPv4, which all of them have.
//!
//! While no server runs, sandboxes have no names.

mod cache;
mod limits;
mod policy;
mod upstream;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, ResponseCode},
    rr::{DNSClass, RecordType},
};
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
    time::timeout,
};
use warren_dns::{PORT, read_message, write_message};

use super::{Subnet, listener, policy::Policies};
use cache::{Cache, Question};
pub(super) use limits::Limits;
use policy::Asker;
pub use upstream::Upstreams;

/// The largest datagram that is sent or asked for: what passes everywhere in one piece.
const LARGEST_DATAGRAM: u16 = 1232;
/// What a client that says nothing can take (RFC 1035).
const SMALLEST_DATAGRAM: u16 = 512;
/// How long a connection may be idle, or take to send or receive one message.
const IDLE: Duration = Duration::from_secs(10);
/// Bytes of a message's header.
const HEADER: usize = 12;

/// How to run the name server.
#[derive(Clone, Debug)]
pub struct ResolverConfig {
    /// Where to listen, on port 53.
    pub gateway: Ipv4Addr,
    /// Only sandboxes of this subnet are answered.
    pub subnet: Subnet,
    /// Whom to ask.
    pub upstreams: Upstreams,
    /// What each sandbox may ask, and where what it is answered is noted.
    pub policies: Arc<Policies>,
}

/// Why the name server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ResolverError {
    /// The address cannot be listened on.
    #[error("could not listen on {address} for {protocol}")]
    Listen {
        /// The gateway address and port.
        address: SocketAddr,
        /// UDP or TCP.
        protocol: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A running name server; it ends when this is dropped.
#[derive(Debug)]
pub struct ResolverHandle {
    tasks: JoinSet<()>,
}

impl ResolverHandle {
    /// Ends the server and waits until its sockets are closed.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

/// Starts the name server on the calling runtime; the gateway address must exist.
///
/// # Errors
///
/// [`ResolverError::Listen`], when another server has the port, for instance.
pub async fn start(config: ResolverConfig) -> Result<ResolverHandle, ResolverError> {
    let address = SocketAddr::from((config.gateway, PORT));
    let listen = |protocol| move |source| ResolverError::Listen { address, protocol, source };
    let udp = UdpSocket::bind(address).await.map_err(listen("UDP"))?;
    let tcp = TcpListener::bind(address).await.map_err(listen("TCP"))?;
    let server = Arc::new(Server {
        subnet: config.subnet,
        cache: Cache::default(),
        datagrams: Limits::new(1024, 128),
        connections: Limits::new(256, 16),
        upstreams: upstream::Client::new(config.upstreams, config.gateway),
        policies: Some(config.policies),
    });
    let mut tasks = JoinSet::new();
    tasks.spawn(serve_udp(Arc::new(udp), Arc::clone(&server)));
    tasks.spawn(serve_tcp(tcp, server));
    Ok(ResolverHandle { tasks })
}

#[derive(Debug)]
struct Server {
    subnet: Subnet,
    cache: Cache,
    datagrams: Arc<Limits>,
    connections: Arc<Limits>,
    upstreams: upstream::Client,
    /// None where bytes alone are tried.
    policies: Option<Arc<Policies>>,
}

async fn serve_udp(socket: Arc<UdpSocket>, server: Arc<Server>) {
    let mut answering = JoinSet::new();
    let mut buffer = vec![0; 4096];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            Some(_answered) = answering.join_next() => continue,
        };
        let Ok((length, peer)) = received else {
            // An ICMP error about an earlier answer, or no memory: neither is worth more.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let Some(query) = buffer.get(..length).filter(|_| server.serves(peer)) else { continue };
        let Some(permit) = server.datagrams.admit(peer.ip()) else { continue };
        let (query, socket, server) = (query.to_vec(), Arc::clone(&socket), Arc::clone(&server));
        answering.spawn(async move {
            if let Some(answer) = server.answer(&query, Transport::Udp, peer.ip()).await {
                // The guest may be gone; it asked in vain then.
                let _gone = socket.send_to(&answer, peer).await;
            }
            drop(permit);
        });
    }
}

async fn serve_tcp(listener: TcpListener, server: Arc<Server>) {
    let serve = |stream: TcpStream, peer: SocketAddr| {
        if !server.serves(peer) {
            return None;
        }
        let permit = server.connections.admit(peer.ip())?;
        let server = Arc::clone(&server);
        Some(async move {
            // Whatever ends a guest's connection is the guest's affair.
            let _ended = serve_connection(stream, peer.ip(), &server).await;
            drop(permit);
        })
    };
    listener::accept(listener, serve).await;
}

/// Answers the questions of one connection in turn. A message on it has its length, `u16`
/// big-endian, before it.
async fn serve_connection(mut stream: TcpStream, peer: IpAddr, server: &Server) -> io::Result<()> {
    loop {
        let query = timeout(IDLE, read_message(&mut stream)).await??;
        let Some(answer) = server.answer(&query, Transport::Tcp, peer).await else {
            return Ok(());
        };
        timeout(IDLE, write_message(&mut stream, &answer)).await??;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Udp,
    Tcp,
}

impl Server {
    fn serves(&self, peer: SocketAddr) -> bool {
        matches!(peer.ip(), IpAddr::V4(address) if self.subnet.slot(address).is_some())
    }

    /// The answer to these bytes, or `None` when there is none to give.
    async fn answer(&self, bytes: &[u8], transport: Transport, peer: IpAddr) -> Option<Vec<u8>> {
        let query = match Message::from_vec(bytes) {
            Ok(query) => query,
            Err(_malformed) => return malformed(bytes)?.to_vec().ok(),
        };
        if query.metadata.message_type == MessageType::Response {
            return None; // two servers that answer each other's answers never end
        }
        let answer = match question(&query) {
            Ok(question) => respond(&query, &self.look_up_for(peer, &question).await),
            Err(code) => respond(&query, &failure(code)),
        };
        let largest = match (transport, &query.edns) {
            (Transport::Tcp, _) => usize::from(u16::MAX),
            (Transport::Udp, None) => usize::from(SMALLEST_DATAGRAM),
            (Transport::Udp, Some(edns)) => {
                usize::from(edns.max_payload().clamp(SMALLEST_DATAGRAM, LARGEST_DATAGRAM))
            }
        };
        let encoded = answer.to_vec().ok()?;
        if encoded.len() <= largest { Some(encoded) } else { answer.truncate().to_vec().ok() }
    }

    /// The answer that a sandbox gets: what its rules leave of it.
    async fn look_up_for(&self, peer: IpAddr, question: &Question) -> Message {
        let asker = self.policies.as_ref().and_then(|policies| Asker::at(policies, peer));
        let Some(asker) = asker else { return self.look_up(question).await };
        match asker.refusal(question) {
            Some(refusal) => refusal,
            None => asker.take(question, self.look_up(question).await),
        }
    }

    async fn look_up(&self, question: &Question) -> Message {
        if let Some(remembered) = self.cache.get(question) {
            return remembered;
        }
        match self.upstreams.ask(question).await {
            Some(answer) => {
                self.cache.put(question, &answer);
                answer
            }
            None => failure(ResponseCode::ServFail),
        }
    }
}

/// What a query asks, or why it is not answered.
fn question(query: &Message) -> Result<Question, ResponseCode> {
    if query.metadata.op_code != OpCode::Query {
        return Err(ResponseCode::NotImp);
    }
    let [asked] = query.queries.as_slice() else { return Err(ResponseCode::FormErr) };
    let transfer = matches!(asked.query_type(), RecordType::AXFR | RecordType::IXFR);
    if transfer || asked.query_class() != DNSClass::IN {
        return Err(ResponseCode::Refused);
    }
    Ok(Question {
        name: asked.name().to_lowercase(),
        record_type: asked.query_type(),
        dnssec: query.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok),
        unchecked: query.metadata.checking_disabled,
    })
}

fn failure(code: ResponseCode) -> Message {
    Message::error_msg(0, OpCode::Query, code)
}

/// The answer's records under the query's identity.
fn respond(query: &Message, answer: &Message) -> Message {
    let mut response = Message::response(query.metadata.id, query.metadata.op_code);
    response.metadata.response_code = answer.metadata.response_code;
    response.metadata.recursion_desired = query.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    response.metadata.truncation = answer.metadata.truncation;
    response.metadata.checking_disabled = query.metadata.checking_disabled;
    response.metadata.authentic_data = answer.metadata.authentic_data
        && (query.metadata.authentic_data
            || query.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok));
    response.queries.clone_from(&query.queries);
    response.answers.clone_from(&answer.answers);
    response.authorities.clone_from(&answer.authorities);
    response.additionals.clone_from(&answer.additionals);
    if let Some(asked) = &query.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(LARGEST_DATAGRAM).set_dnssec_ok(asked.flags().dnssec_ok);
        response.set_edns(edns);
    }
    response
}

/// The answer to bytes that are no message but begin like the header of a query.
fn malformed(bytes: &[u8]) -> Option<Message> {
    const RESPONSE: u8 = 0x80;
    let [high, low, flags, ..] = *bytes.first_chunk::<HEADER>()?;
    if flags & RESPONSE != 0 {
        return None;
    }
    let id = u16::from_be_bytes([high, low]);
    Some(Message::error_msg(id, OpCode::Query, ResponseCode::FormErr))
}

/// Doors for fuzz targets.
#[cfg(feature = "fuzzing")]
pub mod fuzzing {
    use std::net::Ipv4Addr;

    use super::{Cache, Limits, Server, Subnet, Transport, Upstreams, upstream};

    /// The answer to what a guest sends, of a resolver that has nobody to ask.
    #[must_use]
    pub fn answer(bytes: &[u8], stream: bool) -> Option<Vec<u8>> {
        let server = Server {
            subnet: "10.0.0.0/8".parse::<Subnet>().ok()?,
            cache: Cache::default(),
            datagrams: Limits::new(1, 1),
            connections: Limits::new(1, 1),
            upstreams: upstream::Client::new(Upstreams::Fixed(Vec::new()), Ipv4Addr::LOCALHOST),
            policies: None,
        };
        let transport = if stream { Transport::Tcp } else { Transport::Udp };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().ok()?;
        runtime.block_on(server.answer(bytes, transport, Ipv4Addr::LOCALHOST.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::{op::Query, rr::Name};

    fn query(name: &str, record_type: RecordType) -> Message {
        let mut query = Message::query();
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), record_type));
        query
    }

    #[test]
    fn a_question_is_what_remains_of_a_query() {
        let mut asked = query("Example.ORG.", RecordType::AAAA);
        asked.metadata.checking_disabled = true;
        let question = question(&asked).unwrap();
        assert_eq!(question.name.to_string(), "example.org.");
        assert_eq!(question.record_type, RecordType::AAAA);
        assert!(question.unchecked && !question.dnssec);
    }

    #[test]
    fn what_is_not_a_question_is_refused_with_a_reason() {
        let transfer = question(&query("example.org.", RecordType::AXFR));
        assert_eq!(transfer.unwrap_err(), ResponseCode::Refused);
        let mut two = query("example.org.", RecordType::A);
        two.add_query(Query::query(Name::root(), RecordType::A));
        assert_eq!(question(&two).unwrap_err(), ResponseCode::FormErr);
        let mut update = query("example.org.", RecordType::A);
        update.metadata.op_code = OpCode::Update;
        assert_eq!(question(&update).unwrap_err(), ResponseCode::NotImp);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_of_a_guest_make_it_panic(
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600),
            well_formed in 0..400_usize,
        ) {
            let mut asked = query("a.example.", RecordType::A).to_vec().unwrap();
            asked.truncate(well_formed);
            asked.extend_from_slice(&bytes);
            for bytes in [bytes, asked] {
                let Ok(query) = Message::from_vec(&bytes) else {
                    assert!(malformed(&bytes).is_none_or(|answer| answer.to_vec().is_ok()));
                    continue;
                };
                let code = question(&query).err().unwrap_or(ResponseCode::ServFail);
                let answer = respond(&query, &failure(code));
                assert_eq!(answer.metadata.id, query.metadata.id);
                assert!(answer.truncate().to_vec().is_ok());
            }
        }
    }

    #[test]
    fn malformed_bytes_are_answered_only_when_they_look_like_a_query() {
        assert!(malformed(&[0; 11]).is_none());
        assert!(malformed(&[0xff; 40]).is_none());
        let mut bytes = [0; 40];
        bytes[1] = 7;
        let answer = malformed(&bytes).unwrap();
        assert_eq!((answer.metadata.id, answer.metadata.response_code), (7, ResponseCode::FormErr));
    }

    #[test]
    fn a_response_has_the_querys_case_and_no_extension_that_was_not_asked_for() {
        let asked = query("ExAmPle.org.", RecordType::A);
        let mut upstream = failure(ResponseCode::NXDomain);
        upstream.set_edns(Edns::new());
        let response = respond(&asked, &upstream);
        assert_eq!(response.metadata.id, asked.metadata.id);
        assert_eq!(response.queries[0].name().to_ascii(), "ExAmPle.org.");
        assert_eq!(response.metadata.response_code, ResponseCode::NXDomain);
        assert!(response.edns.is_none() && response.metadata.recursion_available);
    }
}
