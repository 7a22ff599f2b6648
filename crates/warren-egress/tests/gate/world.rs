//! What the tests stand on: a gate, a passport whose rules are a list of names, servers.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinSet,
};
use warren_egress::{
    Asked, Credentials, Denied, Gate, GateConfig, HostName, Passport, Patience, Proxy, Reach,
    Verdict,
};

/// Names that may be reached, anywhere; nothing else may.
#[derive(Debug)]
pub(crate) struct Names {
    allowed: Mutex<BTreeSet<String>>,
    nameless: bool,
    reach: Reach,
    credentials: Mutex<Option<Arc<Credentials>>>,
    answered: AtomicBool,
    expired: AtomicBool,
    proxy: Mutex<Option<Arc<Proxy>>>,
    changes: watch::Sender<u64>,
    denials: mpsc::UnboundedSender<Denied>,
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
}

impl Names {
    pub(crate) fn allow(&self, names: &[&str]) {
        *self.allowed.lock().unwrap() = names.iter().map(|it| (*it).to_owned()).collect();
        self.changes.send_modify(|it| *it += 1);
    }

    pub(crate) fn give(&self, credentials: Credentials) {
        *self.credentials.lock().unwrap() = Some(Arc::new(credentials));
        self.changes.send_modify(|it| *it += 1);
    }

    /// From now on every connection goes through this proxy.
    pub(crate) fn send_through(&self, proxy: Proxy) {
        *self.proxy.lock().unwrap() = Some(Arc::new(proxy));
    }

    /// From now on no answer for a name lives any more.
    pub(crate) fn expire(&self) {
        self.expired.store(true, Ordering::Relaxed);
    }

    /// From now on every address was answered for every name.
    pub(crate) fn answer_all(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }
}

impl Passport for Names {
    fn needs_name(&self, _destination: SocketAddr) -> bool {
        !self.nameless
    }

    fn decide(&self, asked: &Asked<'_>) -> Verdict {
        let allowed = self.allowed.lock().unwrap();
        let allowed = asked.name.map_or(self.nameless, |name| allowed.contains(name.as_str()));
        let lives = asked.established || !self.expired.load(Ordering::Relaxed);
        Verdict { allowed: allowed && lives, rule: None }
    }

    fn reach(&self, _address: IpAddr) -> Reach {
        self.reach
    }

    fn credentials(&self) -> Option<Arc<Credentials>> {
        self.credentials.lock().unwrap().clone()
    }

    fn proxy(&self) -> Option<Arc<Proxy>> {
        self.proxy.lock().unwrap().clone()
    }

    fn answered(&self, _name: &HostName, _address: IpAddr) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn denied(&self, denied: Denied) {
        // A test that does not look has dropped the other end.
        drop(self.denials.send(denied));
    }

    fn count(&self, sent_bytes: u64, received_bytes: u64) {
        self.sent.fetch_add(sent_bytes, Ordering::Relaxed);
        self.received.fetch_add(received_bytes, Ordering::Relaxed);
    }
}

/// A gate for one sandbox and what is behind it.
pub(crate) struct World {
    pub(crate) passport: Arc<Names>,
    pub(crate) denials: mpsc::UnboundedReceiver<Denied>,
    pub(crate) tasks: JoinSet<()>,
    gate: Arc<Gate>,
}

impl World {
    pub(crate) fn new(allowed: &[&str]) -> Self {
        Self::with(allowed, false, Reach::Granted)
    }

    pub(crate) fn with(allowed: &[&str], nameless: bool, reach: Reach) -> Self {
        let (denials_in, denials) = mpsc::unbounded_channel();
        let passport = Names {
            allowed: Mutex::default(),
            nameless,
            reach,
            credentials: Mutex::default(),
            answered: AtomicBool::new(false),
            expired: AtomicBool::new(false),
            proxy: Mutex::default(),
            changes: watch::channel(0).0,
            denials: denials_in,
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
        };
        passport.allow(allowed);
        let gate = Arc::new(Gate::new(GateConfig::default()).unwrap());
        Self { passport: Arc::new(passport), denials, tasks: JoinSet::new(), gate }
    }

    /// Has the gate wait no longer than this.
    pub(crate) fn wait(&mut self, patience: Patience) {
        let config = GateConfig { patience, ..GateConfig::default() };
        self.gate = Arc::new(Gate::new(config).unwrap());
    }

    /// Has the gate trust this authority too.
    pub(crate) fn trust(&mut self, pem: &str) {
        let additional_roots = pem.as_bytes().to_vec();
        let config = GateConfig { additional_roots, ..GateConfig::default() };
        self.gate = Arc::new(Gate::new(config).unwrap());
    }

    /// A connection of the sandbox to this address, through the gate.
    pub(crate) async fn connect(&mut self, destination: SocketAddr) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _peer) = listener.accept().await.unwrap();
        let (gate, passport) = (Arc::clone(&self.gate), Arc::clone(&self.passport));
        self.tasks.spawn(async move { gate.serve(accepted, destination, passport).await });
        client
    }

    /// A server that does this with each connection.
    pub(crate) async fn server<F>(
        &mut self,
        serve: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> SocketAddr
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        self.tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _peer)) = listener.accept().await {
                connections.spawn(serve(stream));
            }
        });
        address
    }
}
