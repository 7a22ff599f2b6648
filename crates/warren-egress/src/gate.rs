//! One connection of a sandbox from beginning to end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{io::AsyncWriteExt as _, net::TcpStream, sync::watch};

use crate::{
    exchange, intercept,
    io::{self, Stream},
    name::HostName,
    outside::{self, OutsideError},
    passport::{Asked, Denied, Passport, Reason},
    peek::{self, First, Hello},
    refuse, relay,
    trust::{Trust, TrustError, Versions},
};

/// How long nothing may happen on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// While something is under way; twice that at most where bytes pass unseen.
    pub idle: Duration,
    /// Between two requests.
    pub between: Duration,
    /// While a request is under way and the client sends no more: it has said so, or is gone.
    pub closed: Duration,
}

impl Patience {
    pub(crate) fn shortest(&self) -> Duration {
        self.idle.min(self.between).min(self.closed)
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(2 * 60 * 60),
            between: Duration::from_secs(10 * 60),
            closed: Duration::from_secs(60),
        }
    }
}

/// How long the gate waits for what, and whom it trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateConfig {
    /// After how long a connection ends on which nothing happens.
    pub patience: Patience,
    /// How long a connection to the other side may take to be made.
    pub connect: Duration,
    /// Certificate authorities that are trusted besides those of the host, as PEM.
    pub additional_roots: Vec<u8>,
}

impl Default for GateConfig {
    fn default() -> Self {
        Self {
            patience: Patience::default(),
            connect: Duration::from_secs(15),
            additional_roots: Vec::new(),
        }
    }
}

/// What passes connections on, for all sandboxes.
#[derive(Debug)]
pub struct Gate {
    config: GateConfig,
    trust: Arc<Trust>,
}

impl Gate {
    /// A gate.
    ///
    /// # Errors
    ///
    /// When [`GateConfig::additional_roots`] are no certificates.
    pub fn new(config: GateConfig) -> Result<Self, TrustError> {
        let trust = Arc::new(Trust::new(&config.additional_roots)?);
        Ok(Self { config, trust })
    }

    /// Serves a connection that was accepted in place of `destination`, until it is over or
    /// refused. What goes wrong is told to the client and to the passport, and to nobody else.
    ///
    /// Dropping what this returns closes both sides.
    pub async fn serve(
        &self,
        stream: TcpStream,
        destination: SocketAddr,
        passport: Arc<dyn Passport>,
    ) {
        // Without it small messages wait for each other; a socket that is gone is seen below.
        let _gone = stream.set_nodelay(true);
        let destination = SocketAddr::new(destination.ip().to_canonical(), destination.port());
        let connection =
            Connection { config: &self.config, trust: &self.trust, destination, passport };
        if let Err(ended) = connection.serve(stream).await {
            tracing::debug!(%destination, error = &ended as &dyn std::error::Error, "ended: {ended}");
        }
    }
}

/// Why a connection ended before both sides wanted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// The sandbox's side broke.
    #[error("the sandbox's side broke")]
    Inside(#[source] std::io::Error),
    /// One of the two sides broke, or nothing moved.
    #[error("the connection broke")]
    Broke(#[source] std::io::Error),
    /// There was none to the other side.
    #[error("the other side was not reached")]
    Outside(#[source] OutsideError),
    /// It may not be.
    #[error("refused: {}", .0.phrase())]
    Refused(Reason),
}

struct Connection<'a> {
    config: &'a GateConfig,
    trust: &'a Arc<Trust>,
    destination: SocketAddr,
    passport: Arc<dyn Passport>,
}

impl Connection<'_> {
    async fn serve(&self, mut stream: TcpStream) -> Result<(), Ended> {
        // Before anything is decided: what changes from now on is seen.
        let changes = self.passport.changes();
        let mut bytes = Vec::new();
        let first = if self.passport.needs_name(self.destination) {
            peek::peek(&mut stream, &mut bytes).await.map_err(Ended::Inside)?
        } else {
            First::Other
        };
        match first {
            First::Tls(hello) => self.tls(stream, &bytes, &hello, changes).await,
            First::Http1 | First::Http2 => {
                let (inside, ends) = self.inside(bytes, stream, changes);
                let to = self.outside(first == First::Http2, None);
                exchange::serve(inside, to, None, ends).await.map_err(Ended::Broke)
            }
            First::Other => self.pass(stream, &bytes, None, Reason::NoName, changes).await,
        }
    }

    /// From where requests come, and what ends them.
    fn inside(
        &self,
        first: Vec<u8>,
        stream: TcpStream,
        changes: watch::Receiver<u64>,
    ) -> (impl Stream + use<>, exchange::Ends) {
        let stream = Arc::new(stream);
        let inside = io::inside(first, Arc::clone(&stream), Arc::clone(&self.passport));
        (inside, exchange::Ends { changes, client: stream })
    }

    /// Where requests go.
    fn outside(&self, h2: bool, name: Option<HostName>) -> exchange::Outside {
        exchange::Outside {
            destination: self.destination,
            passport: Arc::clone(&self.passport),
            connect: self.config.connect,
            patience: self.config.patience,
            h2,
            tls: name.map(|name| exchange::Tls { name, trust: Arc::clone(self.trust) }),
        }
    }

    async fn tls(
        &self,
        stream: TcpStream,
        bytes: &[u8],
        hello: &Hello,
        changes: watch::Receiver<u64>,
    ) -> Result<(), Ended> {
        if let Some(name) = &hello.name
            && self.passport.credentials().is_some_and(|it| it.rule(name).is_some())
        {
            return self.intercept(stream, bytes, hello, name, changes).await;
        }
        let (name, otherwise) = match (&hello.name, hello.hidden) {
            (_, true) => (None, Reason::HiddenName),
            (None, false) => (None, Reason::NoName),
            (Some(name), false) => (Some(name), Reason::Rule),
        };
        if let Err(reason) = self.decide(name, hello.name.as_ref(), otherwise) {
            return alert(stream, reason).await;
        }
        self.passed(stream, bytes, name, changes).await
    }

    /// Stands in for a host that has credentials. It does not matter whether another name is hidden
    /// behind this one: nobody reads it.
    async fn intercept(
        &self,
        stream: TcpStream,
        bytes: &[u8],
        hello: &Hello,
        name: &HostName,
        changes: watch::Receiver<u64>,
    ) -> Result<(), Ended> {
        if let Err(reason) = self.decide(Some(name), Some(name), Reason::Rule) {
            return alert(stream, reason).await;
        }
        let (inside, ends) = self.inside(bytes.to_vec(), stream, changes);
        let versions = Versions { h2: hello.h2, http1: hello.http1 };
        let to = self.outside(false, Some(name.clone()));
        intercept::serve(inside, to, name, versions, ends).await.map_err(Ended::Broke)
    }

    /// Passes on what nothing can be said to.
    async fn pass(
        &self,
        stream: TcpStream,
        bytes: &[u8],
        name: Option<&HostName>,
        otherwise: Reason,
        changes: watch::Receiver<u64>,
    ) -> Result<(), Ended> {
        if let Err(reason) = self.decide(name, name, otherwise) {
            relay::reset(&stream);
            return Err(Ended::Refused(reason));
        }
        self.passed(stream, bytes, name, changes).await
    }

    /// Asks whether a connection may be; `shown` is the name to be told where it may not.
    fn decide(
        &self,
        name: Option<&HostName>,
        shown: Option<&HostName>,
        otherwise: Reason,
    ) -> Result<(), Reason> {
        let asked = Asked { name, destination: self.destination, established: false };
        let verdict = self.passport.decide(&asked);
        if verdict.allowed {
            return Ok(());
        }
        // A rule that names this address decided, or the want of a name did.
        let reason = if verdict.rule.is_some() { Reason::Rule } else { otherwise };
        self.denied(shown, verdict.rule, reason);
        Err(reason)
    }

    fn denied(&self, name: Option<&HostName>, rule: Option<usize>, reason: Reason) {
        let (name, destination) = (name.cloned(), self.destination);
        self.passport.denied(Denied { name, destination, rule, reason });
    }

    async fn passed(
        &self,
        stream: TcpStream,
        bytes: &[u8],
        name: Option<&HostName>,
        changes: watch::Receiver<u64>,
    ) -> Result<(), Ended> {
        let passport = &*self.passport;
        let connect = self.config.connect;
        let outside = match outside::connect(self.destination, name, passport, connect).await {
            Ok(outside) => outside,
            Err(failed) => {
                if matches!(failed, OutsideError::Unreachable { .. }) {
                    self.denied(name, None, Reason::Unreachable);
                }
                relay::reset(&stream);
                return Err(Ended::Outside(failed));
            }
        };
        let asked = Asked { name, destination: self.destination, established: true };
        tokio::select! {
            ended = relay::relay(bytes, &stream, &outside, passport, self.config.patience.idle) => {
                ended.map_err(Ended::Broke)
            }
            rule = forbidden(passport, asked, changes) => {
                relay::reset(&stream);
                relay::reset(&outside);
                self.denied(name, rule, Reason::Changed);
                Err(Ended::Refused(Reason::Changed))
            }
        }
    }
}

/// Tells a TLS client that it may not.
async fn alert(mut stream: TcpStream, reason: Reason) -> Result<(), Ended> {
    // The client may be gone already.
    let _gone = stream.write_all(&refuse::ALERT).await;
    let _gone = stream.shutdown().await;
    Err(Ended::Refused(reason))
}

/// Returns when a connection that is there may not be any more, with the rule.
async fn forbidden(
    passport: &dyn Passport,
    asked: Asked<'_>,
    mut changes: watch::Receiver<u64>,
) -> Option<usize> {
    loop {
        if changes.changed().await.is_err() {
            // Nobody changes anything any more.
            return std::future::pending().await;
        }
        let verdict = passport.decide(&asked);
        if !verdict.allowed {
            return verdict.rule;
        }
    }
}
