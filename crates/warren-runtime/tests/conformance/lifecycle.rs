use warren_core::{
    id::SandboxId,
    runtime::{Found, GuestState, Runtime, Service},
};

use crate::harness::{Host, health, possible, spec};

#[tokio::test(flavor = "multi_thread")]
async fn a_created_guest_answers_on_both_sockets_and_is_listed() {
    if !possible() {
        return;
    }
    let host = Host::open(1);
    let id = SandboxId::mint();
    let created = host.runtime().create(&id, &spec()).await.unwrap();
    println!("{created:?}");
    for service in [Service::Control, Service::Envd] {
        let status = health(host.runtime(), &id, service).await;
        assert_eq!(status, "HTTP/1.1 204 No Content");
    }
    let found = host.runtime().list().await.unwrap();
    assert_eq!(found, [Found { id, state: GuestState::Running }]);
    host.runtime().destroy(&id).await.unwrap();
    assert!(host.runtime().list().await.unwrap().is_empty());
    assert!(!host.entry(&id).exists());
    host.runtime().destroy(&id).await.unwrap();
}
