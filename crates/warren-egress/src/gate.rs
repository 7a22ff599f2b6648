//! One connection of a sandbox from beginning to end.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{io::AsyncWriteExt as _, net::TcpStream, sync::watch};

use crate::{
    exchange,
    io::Inside,
    name::HostName,
    outside::{self, OutsideError},
    passport::{Asked, Denied, Passport, Reason},
    peek::{self, First, Hello},
    refuse, relay,
};

/// How long the gate waits for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateConfig {
    /// After how long a connection ends on which nothing moves; twice that at most.
    pub idle: Duration,
    /// How long a connection to the other side may take to be made.
    pub connect: Duration,
}

impl Default for GateConfig {
    fn default() -> Self {
        Self { idle: Duration::from_secs(2 * 60 * 60), connect: Duration::from_secs(15) }
    }
}

/// What passes connections on, for all sandboxes.
#[derive(Debug, Default)]
pub struct Gate {
    config: GateConfig,
}

impl Gate {
    /// A gate.
    #[must_use]
    pub fn new(config: GateConfig) -> Self {
        Self { config }
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
        let connection = Connection { config: &self.config, destination, passport };
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
    Inside(#[source] io::Error),
    /// One of the two sides broke, or nothing moved.
    #[error("the connection broke")]
    Broke(#[source] io::Error),
    /// There was none to the other side.
    #[error("the other side was not reached")]
    Outside(#[source] OutsideError),
    /// It may not be.
    #[error("refused: {}", .0.phrase())]
    Refused(Reason),
}

struct Connection<'a> {
    config: &'a GateConfig,
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
                let inside = Inside::new(bytes, stream, Arc::clone(&self.passport));
                let to = exchange::Outside {
                    destination: self.destination,
                    passport: Arc::clone(&self.passport),
                    connect: self.config.connect,
                    h2: first == First::Http2,
                };
                exchange::serve(inside, to, changes).await.map_err(Ended::Broke)
            }
            First::Other => self.pass(stream, &bytes, None, Reason::NoName, changes).await,
        }
    }

    async fn tls(
        &self,
        stream: TcpStream,
        bytes: &[u8],
        hello: &Hello,
        changes: watch::Receiver<u64>,
    ) -> Result<(), Ended> {
        let (name, otherwise) = match (&hello.name, hello.hidden) {
            (_, true) => (None, Reason::HiddenName),
            (None, false) => (None, Reason::NoName),
            (Some(name), false) => (Some(name), Reason::Rule),
        };
        let mut stream = stream;
        if let Err(reason) = self.decide(name, hello.name.as_ref(), otherwise) {
            // The client may be gone already.
            let _gone = stream.write_all(&refuse::ALERT).await;
            let _gone = stream.shutdown().await;
            return Err(Ended::Refused(reason));
        }
        self.passed(stream, bytes, name, changes).await
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
        let outside = match outside::connect(self.destination, passport, self.config.connect).await
        {
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
            ended = relay::relay(bytes, &stream, &outside, passport, self.config.idle) => {
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
