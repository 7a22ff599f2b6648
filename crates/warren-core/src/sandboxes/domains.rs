//! Names of somebody's own that lead to a port of a sandbox.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::watch;

use super::Sandboxes;
use crate::{
    caller::Caller,
    domains::{self, Domain, NameService},
    error::SandboxError,
    events::{Draft, EventKind},
    id::{DomainProofId, SandboxId},
    shared::Shared,
    store::{Object, ObjectChange, ObjectKind, domain_key, domain_object, object_domain},
};

/// How many names a project may have.
const MOST: usize = 100;

/// What a name is to lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDomain {
    /// The name, such as `app.example.com`.
    pub name: String,
    /// The sandbox's id or name.
    pub sandbox: String,
    /// The port there.
    pub port: u16,
    /// Whether visitors need no token.
    pub public: bool,
    /// Whether it is served without being shown to be the caller's: for host callers alone.
    pub unchecked: bool,
}

/// What became of the certificate of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateNews {
    /// None could be had, for this reason.
    Failed(String),
    /// The one that there is comes to its end.
    Ending {
        /// The last second, since 1970.
        until: u64,
    },
}

impl Sandboxes {
    /// Lets a name lead to a port of a sandbox, or one of the caller's lead elsewhere. A new one is
    /// served once it is verified.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Invalid`], [`SandboxError::NotFound`], [`SandboxError::Taken`],
    /// [`SandboxError::Limit`], [`SandboxError::Denied`].
    pub async fn add_domain(
        &self,
        caller: &Caller,
        wanted: NewDomain,
    ) -> Result<Arc<Domain>, SandboxError> {
        if wanted.unchecked {
            caller.require_host("add a domain without a proof")?;
        }
        let sandbox = self.get(caller, &wanted.sandbox)?.id;
        let name = domains::check(&wanted.name, &self.shared.config.domains)?;
        if wanted.port == 0 {
            return Err(SandboxError::invalid("port", "expected 1 to 65535"));
        }
        let known = self.shared.domains.find(caller.owner(), &name).ok();
        let domain = Domain {
            owner: caller.owner().clone(),
            sandbox,
            port: wanted.port,
            public: wanted.public,
            proof: known.as_ref().map_or_else(DomainProofId::mint, |it| it.proof),
            verified: wanted.unchecked || known.as_ref().is_some_and(|it| it.verified),
            created_at: known.as_ref().map_or_else(|| self.shared.clock.now(), |it| it.created_at),
            name,
        };
        self.keep_domain(domain, known).await
    }

    /// Looks whether a name is shown to be the caller's; from then on it is served.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NoSuch`], [`SandboxError::InUse`] while it is not, [`SandboxError::Taken`],
    /// [`SandboxError::Unsupported`].
    pub async fn verify_domain(
        &self,
        caller: &Caller,
        name: &str,
    ) -> Result<Arc<Domain>, SandboxError> {
        let known = self.domain_of(caller, name)?;
        if known.verified {
            return Ok(known);
        }
        let names = self.shared.domains.names();
        let names = names.ok_or(SandboxError::Unsupported { operation: "look up names" })?;
        let unproved = |reason: String| SandboxError::InUse {
            what: "domain",
            name: known.name.clone(),
            reason: format!("is not shown to be yours: {reason}"),
        };
        let said = names.ask(&known.name).await.map_err(unproved)?;
        if !domains::is_shown(&known, &said, &self.shared.config.domains) {
            let (label, proof) = (domains::PROOF_LABEL, known.proof);
            let reason = format!("{label}.{} says no text {proof}", known.name);
            return Err(unproved(reason));
        }
        // Whoever has removed or changed it meanwhile is not overruled.
        let now = self.domain_of(caller, name)?;
        let verified = Domain { verified: true, ..(*now).clone() };
        self.keep_domain(verified, Some(now)).await
    }

    /// The caller's names.
    #[must_use]
    pub fn domains(&self, caller: &Caller) -> Vec<Arc<Domain>> {
        self.shared.domains.of(caller.owner())
    }

    /// One of the caller's names.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NoSuch`].
    pub fn domain_of(&self, caller: &Caller, name: &str) -> Result<Arc<Domain>, SandboxError> {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        self.shared.domains.find(caller.owner(), &name)
    }

    /// Removes a name: it leads nowhere.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NoSuch`], [`SandboxError::Store`].
    pub async fn remove_domain(&self, caller: &Caller, name: &str) -> Result<(), SandboxError> {
        let known = self.domain_of(caller, name)?;
        let remove = vec![(ObjectKind::Domain, domain_key(&known))];
        let change = ObjectChange { remove, durable: true, ..ObjectChange::default() };
        let removed = self.shared.store.change_objects(change).await;
        removed.map_err(SandboxError::store("remove the domain"))?;
        self.shared.domains.remove(&known.owner, &known.name);
        Ok(())
    }

    /// Where a host leads, in small letters and without port: the sandbox, its port, and whether
    /// visitors need no token. For whoever serves it; nobody's rights are looked at.
    #[must_use]
    pub fn domain(&self, host: &str) -> Option<(SandboxId, u16, bool)> {
        self.shared.domains.served(host).map(|it| (it.sandbox, it.port, it.public))
    }

    /// Whether a name leads everybody to this port of a sandbox.
    #[must_use]
    pub fn is_open_by_domain(&self, sandbox: SandboxId, port: u16) -> bool {
        self.shared.domains.opens(sandbox, port)
    }

    /// Every name that leads to a sandbox which is there.
    #[must_use]
    pub fn served_domains(&self) -> Vec<String> {
        let served = self.shared.domains.all_served().into_iter();
        let there = served.filter(|it| self.shared.any(it.sandbox).is_some());
        there.map(|it| it.name.clone()).collect()
    }

    /// Counts changes of domains from now on.
    #[must_use]
    pub fn domain_changes(&self) -> watch::Receiver<u64> {
        self.shared.domains.watch()
    }

    /// Tells the owner of a name what became of its certificate. What nobody has is passed over.
    pub fn tell_certificate(&self, name: &str, news: CertificateNews) {
        let Some(domain) = self.shared.domains.served(name) else { return };
        let mut detail = BTreeMap::from([("domain".to_owned(), domain.name.clone())]);
        let kind = match news {
            CertificateNews::Failed(reason) => {
                detail.insert("reason".to_owned(), reason);
                EventKind::CertificateFailed
            }
            CertificateNews::Ending { until } => {
                detail.insert("until".to_owned(), until.to_string());
                EventKind::CertificateEnding
            }
        };
        let (owner, sandbox) = (domain.owner.clone(), domain.sandbox);
        let time = self.shared.clock.now();
        self.shared.store.announce(vec![Draft { time, kind, owner, sandbox, detail }]);
    }

    /// From now on names are looked up there.
    pub fn look_up_with(&self, names: Arc<dyn NameService>) {
        self.shared.domains.set_names(names);
    }

    async fn keep_domain(
        &self,
        domain: Domain,
        known: Option<Arc<Domain>>,
    ) -> Result<Arc<Domain>, SandboxError> {
        let shared = Arc::clone(&self.shared);
        self.to_the_end(async move {
            let (owner, name) = (domain.owner.clone(), domain.name.clone());
            let kept = shared.domains.put(domain, MOST)?;
            let put = vec![domain_object(&kept)];
            let change = ObjectChange { put, durable: true, ..ObjectChange::default() };
            if let Err(error) = shared.store.change_objects(change).await {
                // What is not written down is as it was.
                shared.domains.remove(&owner, &name);
                if let Some(known) = known {
                    shared.domains.put((*known).clone(), MOST)?;
                }
                return Err(SandboxError::store("write down the domain")(error));
            }
            Ok(kept)
        })
        .await
    }
}

/// Remembers what was stored.
pub(crate) fn restore(shared: &Shared, objects: &[Object]) {
    for object in objects.iter().filter(|it| it.kind == ObjectKind::Domain) {
        let kept = object_domain(object).map(|domain| shared.domains.put(domain, usize::MAX));
        if !matches!(kept, Some(Ok(_))) {
            tracing::error!(domain = object.id, "a stored domain cannot be understood");
        }
    }
}
