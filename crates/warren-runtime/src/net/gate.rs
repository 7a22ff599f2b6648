//! The way of connections whose names decide: accepted here in place of the other side, and given
//! to [`warren_egress`], which looks at the name.
//!
//! The packet filter sends TCP to 80 and 443 here, of sandboxes whose rules name domains. The
//! kernel says where each wanted to go, and its source address which sandbox it is. A port below
//! 1024 is taken, so that no ordinary user of the host gets a sandbox's connections when no server
//! runs.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::net::sockopt::ip_original_dst;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use warren_core::{
    egress::{Attempt, Mode, Protocol},
    runtime::{Denial, Destination},
};
use warren_egress::{
    Asked, Denied, Gate, GateConfig, HostName, Passport, Reach, TrustError, Verdict,
};

use super::{
    NetError,
    policy::{Place, Policies},
    resolver::Limits,
};

/// The ports that are tried, in order.
const PORTS: std::ops::RangeInclusive<u16> = 943..=985;
/// How many connections there may be, in all and of one sandbox; each costs up to 8 descriptors.
const CONNECTIONS: (usize, usize) = (1024, 256);

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

/// Starts the gate on the calling runtime, in the namespace of its threads.
///
/// # Errors
///
/// [`GateError`].
pub async fn start(policies: Arc<Policies>) -> Result<GateHandle, GateError> {
    let gate = Arc::new(Gate::new(GateConfig::default())?);
    let listener = bind(policies.gateway).await?;
    let port = listener.local_addr().map_or(0, |address| address.port());
    policies.set_gate(Some(port))?;
    let mut tasks = JoinSet::new();
    tasks.spawn(accept(listener, gate, Arc::clone(&policies)));
    Ok(GateHandle { policies, tasks })
}

async fn bind(address: Ipv4Addr) -> Result<TcpListener, GateError> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for port in PORTS {
        match TcpListener::bind((address, port)).await {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(GateError::Listen { address, source: last })
}

async fn accept(listener: TcpListener, gate: Arc<Gate>, policies: Arc<Policies>) {
    let limits = Limits::new(CONNECTIONS.0, CONNECTIONS.1);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_ended) = connections.join_next() => continue,
        };
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(Duration::from_millis(10)).await; // out of descriptors
            continue;
        };
        let Some((destination, passport)) = who(&stream, peer, &policies) else { continue };
        let Some(permit) = limits.admit(peer.ip()) else { continue };
        let gate = Arc::clone(&gate);
        connections.spawn(async move {
            gate.serve(stream, destination, passport).await;
            drop(permit);
        });
    }
}

/// Where a connection wanted to go, and whose it is; none for one that was not sent here.
fn who(
    stream: &TcpStream,
    peer: SocketAddr,
    policies: &Arc<Policies>,
) -> Option<(SocketAddr, Arc<dyn Passport>)> {
    let IpAddr::V4(source) = peer.ip() else { return None };
    let place = policies.place_at(source)?;
    let destination = SocketAddr::from(ip_original_dst(stream).ok()?);
    // Whoever connects to the gate by itself would be sent round in a circle.
    if destination.ip() == IpAddr::V4(policies.gateway) {
        return None;
    }
    let passport = SandboxPassport { policies: Arc::clone(policies), place };
    Some((destination, Arc::new(passport)))
}

/// What the gate gets to know about one sandbox.
#[derive(Debug)]
struct SandboxPassport {
    policies: Arc<Policies>,
    place: Arc<Place>,
}

impl SandboxPassport {
    fn was_answered(&self, name: &str, address: IpAddr, ever: bool) -> bool {
        let IpAddr::V4(address) = address else { return false };
        self.place.answers().has(name, address, ever, Instant::now())
    }
}

impl Passport for SandboxPassport {
    fn needs_name(&self, _destination: SocketAddr) -> bool {
        self.place.names_decide()
    }

    fn decide(&self, asked: &Asked<'_>) -> Verdict {
        let open = Verdict { allowed: true, rule: None };
        let Some(policy) = self.place.policy() else { return open };
        if policy.egress.mode != Mode::Enforce {
            return open;
        }
        let name = asked.name.map(HostName::as_str);
        let address = asked.destination.ip();
        let proven = name.is_some_and(|name| self.was_answered(name, address, asked.established));
        let verdict = policy.egress.decide(&Attempt {
            name,
            proven,
            address: Some(address),
            protocol: Protocol::Tcp,
            port: Some(asked.destination.port()),
        });
        Verdict { allowed: verdict.allowed, rule: verdict.rule }
    }

    fn reach(&self, address: IpAddr) -> Reach {
        match address {
            IpAddr::V4(address) if self.policies.is_granted(address) => Reach::Granted,
            IpAddr::V4(address) if !self.policies.is_closed(address) => Reach::Public,
            _ => Reach::No,
        }
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
        let denial = Denial { to, rule: denied.rule, enforced: true, untold: 0 };
        self.policies.denied(&self.place, denial);
    }

    fn count(&self, _sent_bytes: u64, _received_bytes: u64) {
        // The sandbox's interface counts them.
    }
}
