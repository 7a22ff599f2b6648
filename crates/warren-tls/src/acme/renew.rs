//! A certificate for each group of names, always: from the disk, from an order, and again in time.

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use instant_acme::{Account, AccountCredentials, NewAccount};
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use tokio_rustls::rustls;
use tokio_util::sync::CancellationToken;

use super::{
    AcmeError, Answers, Proof, Settings,
    client::{self, Http},
    ledger::{self, Ledger},
    order::{self, Obtained, Work, lock},
    sentence,
};
use crate::{
    choose::Certificates,
    clock::now,
    keep,
    local::is_domain,
    parse::{self, Validity},
};

/// How often is looked at the least: clocks are set, and machines sleep.
const LOOK: Duration = Duration::from_secs(60 * 60);
/// How long an order may take beside what its records may take.
const ORDER: Duration = Duration::from_secs(10 * 60);

/// The certificates of one authority.
pub struct Acme {
    settings: Settings,
    client: reqwest::Client,
    answers: Answers,
    certificates: Certificates,
    ledger: Mutex<Ledger>,
    groups: Mutex<BTreeMap<String, Group>>,
    failures: AtomicU64,
    look: Notify,
    changes: watch::Sender<u64>,
}

/// Names that are to have one certificate together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The names, such as `a.example` and `*.a.example`.
    pub names: Vec<String>,
    /// Whether their zone is somebody else's: they are proved by TLS-ALPN-01 where the settings say
    /// DNS-01.
    pub foreign: bool,
}

/// How a group of names is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its names.
    pub names: Vec<String>,
    /// Until when its certificate is good, in seconds since 1970; none while there is none.
    pub until: Option<u64>,
    /// Whether that is soon, and a new one is overdue.
    pub ending: bool,
    /// Why the last attempt to have a new one failed, if it did.
    pub failure: Option<String>,
    /// When the next attempt is due, in seconds since 1970.
    pub next_at: u64,
}

#[derive(Debug)]
struct Group {
    names: Vec<String>,
    validity: Option<Validity>,
}

impl fmt::Debug for Acme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acme").field("url", &self.settings.url).finish_non_exhaustive()
    }
}

impl Acme {
    /// Opens what is kept of this authority. Nothing is asked of it yet.
    ///
    /// # Errors
    ///
    /// [`AcmeError`] for settings and files that are of no use.
    pub fn open(mut settings: Settings, certificates: Certificates) -> Result<Self, AcmeError> {
        if !settings.url.starts_with("https://") {
            let text = "the address of an ACME directory begins with https://";
            return Err(AcmeError::Setting(text.to_owned()));
        }
        // Another authority, such as the same one's for tests, has another account.
        settings.directory.push(short(&settings.url));
        let certificates_in = settings.directory.join("certificates");
        keep::directory(&certificates_in).map_err(AcmeError::file("make", &certificates_in))?;
        let ledger = Ledger::open(&settings.directory)?;
        let client = client::client(settings.roots.as_deref())?;
        Ok(Self {
            settings,
            client,
            answers: Answers::default(),
            certificates,
            ledger: Mutex::new(ledger),
            groups: Mutex::default(),
            failures: AtomicU64::new(0),
            look: Notify::new(),
            changes: watch::Sender::new(0),
        })
    }

    /// What is answered on port 80.
    #[must_use]
    pub fn answers(&self) -> Answers {
        self.answers.clone()
    }

    /// Looks now whether other names are wanted.
    pub fn look(&self) {
        self.look.notify_one();
    }

    /// How each group of names is.
    #[must_use]
    pub fn status(&self) -> Vec<Status> {
        let groups = self.groups();
        let ledger = lock(&self.ledger);
        let status = |(key, group): (&String, &Group)| {
            let failure = ledger.failure(key);
            Status {
                names: group.names.clone(),
                until: group.validity.map(|it| it.until),
                ending: group.validity.is_some_and(|it| it.is_ending(now())),
                failure: failure.map(|it| it.reason.clone()),
                next_at: next(key, group, ledger.again_at(key, now())),
            }
        };
        groups.iter().map(status).collect()
    }

    /// Counts attempts that have come to an end.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// How many attempts failed since the start.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Keeps a certificate for each group of names that is wanted, until `stop`. The first name of
    /// the first group is what a client gets that asks for none.
    pub async fn run(&self, wanted: impl Fn() -> Vec<Wanted>, stop: CancellationToken) {
        let work = async {
            if let Proof::Dns(proof) = &self.settings.proof {
                order::clear(proof, &self.ledger).await;
            }
            loop {
                let pause = self.round(wanted()).await;
                tokio::select! {
                    () = sleep(pause) => {}
                    () = self.look.notified() => {}
                }
            }
        };
        tokio::select! {
            () = work => {}
            () = stop.cancelled() => {}
        }
    }

    /// Sees to each group once, and says how long nothing is due.
    async fn round(&self, wanted: Vec<Wanted>) -> Duration {
        self.forget_all_but(&wanted);
        let mut pause = LOOK;
        for (at, Wanted { names, foreign }) in wanted.into_iter().enumerate() {
            if let Some(bad) = names.iter().find(|it| !is_domain(it.trim_start_matches("*."))) {
                tracing::error!(name = %bad, "no certificate can be had for what is no name");
                continue;
            }
            let Some(first) = names.first() else { continue };
            let key = key_of(first, &names);
            self.load(&key, &names, at == 0);
            if self.next_at(&key) <= now() {
                let proof = match &self.settings.proof {
                    Proof::Dns(_) if foreign => &Proof::TlsAlpn,
                    proof => proof,
                };
                // Names of others must not use up what our own need.
                let most = self.settings.orders_per_week;
                let most = if foreign { most / 2 } else { most };
                self.attempt(&key, &names, (proof, most), at == 0).await;
                self.changes.send_modify(|count| *count += 1);
            }
            pause = pause.min(ledger::until(now(), self.next_at(&key), LOOK));
        }
        // What is due and did not change is not tried without a pause.
        pause.max(Duration::from_secs(1))
    }

    fn forget_all_but(&self, wanted: &[Wanted]) {
        self.groups().retain(|_, group| {
            let stays = wanted.iter().any(|it| it.names == group.names);
            if !stays {
                self.certificates.remove(&group.names);
            }
            stays
        });
        let keys = wanted.iter().filter_map(|it| Some(key_of(it.names.first()?, &it.names)));
        if let Err(error) = lock(&self.ledger).forget_all_but(&keys.collect(), now()) {
            tracing::error!("{}", sentence(&error));
        }
    }

    /// Takes the certificate from the disk, where that was not done yet.
    fn load(&self, key: &str, names: &[String], usual: bool) {
        if self.groups().contains_key(key) {
            return;
        }
        let path = self.path(key);
        let kept = keep::read(&path).map_err(AcmeError::file("read", &path));
        let kept = kept.and_then(|kept| {
            let provider = rustls::crypto::ring::default_provider();
            let read = |pem: Vec<u8>| parse::certified(&pem, names, &provider);
            kept.map(read).transpose().map_err(AcmeError::Unusable)
        });
        let validity = match kept {
            Ok(Some((certified, validity))) if now() < validity.until => {
                self.certificates.insert(names, &Arc::new(certified), usual);
                Some(validity)
            }
            Ok(_none) => None,
            Err(error) => {
                tracing::warn!("a kept certificate is of no use: {}", sentence(&error));
                None
            }
        };
        self.groups().insert(key.to_owned(), Group { names: names.to_vec(), validity });
    }

    fn next_at(&self, key: &str) -> u64 {
        let groups = self.groups();
        let ledger = lock(&self.ledger);
        groups.get(key).map_or(0, |group| next(key, group, ledger.again_at(key, now())))
    }

    async fn attempt(
        &self,
        key: &str,
        names: &[String],
        (proof, most): (&Proof, u32),
        usual: bool,
    ) {
        let within = match proof {
            Proof::Dns(proof) => ORDER + proof.within,
            Proof::Http | Proof::TlsAlpn => ORDER,
        };
        let obtained = timeout(within, self.obtain(names, proof, most)).await;
        let obtained = obtained.unwrap_or(Err(AcmeError::Late(within)));
        let kept = obtained.and_then(|obtained| {
            let path = self.path(key);
            let written = keep::write(&path, obtained.pem.as_bytes());
            written.map_err(AcmeError::file("write", &path)).map(|()| obtained)
        });
        let noted = match kept {
            Ok(Obtained { certified, validity, .. }) => {
                self.certificates.insert(names, &Arc::new(certified), usual);
                let group = Group { names: names.to_vec(), validity: Some(validity) };
                self.groups().insert(key.to_owned(), group);
                tracing::info!(?names, until = validity.until, "there is a new certificate");
                lock(&self.ledger).succeeded(key)
            }
            Err(error) => {
                let reason = sentence(&error);
                self.failures.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(?names, "no new certificate, what there is stays in use: {reason}");
                match error {
                    AcmeError::Limit { .. } => lock(&self.ledger).put_off(key, now(), reason),
                    _ => lock(&self.ledger).failed(key, now(), reason),
                }
            }
        };
        if let Err(error) = noted {
            tracing::error!("{}", sentence(&error));
        }
    }

    async fn obtain(
        &self,
        names: &[String],
        proof: &Proof,
        most: u32,
    ) -> Result<Obtained, AcmeError> {
        let account = self.account().await?;
        let work = Work {
            account: &account,
            proof,
            orders_per_week: most,
            answers: &self.answers,
            certificates: &self.certificates,
            ledger: &self.ledger,
        };
        order::obtain(work, names).await
    }

    /// The account that is kept, or a new one.
    async fn account(&self) -> Result<Account, AcmeError> {
        let path = self.settings.directory.join("account.json");
        let builder = Account::builder_with_http(Box::new(Http(self.client.clone())));
        let kept = keep::read(&path).map_err(AcmeError::file("read", &path))?;
        if let Some(kept) = kept {
            let credentials: AccountCredentials = serde_json::from_slice(&kept)
                .map_err(|error| AcmeError::file("understand", &path)(error.into()))?;
            let account = builder.from_credentials(credentials).await;
            return account.map_err(AcmeError::authority("answer"));
        }
        let contact: Vec<&str> = self.settings.contact.iter().map(String::as_str).collect();
        let new = NewAccount {
            contact: &contact,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let made = builder.create(&new, self.settings.url.clone(), None).await;
        let (account, credentials) = made.map_err(AcmeError::authority("make an account"))?;
        let bytes = zeroize::Zeroizing::new(serde_json::to_vec(&credentials).unwrap_or_default());
        keep::write(&path, &bytes).map_err(AcmeError::file("write", &path))?;
        Ok(account)
    }

    fn path(&self, key: &str) -> PathBuf {
        self.settings.directory.join("certificates").join(format!("{key}.pem"))
    }

    fn groups(&self) -> MutexGuard<'_, BTreeMap<String, Group>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When a group's next attempt is due: with no certificate at once, and after a failure later.
fn next(key: &str, group: &Group, again_at: u64) -> u64 {
    let wanted = group.validity.map_or(0, |validity| ledger::renewal(key, validity));
    wanted.max(again_at)
}

/// What a group is called in files.
fn key_of(first: &str, names: &[String]) -> String {
    format!("{}-{}", first.replace('*', "_"), short(&names.join(",")))
}

/// Sixteen hexadecimal digits that stand for a text.
pub(super) fn short(text: &str) -> String {
    let digest = Sha256::digest(text);
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
