//! Rules that name domains: what is looked up, what is reached then, and every way around.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd as _,
    sync::{Arc, mpsc},
    thread,
};

use hickory_proto::{
    op::{Message, Query, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, HTTPS, SVCB},
    },
};
use warren_core::{runtime::Denial, spec::Network};
use warren_runtime::net::{
    Attached, Net,
    gate::{self, GateHandle},
    policy::Policy,
    resolver::{self, ResolverConfig, ResolverHandle, Upstreams},
};

use crate::lab::{
    Lab, METADATA, PATIENCE, PRIVATE, PUBLIC, SILENCE, config, in_lab, inside, runtime_here,
    serve_echo, serve_pieces,
};

const OTHER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 6);
const DNS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

/// A host with resolver and gate, one sandbox, and servers in the Internet.
struct World {
    net: Net,
    sandbox: Attached,
    runtime: tokio::runtime::Runtime,
    running: Option<(ResolverHandle, GateHandle)>,
    denials: mpsc::Receiver<Denial>,
}

impl World {
    fn start(lab: &Lab, rules: &str) -> Self {
        lab.add_address(OTHER);
        inside(&lab.internet, || {
            serve_pieces(80, |_request| b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec());
            serve_echo(7);
            serve_udp(&[53, 443, 853, 7]);
        });
        serve_names();
        let net = Net::open(config("a", 0)).unwrap();
        let (tell, denials) = mpsc::channel();
        // The last ones may come when the test is over.
        net.policies().on_denied(move |_, denial| drop(tell.send(denial)));
        let sandbox = net.attach(0).unwrap();
        let runtime = runtime_here();
        let policies = Arc::clone(net.policies());
        let config = ResolverConfig {
            gateway: net.gateway(),
            subnet: net.subnet(),
            upstreams: Upstreams::Fixed(vec![(DNS, 53).into()]),
            policies: Arc::clone(&policies),
        };
        let running = runtime.block_on(async {
            let resolver = resolver::start(config).await.unwrap();
            (resolver, gate::start(policies, Vec::new()).await.unwrap())
        });
        let world = Self { net, sandbox, runtime, running: Some(running), denials };
        world.set(rules);
        world
    }

    fn set(&self, rules: &str) {
        let policy = match rules {
            "" => None,
            rules => {
                let egress = rules.replace("; ", "\n").parse().unwrap();
                Policy::of(&Network::Rules(Arc::new(egress))).unwrap()
            }
        };
        self.net.set_policy(0, policy, self.sandbox.netns.as_fd()).unwrap();
    }

    /// What the sandbox is answered for a name.
    fn ask(&self, name: &str, record_type: RecordType) -> Message {
        let mut query = Message::query();
        query.metadata.recursion_desired = true;
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), record_type));
        let gateway = self.net.gateway();
        inside(&self.sandbox.netns, || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.connect((gateway, 53)).unwrap();
            socket.send(&query.to_vec().unwrap()).unwrap();
            let mut buffer = [0; 2048];
            let length = socket.recv(&mut buffer).unwrap();
            Message::from_vec(&buffer[..length]).unwrap()
        })
    }

    /// The code and the addresses that it is answered.
    fn look_up(&self, name: &str, record_type: RecordType) -> (ResponseCode, Vec<IpAddr>) {
        let answer = self.ask(name, record_type);
        let address = |record: &Record| match &record.data {
            RData::A(address) => Some(IpAddr::V4(address.0)),
            RData::AAAA(address) => Some(IpAddr::V6(address.0)),
            _ => None,
        };
        (answer.metadata.response_code, answer.answers.iter().filter_map(address).collect())
    }

    fn addresses(&self, name: &str) -> Vec<IpAddr> {
        self.look_up(name, RecordType::A).1
    }

    /// The status that a server at an address answers a request for a host with.
    fn http(&self, address: Ipv4Addr, host: &str) -> Option<u16> {
        inside(&self.sandbox.netns, || {
            let mut stream = TcpStream::connect_timeout(&(address, 80).into(), PATIENCE).ok()?;
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            answer.get(9..12)?.parse().ok()
        })
    }

    fn connect(&self, address: Ipv4Addr, port: u16) -> Option<TcpStream> {
        inside(&self.sandbox.netns, || {
            let stream = TcpStream::connect_timeout(&(address, port).into(), PATIENCE).ok()?;
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            Some(stream)
        })
    }

    fn udp(&self, address: Ipv4Addr, port: u16) -> bool {
        inside(&self.sandbox.netns, || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(SILENCE)).unwrap();
            socket.connect((address, port)).unwrap();
            socket.send(b"x").is_ok() && socket.recv(&mut [0; 8]).is_ok()
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some((resolver, gate)) = self.running.take() {
            self.runtime.block_on(async { (resolver.stop().await, gate.stop().await) });
        }
    }
}

fn echoes(stream: &mut TcpStream) -> bool {
    let mut answer = [0; 4];
    stream.write_all(b"ping").is_ok() && stream.read_exact(&mut answer).is_ok()
}

#[test]
fn a_name_that_is_allowed_is_reached_and_no_other() {
    in_lab(|lab| {
        let world = World::start(lab, "allow a.example:80; allow *.c.example");
        assert_eq!(world.look_up("b.example.", RecordType::A).0, ResponseCode::NXDomain);
        let denial = world.denials.recv_timeout(PATIENCE).unwrap();
        assert_eq!(denial.to.name.as_deref(), Some("b.example"));
        assert_ne!(world.http(PUBLIC, "a.example"), Some(200), "nobody was answered yet");
        assert_eq!(world.addresses("a.example."), [IpAddr::V4(PUBLIC)]);
        assert_eq!(world.http(PUBLIC, "a.example"), Some(200));
        // Lies and literals.
        assert_ne!(world.http(PUBLIC, "b.example"), Some(200), "another name at its address");
        assert_ne!(world.http(OTHER, "a.example"), Some(200), "its name at another address");
        assert_ne!(world.http(OTHER, &OTHER.to_string()), Some(200), "no name");
        assert_ne!(world.http(PUBLIC, &PUBLIC.to_string()), Some(200), "its address as a name");
        // Below a name.
        assert_eq!(world.addresses("x.c.example."), [IpAddr::V4(OTHER)]);
        assert_eq!(world.http(OTHER, "x.c.example"), Some(200));
        assert_eq!(world.look_up("c.example.", RecordType::A).0, ResponseCode::NXDomain);
    });
}

#[test]
fn other_ports_are_open_to_what_was_answered_alone() {
    in_lab(|lab| {
        let world = World::start(lab, "allow a.example:7; allow b.example:9");
        assert!(world.connect(PUBLIC, 7).is_none(), "nobody was answered yet");
        world.addresses("a.example.");
        world.addresses("b.example.");
        let mut stream = world.connect(PUBLIC, 7).unwrap();
        assert!(echoes(&mut stream) && world.udp(PUBLIC, 7));
        assert!(world.connect(OTHER, 7).is_none(), "that name has another port");
    });
}

#[test]
fn ways_around_names_are_closed() {
    in_lab(|lab| {
        let world = World::start(lab, "deny b.example; otherwise allow");
        world.addresses("a.example.");
        assert_eq!(world.http(PUBLIC, "a.example"), Some(200));
        assert_ne!(world.http(OTHER, "b.example"), Some(200));
        assert_ne!(world.http(PUBLIC, &PUBLIC.to_string()), Some(200), "it could be b.example");
        assert_ne!(world.http(PUBLIC, "dns.google"), Some(200), "a resolver, by its known address");
        assert!(world.udp(PUBLIC, 7), "all else is allowed");
        for port in [53, 443, 853] {
            assert!(!world.udp(PUBLIC, port), "UDP {port}");
        }
        for port in [53, 853] {
            assert!(world.connect(PUBLIC, port).is_none(), "TCP {port}");
        }
        assert_eq!(world.look_up("dns.google.", RecordType::A).0, ResponseCode::NXDomain);
        let (code, records) = world.look_up("a.example.", RecordType::HTTPS);
        assert_eq!((code, records.len()), (ResponseCode::NoError, 0));
        // The gate itself is nothing to talk to.
        let gateway = world.net.gateway();
        for port in [80, 443, 943, 944] {
            assert!(world.connect(gateway, port).is_none_or(|mut it| !echoes(&mut it)));
        }
    });
}

#[test]
fn a_name_that_is_denied_at_some_ports_is_not_reached_there() {
    in_lab(|lab| {
        let world = World::start(lab, "otherwise deny");
        for rules in [
            "deny a.example:7; otherwise allow",
            "deny a.example:7; allow *.example; otherwise deny",
            "allow a.example:80; deny a.example; otherwise allow",
        ] {
            world.set(rules);
            while world.denials.try_recv().is_ok() {}
            assert_eq!(world.addresses("a.example."), [IpAddr::V4(PUBLIC)], "{rules}");
            assert_eq!(world.addresses("x.c.example."), [IpAddr::V4(OTHER)], "{rules}");
            assert_eq!(world.http(PUBLIC, "a.example"), Some(200), "{rules}");
            assert!(world.connect(OTHER, 7).is_some(), "{rules}");
            assert!(world.connect(PUBLIC, 7).is_none() && !world.udp(PUBLIC, 7), "{rules}");
            let denial = world.denials.recv_timeout(PATIENCE).unwrap();
            assert_eq!(denial.to.name.as_deref(), Some("a.example"), "{rules}");
            assert!(denial.rule.is_some(), "{rules}");
        }
    });
}

#[test]
fn no_answer_outlives_what_it_opens() {
    in_lab(|lab| {
        let world = World::start(lab, "allow long.example");
        let answer = world.ask("long.example.", RecordType::A);
        assert_eq!(answer.answers.iter().map(|it| it.ttl).collect::<Vec<_>>(), [3600]);
    });
}

#[test]
fn nothing_hides_a_name_that_is_learned() {
    in_lab(|lab| {
        let world = World::start(lab, "");
        for (rules, records) in [("", 1), ("mode learn", 0), ("mode dry_run; allow a.example", 0)] {
            world.set(rules);
            let answer = world.ask("https.example.", RecordType::HTTPS);
            assert_eq!(answer.answers.len(), records, "{rules}");
        }
    });
}

#[test]
fn an_answer_never_leads_inside_and_never_to_ipv6() {
    in_lab(|lab| {
        let world = World::start(lab, "");
        for rules in ["", "allow *.example", "otherwise allow"] {
            world.set(rules);
            assert!(world.addresses("rebind.example.").is_empty(), "{rules}");
            assert_eq!(world.addresses("both.example."), [IpAddr::V4(PUBLIC)], "{rules}");
            assert!(world.look_up("a.example.", RecordType::AAAA).1.is_empty(), "{rules}");
        }
    });
}

#[test]
fn a_change_cuts_what_went_through_the_gate_and_spares_the_rest() {
    in_lab(|lab| {
        let world = World::start(lab, "");
        // Open at first; what it is answered is remembered all the same.
        world.addresses("a.example.");
        let mut stream = world.connect(PUBLIC, 7).unwrap();
        let mut other = world.connect(OTHER, 7).unwrap();
        world.set("allow a.example:7,80; otherwise deny");
        assert!(echoes(&mut stream), "to a name that is allowed now");
        assert!(!echoes(&mut other));

        let mut through = world.connect(PUBLIC, 80).unwrap();
        let ask = |stream: &mut TcpStream| {
            let request = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
            let mut answer = [0; 12];
            stream.write_all(request.as_bytes()).is_ok()
                && stream.read_exact(&mut answer).is_ok()
                && answer.ends_with(b"200")
        };
        assert!(ask(&mut through));
        world.set("allow a.example:80; allow *.c.example; otherwise deny");
        assert_eq!(world.http(PUBLIC, "a.example"), Some(200), "still answered");
        assert!(!echoes(&mut stream), "its port is not allowed any more");
        world.set("allow b.example; otherwise deny");
        let mut rest = Vec::new();
        // The end of what was answered, and then the end.
        let _cut = through.read_to_end(&mut rest);
        assert!(!ask(&mut through), "cut");
    });
}

#[test]
fn without_a_gate_the_web_is_closed_under_names() {
    in_lab(|lab| {
        let mut world = World::start(lab, "allow a.example");
        world.addresses("a.example.");
        assert_eq!(world.http(PUBLIC, "a.example"), Some(200));
        let (resolver, gate) = world.running.take().unwrap();
        world.runtime.block_on(async { (gate.stop().await, resolver.stop().await) });
        assert_eq!(world.http(PUBLIC, "a.example"), None);
        assert!(world.connect(PUBLIC, 7).is_some(), "other ports need none");
    });
}

/// A name server that knows a few names.
fn serve_names() {
    let socket = UdpSocket::bind((DNS, 53)).unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let query = Message::from_vec(&buffer[..length]).unwrap();
            let _gone = socket.send_to(&reply(&query).to_vec().unwrap(), peer);
        }
    });
}

fn reply(query: &Message) -> Message {
    let mut answer = query.clone().into_response();
    let asked = &query.queries[0];
    let four: &[Ipv4Addr] = match asked.name().to_string().as_str() {
        "a.example." | "dns.google." => &[PUBLIC],
        "b.example." | "x.c.example." | "c.example." => &[OTHER],
        "rebind.example." => &[PRIVATE, METADATA, Ipv4Addr::LOCALHOST],
        "both.example." => &[PRIVATE, PUBLIC],
        "long.example." => &[PUBLIC],
        _ => &[],
    };
    let six = AAAA("2001:db8::1".parse().unwrap());
    match asked.query_type() {
        RecordType::A => four.iter().for_each(|address| {
            let life = if asked.name().to_string() == "long.example." { 86_400 } else { 60 };
            let record = Record::from_rdata(asked.name().clone(), life, RData::A(A(*address)));
            answer.add_answer(record);
        }),
        RecordType::AAAA => {
            answer.add_answer(Record::from_rdata(asked.name().clone(), 60, RData::AAAA(six)));
        }
        RecordType::HTTPS if asked.name().to_string() == "https.example." => {
            let record = SVCB::new(1, Name::root(), Vec::new());
            let record = RData::HTTPS(HTTPS(record));
            answer.add_answer(Record::from_rdata(asked.name().clone(), 60, record));
        }
        _ => {}
    }
    answer
}

/// Repeats datagrams, and listens for TCP at the same ports but those that others have.
fn serve_udp(ports: &[u16]) {
    for port in ports {
        for address in [PUBLIC, OTHER] {
            let socket = UdpSocket::bind((address, *port)).unwrap();
            thread::spawn(move || {
                let mut buffer = [0; 64];
                while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                    let _gone = socket.send_to(&buffer[..length], peer);
                }
            });
        }
        if let Ok(listener) = TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, *port))) {
            thread::spawn(move || listener.incoming().for_each(drop));
        }
    }
}
