//! A session that runs: its machine, what happened to it, and what its broker may do.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use warren_git::{
    Access, AccessError, Event, GitMachine, Grant, PushOn, Wanted,
    wire::{PushRight, Request, Rights},
};

use super::{Admission, GitSession, Settings, Token, machine::SandboxMachine};
use crate::{
    clock::Timestamp,
    error::SandboxError,
    events::{Draft, EventKind},
    id::SandboxId,
    secrets::{SecretValue, StoredSecret},
    shared::Shared,
};

/// How many refusals are told at once, and how long until one more is.
const TOLD: u32 = 20;
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// A session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) settings: Settings,
    pub(crate) machine: GitMachine<SandboxMachine>,
    rights: Rights,
    news: Arc<Mutex<News>>,
    telling: Mutex<Telling>,
}

/// What happened last.
#[derive(Clone, Debug, Default)]
struct News {
    commit: Option<String>,
    pushed: Option<String>,
    trouble: Option<String>,
    /// Whether it was stopped with its work on the remote, and not started since.
    saved: bool,
    updated_at: Option<Timestamp>,
}

/// How many refusals may be told now.
#[derive(Debug)]
struct Telling {
    left: u32,
    since: Instant,
}

impl Session {
    /// A session with these settings.
    pub(crate) fn new(shared: &Arc<Shared>, settings: Settings) -> Result<Self, SandboxError> {
        let news = Arc::<Mutex<News>>::default();
        let broken =
            |_settings| SandboxError::Broken("a session of git has settings that are none");
        let machine = SandboxMachine::new(shared, settings.sandbox, settings.begun);
        let push_on = PushOn { pause: settings.push_on.pause, stop: settings.push_on.stop };
        let access = Broker { shared: Arc::downgrade(shared), url: settings.repository.url() };
        let mut builder = GitMachine::builder(machine, &settings.repository.url())
            .and_then(|it| it.session(settings.session.as_str()))
            .map_err(broken)?
            .access(access)
            .auto_commit(settings.auto_commit)
            .push_on(push_on)
            .on_moved(settings.moved())
            .clone_options(settings.clone_options())
            .on_event(teller(shared, &settings, &news));
        if let Some(reference) = &settings.reference {
            builder = builder.reference(reference.clone());
        }
        if let Some(identity) = &settings.identity {
            builder = builder.identity(identity.clone());
        }
        if let Some(path) = &settings.path {
            builder = builder.path(path.clone()).map_err(broken)?;
        }
        let push = match settings.push {
            true => PushRight::Session(settings.session.clone()),
            false => PushRight::Nothing,
        };
        let rights = Rights::new(settings.repository.path(), push);
        let telling = Mutex::new(Telling { left: TOLD, since: Instant::now() });
        lock(&news).saved = settings.saved;
        Ok(Self { machine: builder.build(), settings, rights, news, telling })
    }

    /// The session as callers see it.
    pub(crate) fn shown(&self) -> GitSession {
        let news = lock(&self.news).clone();
        GitSession {
            sandbox: self.settings.sandbox,
            repository: self.settings.repository.url(),
            session: self.settings.session.to_string(),
            path: self.machine.path().to_owned(),
            push: self.settings.push,
            commit: news.commit,
            pushed: news.pushed,
            trouble: news.trouble,
            saved: news.saved,
            updated_at: news.updated_at,
        }
    }

    /// Notes that all its work is on the remote, or may be elsewhere.
    pub(crate) fn note_saved(&self, saved: bool) {
        lock(&self.news).saved = saved;
    }

    /// Whether it was stopped with its work on the remote.
    pub(crate) fn is_saved(&self) -> bool {
        lock(&self.news).saved
    }

    /// Notes what somebody asked for and did not get.
    pub(crate) fn note_trouble(&self, at: Timestamp, trouble: Option<String>) {
        let mut news = lock(&self.news);
        news.trouble = trouble;
        news.updated_at = Some(at);
    }

    /// Whether its broker may send this request on, and with what.
    pub(crate) fn admit(
        &self,
        shared: &Shared,
        authority: &str,
        request: &Request,
    ) -> Result<Admission, String> {
        let repository = &self.settings.repository;
        if !authority.eq_ignore_ascii_case(repository.authority()) {
            return Err(format!("this sandbox has no right to repositories at {authority}"));
        }
        self.rights.allow(request).map_err(|denied| denied.to_string())?;
        Ok(Admission {
            https: repository.scheme() == "https",
            credential: self.credential(shared)?,
            anywhere: self.settings.anywhere,
            rights: self.rights.clone(),
        })
    }

    /// Name and token, looked up when they are sent: a secret may have another value by now.
    fn credential(&self, shared: &Shared) -> Result<Option<(String, SecretValue)>, String> {
        let Settings { sandbox, owner, user, token, .. } = &self.settings;
        let key = shared.config.seal_key.as_ref();
        let opened = match token {
            Token::None => return Ok(None),
            Token::Sealed(sealed) => {
                let binding = Settings::binding(*sandbox, owner);
                key.and_then(|key| key.open(sealed, &binding).ok())
            }
            Token::Secret(name) => {
                let stored = shared.secrets.find(owner, name);
                let stored = stored.ok_or_else(|| format!("there is no secret {name}"))?;
                let binding = StoredSecret::binding(owner, name);
                key.and_then(|key| key.open(&stored.sealed, &binding).ok())
            }
        };
        let lost = || "the token was sealed with another key than this server has".to_owned();
        Ok(Some((user.clone(), opened.ok_or_else(lost)?)))
    }

    /// Whether one more refusal is told.
    pub(crate) fn may_tell(&self) -> bool {
        let mut telling = lock(&self.telling);
        let passed = telling.since.elapsed();
        if passed >= TOLD_EVERY {
            let more = passed.as_secs() / TOLD_EVERY.as_secs().max(1);
            telling.left =
                TOLD.min(telling.left.saturating_add(u32::try_from(more).unwrap_or(TOLD)));
            telling.since = Instant::now();
        }
        let may = telling.left > 0;
        telling.left = telling.left.saturating_sub(1);
        may
    }
}

/// Makes events of what a session tells, and remembers the last ones.
fn teller(
    shared: &Arc<Shared>,
    settings: &Settings,
    news: &Arc<Mutex<News>>,
) -> impl Fn(&Event, &GitMachine<SandboxMachine>) + Send + Sync + 'static {
    let (shared, news) = (Arc::downgrade(shared), Arc::clone(news));
    let (owner, sandbox) = (settings.owner.clone(), settings.sandbox);
    let session = settings.session.to_string();
    move |event, _machine| {
        let Some(shared) = shared.upgrade() else { return };
        let time = shared.clock.now();
        note(&mut lock(&news), event, time);
        let Some(mut detail) = detail(event) else { return };
        detail.insert("event".to_owned(), event.name().to_owned());
        detail.insert("session".to_owned(), session.clone());
        let (owner, kind) = (owner.clone(), EventKind::Git);
        shared.store.announce(vec![Draft { time, kind, owner, sandbox, detail }]);
    }
}

fn note(news: &mut News, event: &Event, at: Timestamp) {
    match event {
        Event::Started { .. } | Event::Resumed => news.saved = false,
        Event::Stopped => news.saved = true,
        Event::Committed { sha, .. } => news.commit = Some(sha.clone()),
        Event::Pushed { sha, .. } => {
            news.commit = Some(sha.clone());
            news.pushed = Some(sha.clone());
            news.trouble = None;
        }
        Event::CommitFailed { reason } | Event::PushFailed { reason, .. } => {
            news.trouble = Some(reason.clone());
        }
        _ => return,
    }
    news.updated_at = Some(at);
}

/// What an event says; none for what the sandbox's own events say.
fn detail(event: &Event) -> Option<BTreeMap<String, String>> {
    let pairs: Vec<(&str, String)> = match event {
        Event::Started { path, .. } => vec![("path", path.clone())],
        Event::Committed { sha, message } => {
            vec![("sha", sha.clone()), ("message", message.chars().take(200).collect())]
        }
        Event::Pushed { branch, sha } => vec![("branch", branch.clone()), ("sha", sha.clone())],
        Event::Pulled { branch, sha } => {
            vec![("branch", branch.clone()), ("sha", sha.clone().unwrap_or_default())]
        }
        Event::CommitFailed { reason } => vec![("reason", reason.clone())],
        Event::PushFailed { branch, reason, rescue } => {
            let rescue = rescue.iter().map(|it| ("rescue", it.clone()));
            let pairs = [("branch", branch.clone()), ("reason", reason.clone())];
            pairs.into_iter().chain(rescue).collect()
        }
        Event::Conflict { branch, paths } => {
            vec![("branch", branch.clone()), ("paths", paths.join(", "))]
        }
        _ => return None,
    };
    Some(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// The way to the remote: the broker at the gateway, in the place of this one repository.
#[derive(Debug)]
struct Broker {
    shared: Weak<Shared>,
    url: String,
}

#[async_trait]
impl Access for Broker {
    async fn grant(&self, wanted: &Wanted<'_>) -> Result<Grant, AccessError> {
        let base = self.shared.upgrade().and_then(|shared| shared.git.broker());
        let base = base.ok_or_else(|| AccessError::Source("this server has no broker".into()))?;
        let repository = wanted.repository;
        let here = address(&base, repository);
        Ok(Grant::Settings(vec![
            (format!("url.{here}.insteadOf"), self.url.clone()),
            // What a sandbox's own variables say about proxies is not for its gateway.
            (format!("http.{base}/.proxy"), String::new()),
        ]))
    }
}

/// Where the broker has a repository.
pub(crate) fn address(base: &str, repository: &warren_git::Repository) -> String {
    format!("{base}/{}/{}", repository.authority(), repository.path())
}

/// The words that point every git of a sandbox at the broker, and away from an earlier one.
pub(crate) fn point(
    base: &str,
    repository: &warren_git::Repository,
    scope: [&str; 2],
) -> Vec<String> {
    const POINT: &str = r#"
flag=$1; at=$2; key=$3; url=$4
g() { if [ "$flag" = --local ]; then git -C "$at" config --local "$@"; else git config --system "$@"; fi; }
g --get-regexp '^url\..*\.insteadof$' 2>/dev/null | while read -r k v; do
    [ "$v" != "$url" ] || g --unset-all "$k"
done
g --add "$key" "$url"
"#;
    let key = format!("url.{}.insteadOf", address(base, repository));
    let [flag, at] = scope;
    let url = repository.url();
    ["/bin/sh", "-c", POINT, "sh", flag, at, &key, &url].map(str::to_owned).to_vec()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells a session's owner what was refused to its sandbox.
pub(crate) fn tell_refused(
    shared: &Shared,
    session: &Session,
    sandbox: SandboxId,
    repository: &str,
    reason: &str,
) {
    tracing::warn!(sandbox.id = %sandbox, reason, "the broker of git refused a request");
    if !session.may_tell() {
        return;
    }
    let cut = |text: &str| text.chars().filter(|it| !it.is_control()).take(300).collect();
    let detail = [
        ("event".to_owned(), "refused".to_owned()),
        ("session".to_owned(), session.settings.session.to_string()),
        ("repository".to_owned(), cut(repository)),
        ("reason".to_owned(), cut(reason)),
    ];
    let (owner, kind) = (session.settings.owner.clone(), EventKind::Git);
    let (time, detail) = (shared.clock.now(), detail.into_iter().collect());
    shared.store.announce(vec![Draft { time, kind, owner, sandbox, detail }]);
}
