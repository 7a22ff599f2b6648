//! What guests may reach, over the life of guests and servers. Nothing leaves the host: what is
//! tried is what rules deny.

use std::{
    fs::File,
    io::ErrorKind,
    net::{Ipv4Addr, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use warren_core::{
    egress::{Protocol, Question, Reason},
    id::SandboxId,
    runtime::{Runtime, RuntimeError},
    spec::{Network, Spec},
};

use crate::harness::{Host, possible, spec};

/// An address for documents, which nobody has.
const NOBODY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

fn rules(text: &str) -> Network {
    Network::Rules(Arc::new(text.parse().unwrap()))
}

fn slot(host: &Host, id: &SandboxId) -> u32 {
    let record = std::fs::read_to_string(host.entry(id).join("guest")).unwrap();
    record.lines().find_map(|line| line.strip_prefix("slot ")).unwrap().parse().unwrap()
}

/// Whether a connection from inside is refused at once.
fn is_refused(host: &Host, id: &SandboxId) -> bool {
    let network = File::open(format!("/proc/{}/ns/net", host.process(id))).unwrap();
    let tried = thread::spawn(move || {
        warren_sys::netns::enter(std::os::fd::AsFd::as_fd(&network)).unwrap();
        TcpStream::connect_timeout(&(NOBODY, 80).into(), Duration::from_secs(5))
    });
    tried.join().unwrap().is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_hold_from_the_first_moment_and_over_the_death_of_a_server() {
    if !possible() {
        return;
    }
    let mut host = Host::open(1);
    if host.runtime().network().is_none() {
        return println!("SKIPPED: no network for sandboxes here");
    }
    let id = SandboxId::mint();
    let network = rules("allow a.example:443\notherwise deny\n");
    host.runtime().create(&id, &Spec { network: network.clone(), ..spec() }).await.unwrap();
    assert!(is_refused(&host, &id));
    let traffic = host.runtime().usage(&id).await.unwrap().traffic.unwrap();
    assert!(traffic.denied >= 1 && traffic.sent_packets >= 1, "{traffic:?}");

    host.crash();
    assert!(is_refused(&host, &id), "no server runs");
    host.start(0);
    assert!(is_refused(&host, &id));
    let slot = slot(&host, &id);
    let policy = |host: &Host| host.runtime().network().unwrap().policies().policy(slot);
    let before = policy(&host).unwrap();
    assert_eq!(Network::Rules(Arc::clone(&before.egress)), network);
    host.runtime().set_network(&id, &network).await.unwrap();
    assert_eq!(policy(&host).unwrap().mark, before.mark, "the same again changes nothing");

    host.runtime().set_network(&id, &rules("deny *\n")).await.unwrap();
    assert_ne!(policy(&host).unwrap().mark, before.mark);
    assert!(is_refused(&host, &id));
    let question = Question::about("192.0.2.1", Protocol::Tcp, Some(80)).unwrap();
    let explained = host.runtime().explain(&id, &rules("deny *\n"), &question).await.unwrap();
    assert_eq!(explained.reason, Reason::Rule(0));
    host.runtime().set_network(&id, &Network::Open).await.unwrap();
    assert_eq!(policy(&host), None);
    assert!(!host.entry(&id).join("network").exists());
    host.runtime().destroy(&id).await.unwrap();
    host.wait_until_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_without_an_interface_gets_none_while_it_runs() {
    if !possible() {
        return;
    }
    let host = Host::open(0);
    if host.runtime().network().is_none() {
        return println!("SKIPPED: no network for sandboxes here");
    }
    let id = SandboxId::mint();
    host.runtime().create(&id, &Spec { network: Network::None, ..spec() }).await.unwrap();
    host.runtime().set_network(&id, &Network::None).await.unwrap();
    let error = host.runtime().set_network(&id, &Network::Open).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Unsupported { .. }), "{error}");
    // From its next start on it has one, with rules.
    host.runtime().stop(&id).await.unwrap();
    let wanted = Spec { network: rules("otherwise deny\n"), ..spec() };
    host.runtime().start(&id, &wanted).await.unwrap();
    assert!(is_refused(&host, &id));
}
