//! Names inside sandboxes.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use hickory_proto::{
    op::{Edns, Message, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::A},
};
use warren_runtime::net::{
    Net,
    resolver::{self, ResolverConfig, ResolverHandle, Upstreams},
};

use crate::lab::{PATIENCE, SILENCE, config, in_lab, inside, runtime_here};

/// Where hosts with systemd have theirs.
const LOOPBACK_SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 53);
/// Addresses of `big.example.`: more than a datagram takes.
const MANY: usize = 200;

#[test]
fn a_sandbox_resolves_names_through_the_hosts_loopback_resolver() {
    in_lab(|_lab| {
        let upstream = Upstream::start((LOOPBACK_SERVER, 53).into());
        let folder = tempfile::tempdir().unwrap();
        let conf = folder.path().join("resolv.conf");
        std::fs::write(&conf, "search corp.example\nnameserver 127.0.0.53\n").unwrap();
        let net = Net::open(config("a", 0)).unwrap();
        let server = Running::start(&net, &conf);
        let attached = net.attach(0).unwrap();
        let gateway = net.gateway();

        let asked = query("One.example.", RecordType::A);
        let (first, again, tcp) = inside(&attached.netns, || {
            let first = ask_udp(gateway, &asked);
            (first, ask_udp(gateway, &asked), ask_tcp(gateway, &asked))
        });
        for answer in [&first, &again, &tcp] {
            assert_eq!(answer.metadata.id, asked.metadata.id);
            assert_eq!(answer.queries, asked.queries);
            assert_eq!(addresses(answer), [Ipv4Addr::new(192, 0, 2, 1)]);
        }
        assert_eq!(upstream.asked(), 1, "the second and third came from memory");

        let (unknown, short) = inside(&attached.netns, || {
            let unknown = ask_udp(gateway, &query("no.example.", RecordType::A));
            (unknown, ask_udp(gateway, &query("short", RecordType::A)))
        });
        assert_eq!(unknown.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!(short.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!(upstream.names(), ["one.example.", "no.example.", "short."]);
        server.stop();
    });
}

#[test]
fn a_large_answer_comes_over_tcp_and_truncated_over_udp() {
    in_lab(|_lab| {
        let _upstream = Upstream::start((LOOPBACK_SERVER, 53).into());
        let net = Net::open(config("a", 0)).unwrap();
        let server = Running::start_fixed(&net, vec![(LOOPBACK_SERVER, 53).into()]);
        let attached = net.attach(0).unwrap();
        let gateway = net.gateway();
        let mut asked = query("big.example.", RecordType::A);
        let (plain, tcp) =
            inside(&attached.netns, || (ask_udp(gateway, &asked), ask_tcp(gateway, &asked)));
        assert!(plain.metadata.truncation && plain.answers.is_empty());
        assert!(plain.edns.is_none());
        assert_eq!(addresses(&tcp).len(), MANY);
        let mut edns = Edns::new();
        edns.set_max_payload(4096);
        asked.set_edns(edns);
        let extended = inside(&attached.netns, || ask_udp(gateway, &asked));
        assert!(extended.metadata.truncation && extended.edns.is_some());
        server.stop();
    });
}

#[test]
fn another_server_is_asked_when_one_fails_and_failure_is_said() {
    in_lab(|_lab| {
        let silent: SocketAddr = (Ipv4Addr::new(127, 0, 0, 9), 53).into();
        let _deaf = UdpSocket::bind(silent).unwrap();
        let _upstream = Upstream::start((LOOPBACK_SERVER, 53).into());
        let net = Net::open(config("a", 0)).unwrap();
        let gateway = net.gateway();
        let attached = net.attach(0).unwrap();
        let ask =
            || inside(&attached.netns, || ask_udp(gateway, &query("one.example.", RecordType::A)));

        let both = Running::start_fixed(&net, vec![silent, (LOOPBACK_SERVER, 53).into()]);
        assert_eq!(addresses(&ask()), [Ipv4Addr::new(192, 0, 2, 1)]);
        both.stop();
        let none = Running::start_fixed(&net, vec![(Ipv4Addr::new(127, 0, 0, 10), 53).into()]);
        assert_eq!(ask().metadata.response_code, ResponseCode::ServFail);
        none.stop();
    });
}

#[test]
fn only_well_formed_questions_of_sandboxes_are_answered() {
    in_lab(|lab| {
        let upstream = Upstream::start((LOOPBACK_SERVER, 53).into());
        let net = Net::open(config("a", 0)).unwrap();
        let server = Running::start_fixed(&net, vec![(LOOPBACK_SERVER, 53).into()]);
        let attached = net.attach(0).unwrap();
        let gateway = net.gateway();

        let (transfer, garbage) = inside(&attached.netns, || {
            let garbage: Vec<u8> = (0..40).map(|byte| byte & 0x7f).collect();
            (
                ask_udp(gateway, &query("one.example.", RecordType::AXFR)),
                exchange_udp(gateway, &garbage, PATIENCE),
            )
        });
        assert_eq!(transfer.metadata.response_code, ResponseCode::Refused);
        assert_eq!(garbage.unwrap().metadata.response_code, ResponseCode::FormErr);

        let mut forged = query("one.example.", RecordType::A);
        forged.metadata.message_type = hickory_proto::op::MessageType::Response;
        let unanswered =
            inside(&attached.netns, || exchange_udp(gateway, &forged.to_vec().unwrap(), SILENCE));
        assert!(unanswered.is_none());
        let asked = query("one.example.", RecordType::A).to_vec().unwrap();
        assert!(exchange_udp(gateway, &asked, SILENCE).is_none(), "the host itself is no sandbox");
        assert!(inside(&lab.internet, || exchange_udp(gateway, &asked, SILENCE)).is_none());
        assert_eq!(upstream.asked(), 0);
        server.stop();
    });
}

/// A name server that knows two names.
struct Upstream {
    log: Arc<std::sync::Mutex<Vec<String>>>,
    count: Arc<AtomicUsize>,
}

impl Upstream {
    fn start(address: SocketAddr) -> Self {
        let upstream = Self { log: Arc::default(), count: Arc::default() };
        let udp = UdpSocket::bind(address).unwrap();
        let tcp = TcpListener::bind(address).unwrap();
        let (log, count) = (Arc::clone(&upstream.log), Arc::clone(&upstream.count));
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, peer)) = udp.recv_from(&mut buffer) {
                let query = Message::from_vec(&buffer[..length]).unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                log.lock().unwrap().push(query.queries[0].name().to_string());
                let answer = reply(&query);
                let mut bytes = answer.to_vec().unwrap();
                if bytes.len() > usize::from(query.max_payload()) {
                    bytes = answer.truncate().to_vec().unwrap();
                }
                udp.send_to(&bytes, peer).unwrap();
            }
        });
        thread::spawn(move || {
            for stream in tcp.incoming() {
                let mut stream = stream.unwrap();
                let query = Message::from_vec(&read_framed(&mut stream)).unwrap();
                write_framed(&mut stream, &reply(&query).to_vec().unwrap());
            }
        });
        upstream
    }

    fn asked(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    fn names(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

fn reply(query: &Message) -> Message {
    let mut answer = query.clone().into_response();
    let name = query.queries[0].name();
    let many = match name.to_string().as_str() {
        "one.example." => 1,
        "big.example." => MANY,
        _ => 0,
    };
    for number in (1..=255).cycle().take(many) {
        let address = RData::A(A::new(192, 0, 2, number));
        answer.add_answer(Record::from_rdata(name.clone(), 300, address));
    }
    if many == 0 {
        answer.metadata.response_code = ResponseCode::NXDomain;
    }
    answer
}

/// A resolver on threads of the host.
struct Running {
    runtime: tokio::runtime::Runtime,
    handle: ResolverHandle,
}

impl Running {
    fn start(net: &Net, conf: &Path) -> Self {
        Self::start_with(net, Upstreams::File(conf.to_owned()))
    }

    fn start_fixed(net: &Net, servers: Vec<SocketAddr>) -> Self {
        Self::start_with(net, Upstreams::Fixed(servers))
    }

    fn start_with(net: &Net, upstreams: Upstreams) -> Self {
        let runtime = runtime_here();
        let policies = Arc::clone(net.policies());
        let (gateway, subnet) = (net.gateway(), net.subnet());
        let config = ResolverConfig { gateway, subnet, upstreams, policies };
        let handle = runtime.block_on(resolver::start(config)).unwrap();
        Self { runtime, handle }
    }

    fn stop(self) {
        self.runtime.block_on(self.handle.stop());
    }
}

fn query(name: &str, record_type: RecordType) -> Message {
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(Name::from_ascii(name).unwrap(), record_type));
    query
}

fn addresses(answer: &Message) -> Vec<Ipv4Addr> {
    let address = |record: &Record| match &record.data {
        RData::A(address) => Some(address.0),
        _ => None,
    };
    answer.answers.iter().filter_map(address).collect()
}

fn ask_udp(server: impl Into<IpAddr>, query: &Message) -> Message {
    exchange_udp(server, &query.to_vec().unwrap(), PATIENCE).expect("an answer")
}

/// The answer, if one comes in time.
fn exchange_udp(server: impl Into<IpAddr>, query: &[u8], patience: Duration) -> Option<Message> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.set_read_timeout(Some(patience)).unwrap();
    socket.connect((server.into(), 53)).unwrap();
    socket.send(query).unwrap();
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).ok()?;
    Some(Message::from_vec(&buffer[..length]).unwrap())
}

fn ask_tcp(server: impl Into<IpAddr>, query: &Message) -> Message {
    let mut stream = TcpStream::connect_timeout(&(server.into(), 53).into(), PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write_framed(&mut stream, &query.to_vec().unwrap());
    Message::from_vec(&read_framed(&mut stream)).unwrap()
}

fn read_framed(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).unwrap();
    message
}

fn write_framed(stream: &mut TcpStream, message: &[u8]) {
    let length = u16::try_from(message.len()).unwrap();
    stream.write_all(&[&length.to_be_bytes(), message].concat()).unwrap();
}
