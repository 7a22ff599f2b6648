//! The files of a certificate: read again when they change, and looked at whether they are good.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};
use warren_server::{CertificateState, Tls, TlsError};
use warren_tls::Validity;

/// How often is looked whether the files have changed.
const LOOK: Duration = Duration::from_secs(5);

/// How often is said that the certificate comes to its end.
const SAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A certificate that is used, and its file where it has one. A clone is another handle to it.
#[derive(Clone, Debug)]
pub(super) struct Reloading {
    tls: Tls,
    certificate: Option<PathBuf>,
    seen: Arc<Mutex<Seen>>,
}

/// What was found when the files were read last.
#[derive(Debug, Default)]
struct Seen {
    validity: Option<Validity>,
    failure: Option<String>,
}

impl Reloading {
    /// One that was read just now, from these files of a certificate and its key.
    pub(super) fn new(tls: Tls, files: Option<(&Path, &Path)>) -> Self {
        let certificate = files.map(|(certificate, _key)| certificate);
        if let Some((_, key)) = files.filter(|(_, key)| is_public(key)) {
            tracing::warn!(key = %key.display(), "everybody on this machine can read the key");
        }
        let validity = certificate.and_then(validity);
        let seen = Arc::new(Mutex::new(Seen { validity, failure: None }));
        Self { tls, certificate: certificate.map(Path::to_owned), seen }
    }

    /// What listeners take connections with.
    pub(super) fn tls(&self) -> &Tls {
        &self.tls
    }

    /// How the certificate of the files is, where there are some.
    pub(super) fn state(&self) -> Option<CertificateState> {
        self.certificate.as_ref()?;
        let (seen, now) = (self.seen(), warren_tls::now());
        Some(CertificateState {
            names: Vec::new(),
            until: seen.validity.map(|it| it.until).filter(|until| *until > now),
            ending: seen.validity.is_some_and(|it| it.is_ending(now)),
            failure: seen.failure.clone(),
        })
    }

    /// Reads the files again whenever they change or a signal says so, for ever.
    pub(super) async fn run(&self) {
        let Ok(mut asked) = signal(SignalKind::hangup()) else {
            return std::future::pending().await;
        };
        let (mut look, mut said) = (tokio::time::interval(LOOK), None);
        loop {
            let reloaded = tokio::select! {
                Some(()) = asked.recv() => self.tls.reload().map(|()| true),
                _ = look.tick() => self.tls.reload_if_changed(),
            };
            self.note(reloaded);
            let ending = self.state().is_some_and(|it| it.ending);
            if ending && said.is_none_or(|said: Instant| said.elapsed() >= SAY) {
                said = Some(Instant::now());
                tracing::warn!("the certificate of the files comes to its end: renew it");
            }
        }
    }

    fn note(&self, reloaded: Result<bool, TlsError>) {
        match reloaded {
            Ok(false) => {}
            Ok(true) => {
                let validity = self.certificate.as_deref().and_then(validity);
                *self.seen() = Seen { validity, failure: None };
                tracing::info!("the certificate was read again");
            }
            Err(error) => {
                let cause = &error as &dyn std::error::Error;
                tracing::error!(error = cause, "the old certificate stays in use: {error}");
                self.seen().failure = Some(error.to_string());
            }
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether everybody on this machine can read a file.
pub(crate) fn is_public(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|it| it.permissions().mode() & 0o004 != 0)
}

fn validity(file: &Path) -> Option<Validity> {
    Validity::of_pem(&fs::read(file).ok()?)
}
