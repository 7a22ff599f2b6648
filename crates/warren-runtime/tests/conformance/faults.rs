use std::time::Duration;

use warren_core::{
    id::SandboxId,
    runtime::{
        Deadline, DeadlineAction, ExitReason, Found, GuestState, Runtime, RuntimeEvent, Service,
    },
};

use crate::harness::{Host, eventually, health, next_event, possible, spec};

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_outlive_their_server_and_blanks_do_not() {
    if !possible() {
        return;
    }
    let mut host = Host::open(3);
    let id = SandboxId::mint();
    host.runtime().create(&id, &spec()).await.unwrap();
    eventually("the pool is full", || host.runtime().blanks() == 3).await;
    host.crash();
    host.start(0);
    let found = host.runtime().list().await.unwrap();
    assert_eq!(found, [Found { id, state: GuestState::Running }]);
    assert_eq!(health(host.runtime(), &id, Service::Envd).await, "HTTP/1.1 204 No Content");
    let blanks = host.data.path().join("blanks");
    eventually("the blanks are gone", || std::fs::read_dir(&blanks).unwrap().count() == 0).await;
    let mut events = host.runtime().events();
    host.runtime().destroy(&id).await.unwrap();
    let RuntimeEvent::Exited { id: ended, exit } = next_event(&mut events).await else {
        panic!("an exit comes first");
    };
    assert_eq!((ended, exit.reason), (id, ExitReason::Killed));
    host.wait_until_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_ended_without_a_server_is_found_with_its_cause() {
    if !possible() {
        return;
    }
    let mut host = Host::open(0);
    let id = SandboxId::mint();
    host.runtime().create(&id, &spec()).await.unwrap();
    let now = Deadline { after: Duration::ZERO, action: DeadlineAction::Kill };
    host.runtime().set_deadline(&id, Some(now)).await.unwrap();
    host.crash();
    let exits = host.run.path().join("exits");
    eventually("the keeper acts on the deadline", || {
        std::fs::read_dir(&exits).unwrap().count() == 1
    })
    .await;
    host.start(0);
    let found = host.runtime().list().await.unwrap();
    let [Found { id: found, state: GuestState::Exited(exit) }] = found.as_slice() else {
        panic!("expected one ended guest, got {found:?}");
    };
    assert_eq!((*found, exit.reason), (id, ExitReason::Deadline));
    host.runtime().destroy(&id).await.unwrap();
    host.wait_until_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_outlive_their_keeper() {
    if !possible() {
        return;
    }
    let host = Host::open(0);
    let (one, two) = (SandboxId::mint(), SandboxId::mint());
    host.runtime().create(&one, &spec()).await.unwrap();
    let mut events = host.runtime().events();
    for keeper in host.keepers() {
        kill(keeper);
    }
    eventually("the keeper is gone", || host.keepers().is_empty()).await;
    assert_eq!(health(host.runtime(), &one, Service::Envd).await, "HTTP/1.1 204 No Content");
    host.runtime().create(&two, &spec()).await.unwrap();
    assert_eq!(host.runtime().list().await.unwrap().len(), 2);
    // It ends without being asked to, which somebody must notice who is not its parent.
    kill(host.process(&one));
    let RuntimeEvent::Exited { id, .. } = next_event(&mut events).await else {
        panic!("an exit comes first");
    };
    assert_eq!(id, one);
    for id in [&one, &two] {
        host.runtime().destroy(id).await.unwrap();
    }
    host.wait_until_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keeper_and_a_server_that_die_together_lose_no_guest() {
    if !possible() {
        return;
    }
    let mut host = Host::open(0);
    let id = SandboxId::mint();
    host.runtime().create(&id, &spec()).await.unwrap();
    for keeper in host.keepers() {
        kill(keeper);
    }
    host.crash();
    host.start(0);
    assert_eq!(health(host.runtime(), &id, Service::Control).await, "HTTP/1.1 204 No Content");
    host.runtime().destroy(&id).await.unwrap();
    host.wait_until_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_can_freeze_and_can_be_taken_back() {
    if !possible() {
        return;
    }
    let host = Host::open(0);
    if !host.runtime().capabilities().pause {
        println!("SKIPPED: no cgroup is writable, so nothing freezes");
        return;
    }
    let (frozen, spared) = (SandboxId::mint(), SandboxId::mint());
    for id in [&frozen, &spared] {
        host.runtime().create(id, &spec()).await.unwrap();
    }
    let pause = Deadline { after: Duration::ZERO, action: DeadlineAction::Pause };
    let kill = Deadline { after: Duration::ZERO, action: DeadlineAction::Kill };
    host.runtime().set_deadline(&spared, Some(kill)).await.unwrap();
    host.runtime().set_deadline(&spared, None).await.unwrap();
    host.runtime().set_deadline(&frozen, Some(pause)).await.unwrap();
    let handle = tokio::runtime::Handle::current();
    let runtime = host.runtime().clone();
    eventually("the guest is frozen", || {
        let list = runtime.list();
        let found = tokio::task::block_in_place(|| handle.block_on(list)).unwrap();
        found.contains(&Found { id: frozen, state: GuestState::Paused })
    })
    .await;
    assert_eq!(health(&runtime, &spared, Service::Envd).await, "HTTP/1.1 204 No Content");
}
