//! What requests of a sandbox are given on their way out: set, shown, given again after a restart.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use base64::Engine as _;
use futures::TryStreamExt as _;

use super::{At, Sandboxes, Upload, turns::Turn};
use crate::{
    caller::{Caller, Owner},
    credentials::{self, Credentials, Granted, Part},
    error::SandboxError,
    id::SandboxId,
    identity::{self, PublicKey},
    sandbox::handle::Command,
    secrets::{SealKey, SecretValue, StoredSecret},
    shared::Shared,
    spec::Profile,
    store::{Object, ObjectChange, ObjectKind, credentials_object, object_credentials},
};

mod java;

/// The most that is read of a sandbox's own list of authorities.
const MOST_AUTHORITIES: usize = 4 << 20;
/// Where systems keep that list.
const SYSTEM_LISTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Variables that name a list of authorities in place of the system's.
const LIST_VARIABLES: [&str; 6] = [
    "AWS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
];
/// The variable that names authorities besides those that Node brings.
const NODE_VARIABLE: &str = "NODE_EXTRA_CA_CERTS";

impl Sandboxes {
    /// Gives requests of a sandbox these credentials from now on, in place of those that they were
    /// given; none of them where there are none.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NotFound`], [`SandboxError::NotRunning`]; [`SandboxError::Invalid`] for what
    /// is malformed or names a secret that is not there; [`SandboxError::Unsupported`].
    pub async fn set_credentials(
        &self,
        caller: &Caller,
        id_or_name: &str,
        wanted: Credentials,
    ) -> Result<(), SandboxError> {
        self.check_credentials(caller, &wanted)?;
        let handle = self.find(caller, id_or_name)?;
        handle.require_running()?;
        self.give_credentials(caller, handle.id(), wanted).await
    }

    /// The address by which others find the key that proves who a sandbox is, and the key; none
    /// where this server has none.
    #[must_use]
    pub fn identity(&self) -> Option<(&str, &PublicKey)> {
        Some(self.shared.issuer.get()?.told())
    }

    /// What requests of a sandbox are given, as it was written.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NotFound`].
    pub fn credentials(
        &self,
        caller: &Caller,
        id_or_name: &str,
    ) -> Result<Arc<Credentials>, SandboxError> {
        let id = self.find(caller, id_or_name)?.id();
        Ok(self.shared.credentials_of(id).unwrap_or_default())
    }

    /// Refuses what could not be given.
    pub(super) fn check_credentials(
        &self,
        caller: &Caller,
        wanted: &Credentials,
    ) -> Result<(), SandboxError> {
        credentials::check(wanted)?;
        if wanted.is_empty() {
            return Ok(());
        }
        if !self.shared.runtime.capabilities().credentials {
            return Err(SandboxError::Unsupported { operation: "set credentials on requests" });
        }
        if !wanted.tokens.is_empty() && self.shared.issuer.get().is_none() {
            return Err(SandboxError::Unsupported { operation: "say who sandboxes are" });
        }
        let missing = |name: &String| self.shared.open_secret(caller.owner(), name).is_none();
        match wanted.secrets().into_iter().find(missing) {
            None => Ok(()),
            Some(name) => Err(SandboxError::invalid(
                "credentials",
                format!("there is no secret {name}; `warren secret set {name}` makes it"),
            )),
        }
    }

    /// Stores credentials, tells the runtime, and has the sandbox trust who signs for their hosts.
    pub(super) async fn give_credentials(
        &self,
        caller: &Caller,
        id: SandboxId,
        wanted: Credentials,
    ) -> Result<(), SandboxError> {
        let (shared, owner) = (Arc::clone(&self.shared), caller.owner().clone());
        let this = self.clone();
        let caller = caller.clone();
        self.to_the_end(async move {
            let turn = shared.turns.of(id).await;
            let change = shared.credentials_change(id, &owner, &wanted)?;
            let stored = shared.store.change_objects(change).await;
            stored.map_err(SandboxError::store("store the credentials"))?;
            shared.remember_credentials(id, wanted);
            let told = shared.tell_in_turn(id, &owner, &turn).await?;
            drop(turn);
            if let Some(authority) = told {
                this.trust(&caller, id, &authority).await?;
                let handle = this.find(&caller, id.as_str())?;
                let variables = Place::of(handle.sandbox().spec.profile).variables().collect();
                handle.ask(|reply| Command::Equip(variables, reply)).await?;
            }
            Ok(())
        })
        .await
    }

    /// Forgets what a sandbox that is being removed was given. A row that stays is removed by the
    /// next server.
    pub(super) async fn drop_credentials(&self, id: SandboxId) {
        if self.shared.credentials_of(id).is_none() {
            return;
        }
        self.shared.forget_credentials(id);
        let remove = vec![(ObjectKind::Credentials, id.to_string())];
        let change = ObjectChange { remove, ..ObjectChange::default() };
        if let Err(error) = self.shared.store.change_objects(change).await {
            let cause = &error as &dyn std::error::Error;
            tracing::warn!(sandbox.id = %id, error = cause, "its credentials are still stored");
        }
    }

    /// Gives a sandbox that was started again what it was given before.
    pub(super) async fn renew_credentials(
        &self,
        caller: &Caller,
        id: SandboxId,
    ) -> Result<(), SandboxError> {
        if self.shared.credentials_of(id).is_none() {
            return Ok(());
        }
        let authority = match self.shared.tell_runtime(id, caller.owner()).await {
            Ok(authority) => authority,
            Err(error) => {
                // It would reach by itself what it may reach through a proxy alone.
                if let Ok(handle) = self.find(caller, id.as_str()) {
                    handle.ask(Command::Stop).await.ok();
                }
                return Err(error);
            }
        };
        if let Some(authority) = authority
            && let Err(error) = self.trust(caller, id, &authority).await
        {
            let cause = &error as &dyn std::error::Error;
            tracing::warn!(sandbox.id = %id, error = cause, "a sandbox does not trust its authority");
        }
        Ok(())
    }

    /// Has the programs of a sandbox trust an authority: those that read the system's list, and
    /// those that are told a list by a variable.
    async fn trust(
        &self,
        caller: &Caller,
        id: SandboxId,
        authority: &str,
    ) -> Result<(), SandboxError> {
        let sandbox = self.get(caller, id.as_str())?;
        let place = Place::of(sandbox.spec.profile);
        let (mut first, mut written) = (None, BTreeSet::new());
        for path in SYSTEM_LISTS {
            let Ok(list) = self.read_list(caller, id, path).await else { continue };
            let list = with(&list, authority);
            // Under the strict profile nobody inside may write there; the variables serve.
            if self.put(caller, id, place.user, path, list.clone().into()).await.is_ok() {
                written.insert(path);
            }
            first.get_or_insert(list);
        }
        tracing::debug!(sandbox.id = %id, lists = ?written, "authorities are trusted");
        let list = first.unwrap_or_else(|| authority.to_owned());
        self.put(caller, id, place.user, &place.list(), list.into()).await?;
        self.put(caller, id, place.user, &place.alone(), authority.to_owned().into()).await?;
        self.trust_in_java(caller, id, place.user, authority).await;
        Ok(())
    }

    /// The same for programs in Java, where the system has its list. One that it has not
    /// understood, or may not write, stays as it is.
    async fn trust_in_java(
        &self,
        caller: &Caller,
        id: SandboxId,
        user: Option<&str>,
        authority: &str,
    ) {
        let Some(authority) = decoded(authority) else { return };
        for path in java::LISTS {
            let Ok(list) = self.read_bytes(caller, id, path).await else { continue };
            let now = self.shared.clock.now().as_millis();
            if let Some(list) = java::with(&list, &authority, now) {
                let put = self.put(caller, id, user, path, list.into()).await;
                tracing::debug!(sandbox.id = %id, path, done = put.is_ok(), "authority for Java");
            }
        }
    }

    async fn read_list(
        &self,
        caller: &Caller,
        id: SandboxId,
        path: &str,
    ) -> Result<String, SandboxError> {
        let list = self.read_bytes(caller, id, path).await?;
        String::from_utf8(list).map_err(|_binary| SandboxError::Broken("a list is no text"))
    }

    async fn read_bytes(
        &self,
        caller: &Caller,
        id: SandboxId,
        path: &str,
    ) -> Result<Vec<u8>, SandboxError> {
        let at = At { sandbox: id.as_str(), user: None, path };
        let mut contents = self.read_file(caller, at, None).await?;
        let mut list = Vec::new();
        let broken = |_cut| SandboxError::Broken("a list of authorities broke off");
        while let Some(piece) = contents.try_next().await.map_err(broken)? {
            list.extend_from_slice(&piece);
            if list.len() > MOST_AUTHORITIES {
                return Err(SandboxError::Broken("a list of authorities has no end"));
            }
        }
        Ok(list)
    }

    async fn put(
        &self,
        caller: &Caller,
        id: SandboxId,
        user: Option<&str>,
        path: &str,
        list: bytes::Bytes,
    ) -> Result<(), SandboxError> {
        let length = Some(list.len() as u64);
        let contents = Box::pin(futures::stream::iter([Ok(list)]));
        let at = At { sandbox: id.as_str(), user, path };
        let upload = Upload { contents, length, mode: Some(0o644) };
        self.write_file(caller, at, upload).await.map(drop)
    }
}

/// Where a sandbox finds what it is to trust.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    directory: &'static str,
    user: Option<&'static str>,
}

impl Place {
    pub(crate) fn of(profile: Profile) -> Self {
        match profile {
            Profile::Default => Self { directory: "/etc/warren", user: Some("root") },
            // Nobody inside is root.
            Profile::Strict => Self { directory: "/var/tmp/.warren", user: None },
        }
    }

    /// All authorities.
    fn list(self) -> String {
        format!("{}/ca-bundle.pem", self.directory)
    }

    /// The sandbox's own one alone.
    fn alone(self) -> String {
        format!("{}/ca.pem", self.directory)
    }

    /// The variables that name them.
    pub(crate) fn variables(self) -> impl Iterator<Item = (String, String)> {
        let lists = LIST_VARIABLES.into_iter().map(move |name| (name.to_owned(), self.list()));
        lists.chain([(NODE_VARIABLE.to_owned(), self.alone())])
    }
}

/// What is before and after an authority of ours in a list, so that it is found when another takes
/// its place: one of an earlier life of the sandbox, or of what it was forked from.
const BEGIN: &str = "# Warren: hosts with credentials\n";
const END: &str = "# Warren: end\n";

/// A list of authorities with one more, at its end, in the place of earlier ones of ours.
fn with(list: &str, authority: &str) -> String {
    let mut kept = String::with_capacity(list.len() + authority.len());
    let mut rest = list;
    while let Some((before, block)) = rest.split_once(BEGIN) {
        let Some((_earlier, after)) = block.split_once(END) else { break };
        kept.push_str(before);
        rest = after;
    }
    kept.push_str(rest);
    let newline = if kept.is_empty() || kept.ends_with('\n') { "" } else { "\n" };
    format!("{kept}{newline}{BEGIN}{}\n{END}", authority.trim_end())
}

/// The certificate of a text in PEM.
fn decoded(pem: &str) -> Option<Vec<u8>> {
    let lines = pem.lines().skip_while(|line| !line.starts_with("-----BEGIN CERTIFICATE"));
    let text: String = lines.skip(1).take_while(|line| !line.starts_with("-----")).collect();
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

impl Shared {
    /// What a sandbox's requests are given.
    pub(crate) fn credentials_of(&self, id: SandboxId) -> Option<Arc<Credentials>> {
        lock(&self.credentials).get(&id).cloned()
    }

    fn remember_credentials(&self, id: SandboxId, credentials: Credentials) {
        let mut all = lock(&self.credentials);
        match credentials.is_empty() {
            true => drop(all.remove(&id)),
            false => drop(all.insert(id, Arc::new(credentials))),
        }
    }

    fn resolve(&self, whose: (SandboxId, &Owner), wanted: &Credentials) -> (Granted, Vec<String>) {
        let (now, issuer) = (self.clock.now(), self.issuer.get());
        // Each is signed once: what is sent is what is hidden.
        let signed = wanted
            .tokens
            .iter()
            .filter_map(|(name, token)| Some((name.as_str(), issuer?.sign(whose, token, now)?)));
        let signed: BTreeMap<_, _> = signed.collect();
        credentials::resolve(wanted, |part| match part {
            Part::Secret(name) => self.open_secret(whose.1, name),
            Part::Token(name) => signed.get(name).cloned(),
            Part::Text(_) => None,
        })
    }

    fn open_secret(&self, owner: &Owner, name: &str) -> Option<SecretValue> {
        let stored = self.secrets.find(owner, name)?;
        let key = self.config.seal_key.as_ref()?;
        key.open(&stored.sealed, &StoredSecret::binding(owner, name)).ok()
    }

    fn credentials_change(
        &self,
        id: SandboxId,
        owner: &Owner,
        wanted: &Credentials,
    ) -> Result<ObjectChange, SandboxError> {
        if wanted.is_empty() {
            let remove = vec![(ObjectKind::Credentials, id.to_string())];
            return Ok(ObjectChange { remove, ..ObjectChange::default() });
        }
        let key = self.config.seal_key.as_ref();
        let key = key.ok_or(SandboxError::Unsupported { operation: "keep secrets" })?;
        let object = credentials_object(id, owner, wanted, key);
        let broken = |_unsealed| SandboxError::Broken("credentials could not be sealed");
        Ok(ObjectChange { put: vec![object.map_err(broken)?], ..ObjectChange::default() })
    }

    /// Tells the runtime what a sandbox's requests are given. Gives the certificate, as PEM, of who
    /// signs for the hosts then.
    pub(crate) async fn tell_runtime(
        &self,
        id: SandboxId,
        owner: &Owner,
    ) -> Result<Option<String>, SandboxError> {
        let turn = self.turns.of(id).await;
        self.tell_in_turn(id, owner, &turn).await
    }

    /// Values are looked up and told in one turn: what is told last is what is so.
    async fn tell_in_turn(
        &self,
        id: SandboxId,
        owner: &Owner,
        _turn: &Turn<'_>,
    ) -> Result<Option<String>, SandboxError> {
        let wanted = self.credentials_of(id).unwrap_or_default();
        let (granted, missing) = self.resolve((id, owner), &wanted);
        if !missing.is_empty() {
            tracing::warn!(sandbox.id = %id, ?missing, "secrets are not there and are not sent");
        }
        let told = self.runtime.set_credentials(&id, &granted).await;
        told.map_err(SandboxError::runtime("set credentials on requests"))
    }

    /// Tells the runtime anew about every sandbox that is given a secret, which has changed.
    pub(crate) async fn secret_changed(&self, owner: &Owner, name: &str) {
        for handle in self.all() {
            let sandbox = handle.sandbox();
            let named =
                self.credentials_of(sandbox.id).is_some_and(|it| it.secrets().contains(name));
            if sandbox.owner == *owner && sandbox.state.is_living() && named {
                self.tell_again(sandbox.id, owner).await;
            }
        }
    }

    async fn tell_again(&self, id: SandboxId, owner: &Owner) {
        if let Err(error) = self.tell_runtime(id, owner).await {
            let cause = &error as &dyn std::error::Error;
            tracing::error!(sandbox.id = %id, error = cause, "credentials are not what they were");
        }
    }

    /// Forgets what a sandbox that is gone was given.
    pub(crate) fn forget_credentials(&self, id: SandboxId) {
        self.remember_credentials(id, Credentials::default());
    }
}

/// Remembers the stored credentials of these sandboxes, and gives the change that removes others.
pub(crate) fn restore(
    shared: &Shared,
    objects: &[Object],
    known: impl Fn(SandboxId) -> bool,
) -> ObjectChange {
    let mut change = ObjectChange::default();
    for object in objects.iter().filter(|it| it.kind == ObjectKind::Credentials) {
        let sandbox = object.id.parse().ok().filter(|id| known(*id));
        let Some(sandbox) = sandbox else {
            change.remove.push((object.kind, object.id.clone()));
            continue;
        };
        let key: Option<&SealKey> = shared.config.seal_key.as_ref();
        match key.and_then(|key| object_credentials(object, key)) {
            Some((id, credentials)) => shared.remember_credentials(id, credentials),
            None => {
                tracing::error!(
                    sandbox.id = %sandbox,
                    "credentials were sealed with another key than this server has: set them again"
                );
                lock(&shared.unopened).insert(sandbox);
            }
        }
    }
    change
}

/// Tells the runtime what the sandboxes that live are given: another server told it last. Those that
/// are given nothing are told as well, for that server may have ended before it took something
/// back. What cannot be opened is not told: a runtime lets nothing around it meanwhile.
pub(crate) async fn tell_all(shared: &Shared) {
    if !shared.runtime.capabilities().credentials {
        return;
    }
    for handle in shared.all() {
        let sandbox = handle.sandbox();
        let unopened = lock(&shared.unopened).contains(&sandbox.id);
        if sandbox.state.is_living() && !unopened {
            shared.tell_again(sandbox.id, &sandbox.owner).await;
        }
    }
}

/// Signs the tokens of all sandboxes anew, again and again, until dropped.
pub(crate) async fn renew_tokens(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(identity::RENEWED);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // They have just been signed.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        for handle in shared.all() {
            let sandbox = handle.sandbox();
            let has = shared.credentials_of(sandbox.id).is_some_and(|it| !it.tokens.is_empty());
            if has && sandbox.state.is_living() {
                shared.tell_again(sandbox.id, &sandbox.owner).await;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_takes_the_place_of_earlier_ones() {
        let first = with("system", "first\n");
        assert!(first.starts_with("system\n") && first.contains("\nfirst\n"), "{first}");
        let second = with(&format!("{first}others\n"), "second\n");
        assert!(second.contains("system\nothers\n") && second.contains("second"), "{second}");
        assert!(!second.contains("first"), "{second}");
        assert_eq!(with(&second, "second\n"), second);
        let cut = format!("a\n{BEGIN}b\n");
        assert!(with(&cut, "c\n").starts_with(&cut), "half of one is somebody else's");
    }
}
