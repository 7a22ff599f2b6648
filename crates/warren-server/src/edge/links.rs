//! Links to ports: the name under which this server is reached, and a token where one is needed.

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use warren_core::{Caller, sandbox::Sandbox};

use super::{Edge, pass, token::Grant};
use crate::{app::App, auth::Access, error::ApiError, serve::serve_tcp};

/// The longest time that a token may be good for, where it has an end.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Opens a listener on a loopback address for ports alone, when somebody first asks for a link and
/// the server listens on no other.
#[derive(Clone)]
pub struct Door(Arc<dyn Fn() -> io::Result<TcpListener> + Send + Sync>);

impl Door {
    /// A door that `open` opens. It is called once, unless it fails.
    pub fn new(open: impl Fn() -> io::Result<TcpListener> + Send + Sync + 'static) -> Self {
        Self(Arc::new(open))
    }

    /// Opens it.
    ///
    /// # Errors
    ///
    /// Those of what opens it.
    pub fn open(&self) -> io::Result<TcpListener> {
        (self.0)()
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Door")
    }
}

/// Where this server is reached over TCP.
#[derive(Debug)]
pub(super) struct Listening {
    door: Option<Door>,
    /// The address of each listener, and whether it speaks TLS.
    at: Mutex<Vec<(SocketAddr, bool)>>,
}

impl Listening {
    pub(super) fn new(door: Option<Door>) -> Self {
        Self { door, at: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(SocketAddr, bool)>> {
        self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a link is wanted to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WantedLink {
    /// Which port; none for a token that opens all of them.
    pub(crate) port: Option<u16>,
    /// For how long; none for as long as it is not revoked.
    pub(crate) lasts: Option<Duration>,
}

/// A link.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// Where the port is, without a token; none where no port was named.
    pub(crate) url: Option<String>,
    /// The same with what opens it; the same where the port is public.
    pub(crate) link: Option<String>,
    /// What opens the port; none where it is public.
    pub(crate) token: Option<String>,
    /// Until when, in seconds since 1970.
    pub(crate) expires: Option<u64>,
}

/// How the caller itself came here, where it was over TCP.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CameBy {
    /// Whether that was encrypted.
    pub(crate) tls: bool,
    /// The port it asked.
    pub(crate) port: Option<u16>,
}

impl Edge {
    /// Says that there is a listener, so that links can name it.
    pub(crate) fn listens(&self, address: SocketAddr, tls: bool) {
        if !self.settings.tells_pages_apart(tls) {
            tracing::warn!(
                %address,
                domain = self.domain(),
                "without TLS, browsers do not say from which page a request comes: a page of one \
                 sandbox can embed private ports of others, whose visitors it has"
            );
        }
        self.listening.lock().push((address, tls));
    }

    /// A link to a port of this sandbox.
    pub(crate) fn link(
        &self,
        app: &App,
        (caller, came_by): (&Caller, Option<CameBy>),
        sandbox: &Sandbox,
        wanted: WantedLink,
    ) -> Result<Link, ApiError> {
        let now = app.sandboxes().now().as_millis() / 1000;
        let expires = match wanted.lasts {
            Some(lasts) if lasts > LONGEST || lasts.is_zero() => {
                let reason = format!("expected 1 to {} seconds", LONGEST.as_secs());
                return Err(ApiError::invalid("expires_seconds", reason));
            }
            Some(lasts) => Some(now + lasts.as_secs()),
            None => None,
        };
        let public = wanted.port.is_some_and(|port| sandbox.exposure.is_public(port));
        let grant = Grant { port: wanted.port, expires };
        let token =
            (!public).then(|| self.signer.sign(sandbox.id, sandbox.exposure.revision, grant));
        let Some(port) = wanted.port else {
            return Ok(Link { url: None, link: None, token, expires });
        };
        let (secure, at) = self.reached_by(app, caller, came_by)?;
        let scheme = if secure { "https" } else { "http" };
        let usual = if secure { 443 } else { 80 };
        let at = if at == usual { String::new() } else { format!(":{at}") };
        let url = format!("{scheme}://{port}-{}.{}{at}/", sandbox.id, self.domain());
        let link = match &token {
            Some(token) => format!("{url}?{}={token}", pass::NAME),
            None => url.clone(),
        };
        let expires = expires.filter(|_| token.is_some());
        Ok(Link { url: Some(url), link: Some(link), token, expires })
    }

    /// Scheme and port of names below the domain: as the operator says, else as the caller itself
    /// has come here, else as the first listener is.
    fn reached_by(
        &self,
        app: &App,
        caller: &Caller,
        came_by: Option<CameBy>,
    ) -> Result<(bool, u16), ApiError> {
        let domain = &self.settings.domain;
        let (tls, port) = match (domain.secure().zip(domain.port()), came_by) {
            (Some(said), _) => return Ok(said),
            (None, Some(CameBy { tls, port })) => (tls, port.unwrap_or(if tls { 443 } else { 80 })),
            (None, None) => self.listener(app, caller)?,
        };
        Ok((domain.secure().unwrap_or(tls), domain.port().unwrap_or(port)))
    }

    /// The port of names below the domain as far as it is known: see [`Self::reached_by`]. Opens
    /// nothing.
    pub(super) fn port_of_names(&self, came_by: Option<CameBy>) -> Option<u16> {
        let usual = |tls| if tls { 443 } else { 80 };
        let came = came_by.map(|by| by.port.unwrap_or(usual(by.tls)));
        let first = || self.listening.lock().first().map(|(address, _)| address.port());
        self.settings.domain.port().or(came).or_else(first)
    }

    /// The first listener; one is opened where there is none.
    fn listener(&self, app: &App, caller: &Caller) -> Result<(bool, u16), ApiError> {
        if let Some((address, tls)) = self.listening.lock().first() {
            return Ok((*tls, address.port()));
        }
        caller.require_host("have it listen for browsers")?;
        let none = || {
            let message = "this server listens on no address for browsers; the setting `listen` \
                           names some";
            ApiError::new(warren_api::Code::Unavailable, message)
        };
        let door = self.listening.door.as_ref().ok_or_else(none)?;
        let mut listening = self.listening.lock();
        if let Some((address, tls)) = listening.first() {
            return Ok((*tls, address.port()));
        }
        let opened = door.open().and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (address, listener) = opened.map_err(|error| {
            tracing::error!(%error, "no listener for ports of sandboxes");
            none()
        })?;
        tracing::info!(%address, "listening for ports of sandboxes alone");
        listening.push((address, false));
        drop(listening);
        let served = serve_tcp(listener, None, Access::Ports, app.clone());
        app.tasks().spawn(async move {
            if let Err(error) = served.await {
                tracing::error!(%error, "ports of sandboxes are not served");
            }
        });
        Ok((false, address.port()))
    }
}
