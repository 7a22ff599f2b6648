//! The server's TCP listeners: bound before the server leaves the namespaces of the host.

use std::{io, net::TcpListener, sync::Arc, time::Duration};

use futures::future;
use rustix::net::sockopt;
use warren_server::{Access, App, Tls, edge::Door, serve::ServeError, serve_tcp};

use super::{
    certificates::{self, Known, Others},
    edge::Reserved,
    reload::Reloading,
};
use crate::{
    config::{Address, Config, Environment, TlsSource},
    dirs::Dirs,
    error::{CliError, Kind},
};

/// How long a client may say nothing before the kernel asks whether it is there.
const QUIET: Duration = Duration::from_secs(60);

/// How long after each other it asks.
const PROBED_EVERY: Duration = Duration::from_secs(20);

/// How many of its questions may stay unanswered.
const PROBES: u32 = 3;

/// What listens on TCP, and how.
#[derive(Debug)]
pub(crate) struct Listeners {
    listeners: Vec<TcpListener>,
    tls: Option<Reloading>,
    others: Option<Others>,
    access: Access,
    /// For browsers on this machine, where nobody is listened to.
    reserved: Option<Reserved>,
}

impl Listeners {
    /// Binds what the settings name.
    ///
    /// # Errors
    ///
    /// For settings that do not go together, files that are of no use and addresses that are taken.
    pub(crate) fn open(
        config: &Config,
        dirs: &Dirs,
        environment: &Environment,
    ) -> Result<Self, CliError> {
        let addresses = &config.listen.0;
        let access = access(config)?;
        require_tls(config)?;
        let files = match (&config.tls_cert, &config.tls_key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((certificate.as_path(), key.as_path())),
            _ => {
                let error = "a certificate and its key go together, and one of them is not named";
                return Err(CliError::usage(error).hint("--tls-cert FILE --tls-key FILE"));
            }
        };
        let others = certificates::open(config, dirs, environment)?;
        let tls = match (files, &others) {
            (None, None) => None,
            (files, others) => {
                let others = others.as_ref().map(|it| Arc::new(it.certificates.clone()) as _);
                let tls = Tls::choosing(files, others);
                let tls = tls.map_err(|error| CliError::new(Kind::Local, error))?;
                Some(Reloading::new(tls, files))
            }
        };
        let listeners = addresses.iter().map(|address| bind(*address)).collect::<Result<_, _>>()?;
        let reserved = match addresses.is_empty() {
            true => Some(Reserved::take().map_err(CliError::local("reserve a port for browsers"))?),
            false => None,
        };
        Ok(Self { listeners, tls, others, access, reserved })
    }

    /// These, and the way to listen for browsers where there are none.
    pub(super) fn with_door(mut self) -> (Self, Option<Door>) {
        let door = self.reserved.take().map(Reserved::door);
        (self, door)
    }

    /// Whether nobody is listened to.
    pub(super) fn is_empty(&self) -> bool {
        self.listeners.is_empty()
    }

    /// Serves until the application stops; a listener that cannot be served stops it.
    pub(super) async fn serve(self, app: App) -> Result<(), ServeError> {
        let Self { listeners, tls, others, access, .. } = self;
        for listener in &listeners {
            announce(listener, tls.is_some(), access);
        }
        let first = listeners.iter().find_map(|it| it.local_addr().ok());
        if let Some(tls) = &tls {
            let acme = others.as_ref().and_then(Others::acme);
            app.certificates_from(Known::new(tls.clone(), acme));
        }
        let ordered = async {
            if let Some(others) = others {
                let port = first.map_or(443, |address| address.port());
                others.run(port, app.sandboxes(), app.stopping().clone()).await;
            }
            future::pending::<()>().await
        };
        let reloaded = async {
            match &tls {
                Some(tls) => tls.run().await,
                // Hanging up ends the server as it ends every program.
                None => future::pending().await,
            }
        };
        let all = listeners.into_iter().map(|listener| {
            let (tls, app) = (tls.as_ref().map(|it| it.tls().clone()), app.clone());
            async move {
                let served = serve_tcp(listener, tls, access, app.clone()).await;
                app.stop();
                served
            }
        });
        let served = future::try_join_all(all);
        tokio::select! {
            served = served => served.map(drop),
            () = reloaded => Ok(()),
            () = ordered => Ok(()),
        }
    }
}

/// Who is let in, which depends on who can connect.
fn access(config: &Config) -> Result<Access, CliError> {
    if !config.no_auth {
        return Ok(Access::Keys);
    }
    match config.listen.0.iter().find(|address| !address.is_loopback()) {
        None => Ok(Access::Open),
        Some(address) => Err(CliError::usage(format!(
            "without keys whoever can connect may do everything, so `no_auth` is for loopback \
             addresses alone, and {address} is none"
        ))
        .hint("listen on 127.0.0.1, or leave --no-auth out and make keys: `warren key create`")),
    }
}

/// Keys in the clear are for whoever listens on the way.
fn require_tls(config: &Config) -> Result<(), CliError> {
    if config.tls_cert.is_some() || config.tls != TlsSource::Files || config.plain_tcp {
        return Ok(());
    }
    match config.listen.0.iter().find(|address| !address.is_loopback()) {
        None => Ok(()),
        Some(address) => Err(CliError::usage(format!(
            "without TLS, keys and all that is sent to {address} can be read on the way"
        ))
        .hint("name a certificate with --tls-cert and --tls-key, or see docs/tls.md")
        .hint("or listen on 127.0.0.1, behind a proxy on this machine")
        .hint("`--set plain_tcp=true` says that nobody else reaches that address")),
    }
}

pub(super) fn bind(address: Address) -> Result<TcpListener, CliError> {
    let bound = TcpListener::bind(address.0).and_then(|listener| {
        find_the_vanished(&listener)?;
        Ok(listener)
    });
    bound.map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => Some("something listens there; name another port"),
            io::ErrorKind::AddrNotAvailable => Some("this machine has no such address"),
            io::ErrorKind::PermissionDenied => Some("ports below 1024 are for root"),
            _ => None,
        };
        let error = CliError::new(Kind::Local, BindFailed { address, source: error });
        hint.into_iter().fold(error, CliError::hint)
    })
}

/// Has the kernel ask those who are silent whether they are there: the connections that a listener
/// accepts are set as it is.
///
/// What is sent and not answered has an end of the kernel's own, of some minutes. A shorter one
/// (`TCP_USER_TIMEOUT`) would also end those who are there and do not read for a while.
fn find_the_vanished(listener: &TcpListener) -> io::Result<()> {
    sockopt::set_tcp_keepidle(listener, QUIET)?;
    sockopt::set_tcp_keepintvl(listener, PROBED_EVERY)?;
    sockopt::set_tcp_keepcnt(listener, PROBES)?;
    Ok(sockopt::set_socket_keepalive(listener, true)?)
}

#[derive(Debug, thiserror::Error)]
#[error("could not listen on {address}")]
struct BindFailed {
    address: Address,
    #[source]
    source: io::Error,
}

fn announce(listener: &TcpListener, tls: bool, access: Access) {
    let Ok(address) = listener.local_addr() else { return };
    tracing::info!(%address, tls, keys = access == Access::Keys, "listening");
    if !tls && !address.ip().to_canonical().is_loopback() {
        tracing::warn!(%address, "keys and all that is sent can be read on the way");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Addresses;

    fn config(listen: &[&str], no_auth: bool) -> Config {
        let listen = listen.iter().map(|text| text.parse().unwrap()).collect();
        Config { listen: Addresses(listen), no_auth, ..Config::default() }
    }

    fn open(config: &Config) -> Result<Listeners, CliError> {
        let base = tempfile::tempdir().unwrap();
        Listeners::open(config, &Dirs::of_test(base.path()), &Environment::default())
    }

    #[test]
    fn without_keys_every_address_is_a_loopback() {
        assert_eq!(access(&config(&["127.0.0.1", "::1"], true)).unwrap(), Access::Open);
        assert_eq!(access(&config(&["0.0.0.0"], false)).unwrap(), Access::Keys);
        for listen in [&["0.0.0.0"][..], &["127.0.0.1", "::"], &["192.0.2.1"]] {
            let error = access(&config(listen, true)).unwrap_err();
            assert!(error.source.to_string().contains("loopback addresses alone"), "{listen:?}");
        }
    }

    #[test]
    fn without_tls_every_address_is_a_loopback_unless_that_is_meant() {
        assert!(require_tls(&config(&["127.0.0.1", "::1"], false)).is_ok());
        let error = require_tls(&config(&["127.0.0.1", "0.0.0.0"], false)).unwrap_err();
        assert!(error.source.to_string().contains("0.0.0.0:7423"), "{}", error.source);
        let meant = Config { plain_tcp: true, ..config(&["0.0.0.0"], false) };
        assert!(require_tls(&meant).is_ok());
    }

    #[test]
    fn a_certificate_needs_its_key() {
        let config = Config { tls_cert: Some("/a".into()), ..config(&["127.0.0.1:0"], false) };
        let error = open(&config).unwrap_err();
        assert!(error.source.to_string().contains("go together"), "{}", error.source);
    }

    #[test]
    fn who_vanishes_is_found_out() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        assert!(sockopt::socket_keepalive(&stream).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&stream).unwrap(), QUIET);
        assert_eq!(sockopt::tcp_keepintvl(&stream).unwrap(), PROBED_EVERY);
        assert_eq!(sockopt::tcp_keepcnt(&stream).unwrap(), PROBES);
    }

    #[test]
    fn an_address_that_is_taken_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let error = open(&config(&[&address], false)).unwrap_err();
        assert_eq!(error.source.to_string(), format!("could not listen on {address}"));
        assert_eq!(error.hints, ["something listens there; name another port"]);
    }
}
