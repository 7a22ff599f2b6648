//! The way of connections whose names decide: accepted here in place of the other side, and given
//! to [`warren_egress`], which looks at the name.
//!
//! The packet filter sends TCP to 80 and 443 here, of sandboxes whose rules name domains or whose
//! requests are given something, and all TCP of those that have a proxy. The
//! kernel says where each wanted to go, and its source address which sandbox it is. A port below
//! 1024 is taken, so that no ordinary user of the host gets a sandbox's connections when no server
//! runs.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use rustix::{
    net::sockopt::{ip_original_dst, ipv6_original_dst, set_ipv6_freebind},
    process::{Resource, getrlimit},
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinSet,
};
use warren_core::{
    egress::{Attempt, Mode, Protocol},
    runtime::{Denial, Destination},
};
use warren_egress::{
    Asked, Credentials, Denied, Gate, GateConfig, HostName, Passport, Proxy, Reach, Reason,
    TrustError, Verdict,
};

use super::{
    NetError, listener,
    policy::{GatePort, LOOKED_AT, Place, Policies},
    resolver::Limits,
    six,
};

/// The ports that are tried, in order.
const PORTS: std::ops::RangeInclusive<u16> = 943..=985;
/// How many descriptors a connection costs at most.
const DESCRIPTORS: u64 = 8;
/// The fewest and the most connections there may be in all, whatever the server may open.
const CONNECTIONS: (u64, u64) = (256, 16_384);

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;

/// Why there is no gate.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// No port could be had.
    #[error("could not listen at {address} on any port from {} to {}", PORTS.start(), PORTS.end())]
    Listen {
        /// The gateway address.
        address: Ipv4Addr,
        /// Why, of the last port.
        #[source]
        source: io::Error,
    },
    /// The authorities to trust cannot be read.
    #[error("could not set up what the gate trusts")]
    Trust(#[from] TrustError),
    /// Connections could not be sent to it.
    #[error("could not send connections to the gate")]
    Rules(#[from] NetError),
}

/// A running gate; it ends when this is dropped.
#[derive(Debug)]
pub struct GateHandle {
    policies: Arc<Policies>,
    tasks: JoinSet<()>,
}

impl GateHandle {
    /// Ends the gate: what would go through it is refused from here on.
    pub async fn stop(mut self) {
        if let Err(error) = self.policies.set_gate(None) {
            let cause = &error as &dyn std::error::Error;
            tracing::warn!(error = cause, "connections are still sent to the gate");
        }
        self.tasks.shutdown().await;
    }
}

/// Starts the gate on the calling runtime, in the namespace of its threads. `roots` are
/// authorities, as PEM, that are trusted besides those of the host where TLS is spoken in the place
/// of a sandbox.
///
/// # Errors
///
/// [`GateError`].
pub async fn start(policies: Arc<Policies>, roots: Vec<u8>) -> Result<GateHandle, GateError> {
    let config = GateConfig { additional_roots: roots, ..GateConfig::default() };
    let gate = Arc::new(Gate::new(config)?);
    let address = policies.gateway;
    let failed = |source| GateError::Listen { address, source };
    let listener = listener::bind(address, PORTS).await.map_err(failed)?;
    let port = listener.local_addr().map_or(0, |address| address.port());
    let listener_6 = bind_6(six::address_of(policies.gateway), port);
    if let Err(error) = &listener_6 {
        tracing::warn!(%error, "names in connections by IPv6 are not looked at: there are none");
    }
    policies.set_gate(Some(GatePort { port, six: listener_6.is_ok() }))?;
    let most = connections();
    let limits = Limits::new(most, most / 4);
    let mut tasks = JoinSet::new();
    for listener in std::iter::once(listener).chain(listener_6) {
        let (gate, limits) = (Arc::clone(&gate), Arc::clone(&limits));
        tasks.spawn(accept(listener, gate, Arc::clone(&policies), limits));
    }
    Ok(GateHandle { policies, tasks })
}

/// How many connections half of the descriptors are enough for that the server may have.
fn connections() -> usize {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let most = (descriptors / 2 / DESCRIPTORS).clamp(CONNECTIONS.0, CONNECTIONS.1);
    usize::try_from(most).unwrap_or(usize::MAX)
}

/// Listens at the gateway's address of IPv6, which the host may get only later.
fn bind_6(address: Ipv6Addr, port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v6()?;
    set_ipv6_freebind(&socket, true)?;
    socket.set_reuseaddr(true)?;
    socket.bind((address, port).into())?;
    socket.listen(BACKLOG)
}

async fn accept(
    listener: TcpListener,
    gate: Arc<Gate>,
    policies: Arc<Policies>,
    limits: Arc<Limits>,
) {
    let serve = |stream: TcpStream, peer: SocketAddr| {
        let (destination, passport) = who(&stream, peer, &policies)?;
        // A sandbox has as many by both families as by one.
        let source = match peer.ip() {
            IpAddr::V6(six) => six::four_of(six).map_or(peer.ip(), IpAddr::V4),
            four @ IpAddr::V4(_) => four,
        };
        let Some(permit) = limits.admit(source) else {
            let (name, rule, reason) = (None, None, Reason::TooMany);
            passport.denied(Denied { name, destination, rule, reason });
            return None;
        };
        let gate = Arc::clone(&gate);
        Some(async move {
            gate.serve(stream, destination, passport).await;
            drop(permit);
        })
    };
    listener::accept(listener, serve).await;
}

/// Where a connection wanted to go, and whose it is; none for one that was not sent here.
fn who(
    stream: &TcpStream,
    peer: SocketAddr,
    policies: &Arc<Policies>,
) -> Option<(SocketAddr, Arc<dyn Passport>)> {
    let place = policies.place_at(peer.ip())?;
    let (destination, own) = match peer {
        SocketAddr::V4(_) => {
            (SocketAddr::from(ip_original_dst(stream).ok()?), IpAddr::V4(policies.gateway))
        }
        SocketAddr::V6(_) => {
            let destination = SocketAddr::from(ipv6_original_dst(stream).ok()?);
            (destination, six::address_of(policies.gateway).into())
        }
    };
    // Whoever connects to the gate by itself would be sent round in a circle.
    if destination.ip() == own {
        return None;
    }
    // Nobody has said yet what an earlier server was told.
    if place.given().is_awaited() {
        return None;
    }
    let counted = AtomicBool::new(false);
    let passport = SandboxPassport { policies: Arc::clone(policies), place, counted };
    passport.learn(destination);
    Some((destination, Arc::new(passport)))
}

/// What the gate gets to know about one sandbox.
#[derive(Debug)]
struct SandboxPassport {
    policies: Arc<Policies>,
    place: Arc<Place>,
    /// Whether the connection is counted as one that was made.
    counted: AtomicBool,
}

impl SandboxPassport {
    /// Notes a connection that no chain of the packet filter sees, where what is reached is learnt.
    fn learn(&self, destination: SocketAddr) {
        if self.place.policy().is_none_or(|it| it.egress.mode == Mode::Enforce) {
            return;
        }
        let to = Destination {
            name: None,
            address: Some(destination.ip()),
            protocol: Protocol::Tcp,
            port: Some(destination.port()),
        };
        if let Some(denial) = self.place.seen(to, false) {
            self.policies.denied(&self.place, denial);
        }
    }

    /// What a connection may be known by: the name that it gives. On ports where none is looked
    /// at, those that the address was answered for, as the packet filter does it.
    fn names(&self, asked: &Asked<'_>) -> Vec<String> {
        if let Some(name) = asked.name {
            return vec![name.as_str().to_owned()];
        }
        match LOOKED_AT.contains(&asked.destination.port()) {
            true => Vec::new(),
            false => self.place.answers().names_of(asked.destination.ip()),
        }
    }

    fn was_answered(&self, name: &str, address: IpAddr, ever: bool) -> bool {
        self.place.answers().has(name, address, ever, Instant::now())
    }

    /// What the rules say.
    fn verdict(&self, asked: &Asked<'_>) -> Verdict {
        let open = Verdict { allowed: true, rule: None };
        let Some(policy) = self.place.policy() else { return open };
        if policy.egress.mode != Mode::Enforce {
            return open;
        }
        let address = asked.destination.ip();
        let decide = |name: Option<&str>| {
            let proven =
                name.is_some_and(|name| self.was_answered(name, address, asked.established));
            policy.egress.enforced(&Attempt {
                name,
                proven,
                address: Some(address),
                protocol: Protocol::Tcp,
                port: Some(asked.destination.port()),
            })
        };
        let names = self.names(asked);
        let allowed = names.iter().map(|name| decide(Some(name))).find(|it| it.allowed);
        // A name that is given and not allowed is not one that was not given.
        let verdict = allowed.unwrap_or_else(|| decide(asked.name.map(HostName::as_str)));
        Verdict { allowed: verdict.allowed, rule: verdict.rule }
    }
}

impl Passport for SandboxPassport {
    fn needs_name(&self, destination: SocketAddr) -> bool {
        // A proxy is told the name as well, where it is known.
        let matters = || self.place.names_decide() || self.place.given().proxy.is_some();
        LOOKED_AT.contains(&destination.port()) && matters()
    }

    fn decide(&self, asked: &Asked<'_>) -> Verdict {
        let verdict = self.verdict(asked);
        if verdict.allowed && !self.counted.swap(true, Ordering::Relaxed) {
            self.place.pass();
        }
        verdict
    }

    fn credentials(&self) -> Option<Arc<Credentials>> {
        self.place.given().credentials
    }

    fn proxy(&self) -> Option<Arc<Proxy>> {
        self.place.given().proxy
    }

    fn reach(&self, address: IpAddr) -> Reach {
        self.policies.reach(address)
    }

    fn answered(&self, name: &HostName, address: IpAddr) -> bool {
        self.was_answered(name.as_str(), address, false)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.place.changes()
    }

    fn denied(&self, denied: Denied) {
        let to = Destination {
            name: denied.name.as_ref().map(|name| name.as_str().to_owned()),
            address: Some(denied.destination.ip()),
            protocol: Protocol::Tcp,
            port: Some(denied.destination.port()),
        };
        let why = (denied.reason != Reason::Rule).then(|| denied.reason.phrase());
        let denial = Denial { to, rule: denied.rule, why, enforced: true, untold: 0 };
        self.policies.denied(&self.place, denial);
    }

    fn count(&self, _sent_bytes: u64, _received_bytes: u64) {
        // The sandbox's interface counts them.
    }
}
