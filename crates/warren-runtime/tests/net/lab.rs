//! A host and an Internet, both network namespaces of the test's own.
//!
//! ```text
//!  sandboxes -- "host" 198.51.100.2 ------ 198.51.100.1 "Internet": 203.0.113.5 (public),
//!               (the test's thread)                      192.168.77.5, 169.254.169.254
//! ```
//!
//! The Internet has routes to everything, sandboxes included: what does not arrive was refused.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    thread,
    time::Duration,
};

use warren_runtime::net::{Net, NetConfig};
use warren_sys::{
    netlink::{
        Socket,
        route::{self, Hop, LOOPBACK_INDEX, VethPair},
    },
    netns,
};

pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
pub(crate) const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
pub(crate) const PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);
pub(crate) const PRIVATE: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 5);
pub(crate) const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
pub(crate) const HOST_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 2);
pub(crate) const ROUTER_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 1);
pub(crate) const PUBLIC_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 5);
pub(crate) const OTHER_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 6);
pub(crate) const PRIVATE_6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, 5);
pub(crate) const METADATA_6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
/// The port of every server: answers with the address it was asked from.
pub(crate) const PORT: u16 = 8080;
/// How long to wait for what should come; long, for machines under load.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait for what should not come.
pub(crate) const SILENCE: Duration = Duration::from_millis(300);

const UPLINK: u32 = 2;

/// The namespaces of one test.
pub(crate) struct Lab {
    pub(crate) internet: OwnedFd,
}

/// Runs a test on a thread whose network namespace is its host.
pub(crate) fn in_lab(test: impl FnOnce(&Lab) + Send) {
    if let Err(reason) = possible() {
        return skip(&reason);
    }
    thread::scope(|scope| {
        let ran = scope.spawn(|| test(&Lab::new())).join();
        ran.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// Says that a test does not run here, in the words that the test runner counts.
pub(crate) fn skip(reason: &str) {
    println!("SKIPPED: {reason}");
}

fn possible() -> Result<(), String> {
    let tried = thread::spawn(|| {
        netns::unshare().map_err(|error| format!("no network namespace can be made: {error}"))?;
        let net = Net::open(config("probe", 0));
        net.map(|_net| ()).map_err(|error| match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        })
    });
    tried.join().map_err(|_panic| "the probe panicked".to_owned())?
}

pub(crate) fn config(instance: &str, index: u8) -> NetConfig {
    NetConfig { instance: instance.to_owned(), index, ..NetConfig::default() }
}

impl Lab {
    fn new() -> Self {
        netns::unshare().unwrap();
        let internet = thread::spawn(|| {
            netns::unshare().unwrap();
            netns::current().unwrap()
        });
        let internet = internet.join().unwrap();
        let mut host = Socket::route().unwrap();
        let pair = route::create_veth(&VethPair {
            name: "uplink",
            mac: [2, 9, 0, 0, 0, 1],
            group: 0,
            peer_name: "eth0",
            peer_mac: [2, 9, 0, 0, 0, 2],
            peer_index: UPLINK,
            peer_namespace: internet.as_fd(),
            mtu: 1500,
        });
        host.transact("make the uplink", &mut [pair]).unwrap();
        let uplink = uplink(&mut host);
        let mut requests = [
            route::set_link_up(LOOPBACK_INDEX),
            route::add_address(uplink, HOST, 24, None),
            route::set_link_up(uplink),
        ];
        host.transact("set the host up", &mut requests).unwrap();
        inside(&internet, set_up_internet);
        let any = Ipv4Addr::UNSPECIFIED;
        let mut default = [route::add_route(any, 0, uplink, Hop::Via(ROUTER.into()))];
        host.transact("add the default route", &mut default).unwrap();
        Self { internet }
    }

    /// Gives both IPv6; to be done before the network of sandboxes is opened, or while it is.
    pub(crate) fn add_six(&self) {
        inside(&self.internet, || {
            let mut requests = vec![route::add_address(UPLINK, ROUTER_6, 64, None)];
            for address in [PUBLIC_6, OTHER_6, PRIVATE_6, METADATA_6] {
                requests.push(route::add_address(LOOPBACK_INDEX, address, 128, None));
            }
            let ours = Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0);
            requests.push(route::add_route(ours, 7, UPLINK, Hop::Via(HOST_6.into())));
            let mut socket = Socket::route().unwrap();
            socket.transact("give the Internet IPv6", &mut requests).unwrap();
        });
        let mut host = Socket::route().unwrap();
        let link = uplink(&mut host);
        let mut requests = [
            route::add_address(link, HOST_6, 64, None),
            route::add_route(Ipv6Addr::UNSPECIFIED, 0, link, Hop::Via(ROUTER_6.into())),
        ];
        host.transact("give the host IPv6", &mut requests).unwrap();
    }

    /// Takes the host's address of IPv6 away, and with it the way out.
    pub(crate) fn remove_six(&self) {
        let mut host = Socket::route().unwrap();
        let link = uplink(&mut host);
        let mut request = [route::delete_address(link, HOST_6, 64)];
        host.transact("take IPv6 from the host", &mut request).unwrap();
    }

    /// Gives the Internet one more address.
    pub(crate) fn add_address(&self, address: Ipv4Addr) {
        inside(&self.internet, || {
            let add = route::add_address(LOOPBACK_INDEX, address, 32, None);
            let mut socket = Socket::route().unwrap();
            socket.transact("add an address", &mut [add]).unwrap();
        });
    }

    /// Starts servers in the Internet, for TCP and UDP, that answer with the asker's address.
    pub(crate) fn serve(&self) {
        inside(&self.internet, serve);
    }
}

fn uplink(host: &mut Socket) -> u32 {
    route::link(host, "uplink").unwrap().unwrap().index
}

fn set_up_internet() {
    let mut socket = Socket::route().unwrap();
    let mut requests = [
        route::set_link_up(LOOPBACK_INDEX),
        route::set_link_up(UPLINK),
        route::add_address(UPLINK, ROUTER, 24, None),
        route::add_address(LOOPBACK_INDEX, PUBLIC, 32, None),
        route::add_address(LOOPBACK_INDEX, PRIVATE, 32, None),
        route::add_address(LOOPBACK_INDEX, METADATA, 32, None),
        route::add_route(Ipv4Addr::new(10, 0, 0, 0), 8, UPLINK, Hop::Via(HOST.into())),
    ];
    socket.transact("set the Internet up", &mut requests).unwrap();
}

/// Starts servers on every address of the calling thread's namespace; they end with the test.
pub(crate) fn serve() {
    // Of both families.
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let peer = stream.peer_addr().unwrap().ip().to_canonical().to_string();
            // A client that has gone has made its point.
            let _gone = stream.write_all(peer.as_bytes());
        }
    });
    // One socket per address, so that answers come from the address that was asked.
    let mut socket = Socket::route().unwrap();
    let four = route::addresses(&mut socket).unwrap();
    let six = route::addresses_6(&mut socket).unwrap();
    let six = six.into_iter().filter(|it| !it.address.is_unicast_link_local());
    let all = four.into_iter().map(|it| IpAddr::V4(it.address));
    for address in all.chain(six.map(|it| IpAddr::V6(it.address))) {
        let socket = UdpSocket::bind((address, PORT)).unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                let _gone = socket.send_to(peer.ip().to_string().as_bytes(), peer);
            }
        });
    }
}

/// Runs `work` on a thread inside `namespace`.
pub(crate) fn inside<T: Send>(namespace: impl AsFd, work: impl FnOnce() -> T + Send) -> T {
    fn enter(namespace: BorrowedFd<'_>) {
        netns::enter(namespace).unwrap();
    }
    let namespace = namespace.as_fd();
    thread::scope(|scope| {
        let worker = scope.spawn(move || {
            enter(namespace);
            work()
        });
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Asks the TCP server at `address` who is asking.
pub(crate) fn ask_tcp(address: impl Into<IpAddr>, patience: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&(address.into(), PORT).into(), patience)?;
    stream.set_read_timeout(Some(patience))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Asks the UDP server at `address` who is asking.
pub(crate) fn ask_udp(address: impl Into<IpAddr>, patience: Duration) -> io::Result<String> {
    let address = address.into();
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(patience))?;
    socket.connect(SocketAddr::new(address, PORT))?;
    socket.send(b"who am I?")?;
    let mut answer = [0; 64];
    let length = socket.recv(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

/// Names of the interfaces of the calling thread's namespace.
pub(crate) fn link_names() -> Vec<String> {
    let links = route::links(&mut Socket::route().unwrap()).unwrap();
    links.into_iter().map(|link| link.name).collect()
}

/// A runtime whose threads are started by this one, and so are in its namespace.
pub(crate) fn runtime_here() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Repeats what it is told, at every address of the calling thread's namespace.
pub(crate) fn serve_echo(port: u16) {
    serve_pieces(port, |piece| piece.to_vec());
}

/// Answers every piece that it reads, at every address of the calling thread's namespace.
pub(crate) fn serve_pieces(port: u16, answer: fn(&[u8]) -> Vec<u8>) {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&answer(&buffer[..length])).is_err() {
                        return;
                    }
                }
            });
        }
    });
}
