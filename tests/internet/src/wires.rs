//! The namespaces: who has which address, and where packets go.

use std::{
    io::{self, Write as _},
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    process::{Command, Stdio},
    thread,
};

use warren_sys::{
    netlink::{
        Socket,
        route::{self, VethPair},
    },
    netns,
};

use crate::InternetError;

/// The host's address.
pub const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// The host's address of IPv6.
pub const HOST_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 2);
/// What the host sends everything to.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// A name server, which answers from the [`crate::Zone`].
pub const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 53);
/// Another one that does the same.
pub const OTHER_NAME_SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 54);
/// Machines in private networks that the host reaches.
pub const PRIVATE: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 168, 77, 5), Ipv4Addr::new(10, 99, 0, 5)];
/// Where clouds tell machines their secrets.
pub const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// What the host sends everything of IPv6 to; it is on the host's own wire.
pub const ROUTER_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 1);
/// A machine with a unique local address that the host reaches.
pub const PRIVATE_6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, 5);
/// Where clouds tell machines their secrets by IPv6.
pub const METADATA_6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// A machine on the internet.
#[must_use]
pub const fn site(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, number)
}

/// The same machine's address of IPv6.
#[must_use]
pub const fn site_6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, number as u16)
}

/// The index of the first interface after the loopback.
const FIRST_INDEX: u32 = 2;

/// What the host has. Addresses of IPv6 are used at once, without asking whether others have them.
const AT_HOST: &str = "\
link set lo up
address add 198.51.100.2/24 dev uplink
address add 2001:db8:ff::2/64 dev uplink nodad
link set uplink up
route add 0.0.0.0/0 via 198.51.100.1
route add ::/0 via 2001:db8:ff::1
";

/// What the internet has, and its way to sandboxes: what does not arrive there was refused.
const AT_INTERNET: &str = "\
link set lo up
address add 198.51.100.1/24 dev uplink
address add 2001:db8:ff::1/64 dev uplink nodad
link set uplink up
route add local 203.0.113.0/24 dev lo
route add local 2001:db8:1::/48 dev lo
route add local 192.168.77.5/32 dev lo
route add local 10.99.0.5/32 dev lo
route add local 169.254.169.254/32 dev lo
route add local fd00:77::5/128 dev lo
route add local fd00:ec2::254/128 dev lo
route add 10.0.0.0/8 via 198.51.100.2
route add fc00::/7 via 2001:db8:ff::2
";

/// The two namespaces; they end when nothing is in them and the descriptors are closed.
#[derive(Debug)]
pub(crate) struct Wires {
    pub(crate) host: OwnedFd,
    pub(crate) internet: OwnedFd,
}

/// Makes both and connects them.
pub(crate) fn make() -> Result<Wires, InternetError> {
    let wires = Wires { host: namespace()?, internet: namespace()? };
    let peer = wires.internet.as_fd();
    inside(wires.host.as_fd(), || connect(&Veth { name: "uplink", peer, macs: [1, 2] }))??;
    inside(wires.host.as_fd(), || configure(AT_HOST))??;
    // A socket is bound only to an address of IPv6 that an interface has; a route is not enough.
    let six = (1..=9)
        .chain([53])
        .map(site_6)
        .chain([PRIVATE_6, METADATA_6])
        .map(|address| format!("address add {address}/128 dev lo nodad\n"));
    let lines: String = [AT_INTERNET.to_owned()].into_iter().chain(six).collect();
    inside(peer, || configure(&lines))??;
    Ok(wires)
}

/// Runs `work` on a thread in this namespace; what it starts is there too.
pub(crate) fn inside<T: Send>(
    namespace: BorrowedFd<'_>,
    work: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    thread::scope(|scope| {
        let worker = scope.spawn(move || netns::enter(namespace).map(|()| work()));
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

pub(crate) fn namespace() -> Result<OwnedFd, InternetError> {
    let made = thread::spawn(|| {
        netns::unshare()?;
        netns::current()
    });
    let made = made.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    made.map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => InternetError::NotPossible("needs root".to_owned()),
        _ => InternetError::Io { doing: "make a network namespace", source },
    })
}

/// A wire from the calling thread's namespace to another.
pub(crate) struct Veth<'a> {
    /// What the interface is called at both ends.
    pub(crate) name: &'a str,
    /// The other namespace, which has no interface but its loopback.
    pub(crate) peer: BorrowedFd<'a>,
    /// The last byte of the hardware address at each end.
    pub(crate) macs: [u8; 2],
}

pub(crate) fn connect(veth: &Veth<'_>) -> Result<(), InternetError> {
    let failed = |source| InternetError::Io { doing: "connect two network namespaces", source };
    let [mac, peer_mac] = veth.macs.map(|last| [2, 9, 0, 0, 0, last]);
    let pair = route::create_veth(&VethPair {
        name: veth.name,
        mac,
        group: 0,
        peer_name: veth.name,
        peer_mac,
        peer_index: FIRST_INDEX,
        peer_namespace: veth.peer,
        mtu: 1500,
    });
    let mut socket = Socket::route().map_err(|error| failed(io::Error::other(error)))?;
    socket
        .transact("make a pair of interfaces", &mut [pair])
        .map(drop)
        .map_err(|error| failed(io::Error::other(error)))
}

/// Has `ip` do these lines in the calling thread's namespace.
pub(crate) fn configure(lines: &str) -> Result<(), InternetError> {
    feed("ip", &["-batch", "-"], lines)
}

/// Runs a program in the calling thread's namespace with these lines as its input.
pub(crate) fn feed(program: &str, words: &[&str], lines: &str) -> Result<(), InternetError> {
    let failed = |source| InternetError::Io { doing: "run ip or nft", source };
    #[expect(clippy::disallowed_methods, reason = "iproute2 and nftables are others' programs")]
    let mut command = Command::new(program);
    command.args(words).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(InternetError::NotPossible(format!("{program} is not installed")));
        }
        started => started.map_err(failed)?,
    };
    if let Some(mut input) = child.stdin.take() {
        input.write_all(lines.as_bytes()).map_err(failed)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(InternetError::NotPossible(format!("{program} failed: {said}")))
}
