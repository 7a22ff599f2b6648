//! Orders at a real authority, all on loopback.
//!
//! The authority is Let's Encrypt's own for tests, pebble, which `xtask test` builds once under
//! `target/tools`. Where it is missing these tests say so and are skipped.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test asserts by unwrapping, in its helpers too"
)]

mod names;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{net::TcpListener, time::timeout};
use tokio_rustls::{TlsAcceptor, rustls};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use warren_test_internet::{Pebble, PebbleOptions};
use warren_tls::{
    Certificates,
    acme::{self, Acme, DnsProof, Proof, Settings, Status, Wanted},
    dns::{Lookup, Resolvers, hook::Hook},
};

use crate::names::NameServer;

const PATIENCE: Duration = Duration::from_secs(90);

/// An authority, a server of names, and a directory for what is kept.
struct World {
    base: tempfile::TempDir,
    names: NameServer,
    authority: Pebble,
}

impl World {
    async fn start() -> Option<Self> {
        let base = tempfile::tempdir().unwrap();
        let names = NameServer::start(base.path().join("records")).await;
        let options =
            PebbleOptions { names: names.address(), ports: None, life_seconds: 90 * 24 * 3600 };
        let authority = Pebble::start(base.path(), &options).unwrap()?;
        Some(Self { base, names, authority })
    }

    fn settings(&self, proof: Proof) -> Settings {
        Settings {
            directory: self.base.path().join("acme"),
            url: self.authority.url(),
            roots: Some(self.authority.roots()),
            contact: Some("mailto:ops@box.example".to_owned()),
            proof,
            orders_per_week: 3,
        }
    }

    fn lookup(&self) -> Lookup {
        let address = self.names.address();
        Lookup::new(Resolvers::Fixed(vec![address])).at_port(address.port())
    }

    /// A program that writes records where the server of names reads them.
    fn hook(&self, script: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.base.path().join("hook");
        let text =
            format!("#!/bin/sh\ncd {} || exit 1\n{script}\n", self.names.records().display());
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        path
    }

    fn dns(&self, script: &str) -> Proof {
        let within = Duration::from_secs(10);
        let hook = Hook { program: self.hook(script), within, token_file: None };
        let lookup = self.lookup();
        Proof::Dns(Arc::new(DnsProof { records: Box::new(hook), lookup, within }))
    }
}

const ADD_AND_REMOVE: &str = r#"case "$1" in
add) echo "$3" >> "$2" ;;
remove) grep -v -x -e "$3" "$2" > "$2.new"; mv "$2.new" "$2" ;;
esac"#;

fn wanted(names: &[&str]) -> Vec<Wanted> {
    vec![Wanted { names: names.iter().map(ToString::to_string).collect(), foreign: false }]
}

/// Runs until an attempt has come to its end.
async fn attempt(acme: &Acme, names: &[&str]) -> Status {
    let (mut changes, stop) = (acme.changes(), CancellationToken::new());
    let changed = async {
        timeout(PATIENCE, changes.changed()).await.unwrap().unwrap();
        stop.cancel();
    };
    tokio::join!(acme.run(|| wanted(names), stop.clone()), changed);
    acme.status().remove(0)
}

#[track_caller]
fn issued(status: &Status) {
    assert_eq!(status.failure, None);
    assert!(status.until.unwrap() > warren_tls::now());
    assert!(status.next_at > warren_tls::now());
}

macro_rules! world {
    () => {
        match World::start().await {
            Some(world) => world,
            None => {
                println!("SKIPPED: pebble is not installed and could not be built");
                return;
            }
        }
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_proved_at_its_port_80_and_ordered_once() {
    let world = world!();
    let listener = TcpListener::bind(("127.0.0.1", world.authority.http_port())).await.unwrap();
    let certificates = Certificates::default();
    let acme = Acme::open(world.settings(Proof::Http), certificates.clone()).unwrap();
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    tasks.spawn(acme::serve_answers(listener, acme.answers(), 443, stop.clone()));
    let status = attempt(&acme, &["box.example"]).await;
    issued(&status);
    assert!(certificates.of(Some("box.example")).is_some());
    assert!(certificates.of(None).is_some());
    assert!(certificates.of(Some("www.box.example")).is_none());

    // The next server finds it, and asks nobody.
    let settings = world.settings(Proof::Http);
    let directory = settings.directory.clone();
    drop(world.authority);
    let certificates = Certificates::default();
    let next = Acme::open(settings, certificates.clone()).unwrap();
    let looked = next.run(|| wanted(&["box.example"]), CancellationToken::new());
    assert!(timeout(Duration::from_millis(300), looked).await.is_err());
    assert_eq!(next.status(), [status]);
    assert!(certificates.of(Some("box.example")).is_some());
    private(&directory);
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}

/// Every file is its owner's alone.
fn private(directory: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let mut files = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        if path.is_dir() {
            private(&path);
            continue;
        }
        files += 1;
        assert_eq!(mode & 0o077, 0, "{}", path.display());
        assert!(!path.to_string_lossy().ends_with(".partial"));
    }
    let names = directory.file_name().unwrap().to_string_lossy().into_owned();
    assert!(files > 0 || names == "acme", "{}", directory.display());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_proved_in_the_handshake() {
    let world = world!();
    let listener = TcpListener::bind(("127.0.0.1", world.authority.tls_port())).await.unwrap();
    let certificates = Certificates::default();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificates.clone()));
    config.alpn_protocols = vec![b"http/1.1".to_vec(), b"acme-tls/1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let answering = async {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            drop(acceptor.accept(stream).await);
        }
    };
    let acme = Acme::open(world.settings(Proof::TlsAlpn), certificates.clone()).unwrap();
    let status = tokio::select! {
        status = attempt(&acme, &["tls.box.example"]) => status,
        () = answering => unreachable!(),
    };
    issued(&status);
    assert!(certificates.of(Some("tls.box.example")).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn all_names_below_a_domain_are_proved_by_a_record_that_goes_again() {
    let world = world!();
    let certificates = Certificates::default();
    let settings = world.settings(world.dns(ADD_AND_REMOVE));
    let acme = Acme::open(settings, certificates.clone()).unwrap();
    let status = attempt(&acme, &["box.example", "*.box.example"]).await;
    issued(&status);
    for name in ["box.example", "3000-sb-1.box.example"] {
        assert!(certificates.of(Some(name)).is_some(), "{name}");
    }
    let left = std::fs::read_to_string(world.names.records().join("_acme-challenge.box.example"));
    assert_eq!(left.unwrap(), "", "records are removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_may_stand_elsewhere() {
    let world = world!();
    world.names.link("_acme-challenge.linked.example", "challenges.box.example");
    let acme = Acme::open(world.settings(world.dns(ADD_AND_REMOVE)), Certificates::default());
    issued(&attempt(&acme.unwrap(), &["*.linked.example"]).await);
    assert!(world.names.records().join("challenges.box.example").exists());
    assert!(!world.names.records().join("_acme-challenge.linked.example").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_says_why_and_the_next_attempt_is_later_also_for_the_next_server() {
    let world = world!();
    // Nobody answers at port 80.
    let acme = Acme::open(world.settings(Proof::Http), Certificates::default()).unwrap();
    let status = attempt(&acme, &["box.example"]).await;
    let reason = status.failure.clone().unwrap();
    assert!(reason.contains("did not find that box.example is ours"), "{reason}");
    assert_eq!((status.until, acme.failures()), (None, 1));
    assert!(status.next_at >= warren_tls::now() + 14 * 60);
    let next = Acme::open(world.settings(Proof::Http), Certificates::default()).unwrap();
    let looked = next.run(|| wanted(&["box.example"]), CancellationToken::new());
    assert!(timeout(Duration::from_millis(300), looked).await.is_err());
    assert_eq!((next.failures(), next.status()), (0, vec![status]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_fails_or_does_nothing_costs_an_attempt_and_leaves_nothing() {
    let world = world!();
    let names = ["*.box.example"];
    let failing = world.settings(world.dns("echo no such zone >&2; exit 1"));
    let acme = Acme::open(failing, Certificates::default()).unwrap();
    let reason = attempt(&acme, &names).await.failure.unwrap();
    assert!(reason.contains("no such zone"), "{reason}");
    let mut lazy = world.settings(world.dns("exit 0"));
    lazy.directory = world.base.path().join("lazy");
    let acme = Acme::open(lazy, Certificates::default()).unwrap();
    let reason = attempt(&acme, &names).await.failure.unwrap();
    assert!(reason.contains("does not say"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_so_many_orders_a_week_and_no_more() {
    let world = world!();
    let mut settings = world.settings(world.dns(ADD_AND_REMOVE));
    settings.orders_per_week = 1;
    let acme = Acme::open(settings, Certificates::default()).unwrap();
    issued(&attempt(&acme, &["*.box.example"]).await);
    let status = attempt(&acme, &["*.other.example"]).await;
    assert!(status.failure.unwrap().contains("1 orders in a week"));
}
