//! Names of somebody's own: claimed, shown, served, and still there for the next server.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use warren_core::{
    Caller, SandboxError,
    domains::{NameService, Said},
    events::EventKind,
    sandbox::Wanted,
    sandboxes::{CertificateNews, NewDomain},
};

use crate::world::World;

const NAME: &str = "app.example.com";

/// A name service that says what it is told to.
#[derive(Debug, Default)]
struct Names(Mutex<Said>);

#[async_trait]
impl NameService for Names {
    async fn ask(&self, name: &str) -> Result<Said, String> {
        let said = self.0.lock().unwrap().clone();
        if said == Said::default() { Err(format!("nobody knows {name}")) } else { Ok(said) }
    }
}

fn wanted(sandbox: &str, port: u16, unchecked: bool) -> NewDomain {
    NewDomain { name: NAME.to_owned(), sandbox: sandbox.to_owned(), port, public: false, unchecked }
}

#[test]
fn a_name_is_served_once_it_was_shown_to_be_the_callers() {
    let world = World::start();
    let id = world.create_as(Wanted::default()).id;
    let (sandboxes, caller) = (&world.sandboxes, &world.caller);
    let added = world.run(sandboxes.add_domain(caller, wanted(id.as_str(), 80, false))).unwrap();
    assert_eq!(sandboxes.domain(NAME), None);
    let unable = world.run(sandboxes.verify_domain(caller, NAME)).unwrap_err();
    assert!(matches!(unable, SandboxError::Unsupported { .. }), "{unable}");
    let names = Arc::new(Names::default());
    sandboxes.look_up_with(Arc::clone(&names) as _);
    let error = world.run(sandboxes.verify_domain(caller, NAME)).unwrap_err().to_string();
    assert!(error.contains("nobody knows app.example.com"), "{error}");
    *names.0.lock().unwrap() = Said { texts: vec!["other".to_owned()], target: NAME.to_owned() };
    let error = world.run(sandboxes.verify_domain(caller, NAME)).unwrap_err().to_string();
    assert!(error.contains(added.proof.as_str()), "{error}");
    names.0.lock().unwrap().texts.push(added.proof.to_string());
    world.run(sandboxes.verify_domain(caller, "App.Example.Com.")).unwrap();
    assert_eq!(sandboxes.domain(NAME), Some((id, 80, false)));
    // It can lead elsewhere without being shown again.
    world.run(sandboxes.add_domain(caller, wanted(id.as_str(), 81, false))).unwrap();
    assert_eq!(sandboxes.domain(NAME), Some((id, 81, false)));
    world.run(sandboxes.remove_domain(caller, NAME)).unwrap();
    assert_eq!((sandboxes.domain(NAME), sandboxes.domains(caller).len()), (None, 0));
}

#[test]
fn only_the_host_may_leave_the_proof_out() {
    let world = World::start();
    let id = world.create_as(Wanted::default()).id;
    let far = Caller::remote(world.caller.owner().clone());
    let unchecked = || wanted(id.as_str(), 80, true);
    let error = world.run(world.sandboxes.add_domain(&far, unchecked())).unwrap_err();
    assert!(matches!(error, SandboxError::Denied { .. }), "{error}");
    world.run(world.sandboxes.add_domain(&Caller::local(), unchecked())).unwrap();
    assert_eq!(world.sandboxes.served_domains(), [NAME]);
    // What leads to no sandbox any more needs no certificate.
    world.run(world.sandboxes.delete(&world.caller, id.as_str())).unwrap();
    assert_eq!(world.sandboxes.served_domains(), Vec::<String>::new());
}

#[test]
fn the_owner_of_a_name_is_told_of_its_certificate() {
    let world = World::start();
    let sandbox = world.create();
    let (sandboxes, caller) = (&world.sandboxes, Caller::local());
    let wanted = wanted(sandbox.id.as_str(), 80, true);
    let changes = sandboxes.domain_changes();
    world.run(sandboxes.add_domain(&caller, wanted)).unwrap();
    assert!(changes.has_changed().unwrap());
    let mut events = sandboxes.events(&caller, Some(sandbox.id), None);
    sandboxes.tell_certificate("other.example.com", CertificateNews::Ending { until: 6 });
    sandboxes.tell_certificate(NAME, CertificateNews::Failed("it rained".to_owned()));
    sandboxes.tell_certificate(NAME, CertificateNews::Ending { until: 7 });
    // That the sandbox runs may be told only now.
    let mut next = || loop {
        let event = world.run(events.next()).unwrap().unwrap();
        if event.kind != EventKind::Running {
            return event;
        }
    };
    let failed = next();
    assert_eq!((failed.kind, &*failed.detail["domain"]), (EventKind::CertificateFailed, NAME));
    assert_eq!(failed.detail["reason"], "it rained");
    let ending = next();
    assert_eq!((ending.kind, &*ending.detail["until"]), (EventKind::CertificateEnding, "7"));
}
