//! Saving files, making guests on them, and giving files up; on every kind of storage.

use std::{fs, path::PathBuf};

use warren_core::{
    id::{SandboxId, SnapshotId},
    runtime::{Found, GuestState, Haste, Runtime, RuntimeError, Service},
    spec::{Image, Spec},
};

use crate::{
    harness::{Host, eventually, health, possible, spec},
    storage::Filesystem,
};

/// A host on each kind of storage that there can be here.
fn hosts() -> Vec<(&'static str, Host, Option<Filesystem>)> {
    let mut hosts = vec![("dir", Host::open(2), None)];
    for (name, made) in [("btrfs", Filesystem::btrfs()), ("xfs", Filesystem::xfs_without_quotas())]
    {
        if let Some(made) = made {
            let data = tempfile::tempdir_in(made.place()).unwrap();
            hosts.push((name, Host::open_in(data, 2, false), Some(made)));
        }
    }
    hosts
}

/// What is in the guest's own layer on the host.
fn upper(host: &Host, id: &SandboxId) -> PathBuf {
    host.entry(id).join("disk/upper")
}

/// A file as the guest sees it.
fn seen(host: &Host, id: &SandboxId, path: &str) -> Option<String> {
    let root = format!("/proc/{}/root", host.process(id));
    fs::read_to_string(format!("{root}{path}")).ok()
}

fn on(base: &Spec, snapshots: &[SnapshotId]) -> Spec {
    let image =
        snapshots.iter().rev().fold(Image::Host, |image, id| Image::Snapshot(image.under(*id)));
    Spec { image, ..base.clone() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_are_made_on_what_another_one_had_written() {
    if !possible() {
        return;
    }
    for (kind, host, _storage) in hosts() {
        println!("on {kind}");
        let runtime = host.runtime();
        let (parent, spec) = (SandboxId::mint(), spec());
        runtime.create(&parent, &spec).await.unwrap();
        fs::write(upper(&host, &parent).join("file"), "one").unwrap();
        fs::create_dir(upper(&host, &parent).join("many")).unwrap();
        for number in 0..100 {
            fs::write(upper(&host, &parent).join(format!("many/{number}")), "x").unwrap();
        }
        let first = SnapshotId::mint();
        runtime.capture(&parent, &first, None, Haste::Guest).await.unwrap();
        let found = runtime.list().await.unwrap();
        assert_eq!(found, [Found { id: parent, state: GuestState::Running }], "it goes on");
        fs::write(upper(&host, &parent).join("file"), "two").unwrap();
        let sealed = runtime.seal(&first, None).await.unwrap();
        assert!(sealed.files > 100 && sealed.bytes >= 103, "{sealed:?}");

        let second = SnapshotId::mint();
        runtime.capture(&parent, &second, Some(&first), Haste::Caller).await.unwrap();
        runtime.seal(&second, Some(&first)).await.unwrap();
        let mut listed = runtime.snapshots().await.unwrap();
        listed.sort_unstable();
        let mut both = [first, second];
        both.sort_unstable();
        assert_eq!(listed, both);

        // Two children of the first, one of the second; a grandchild on a child's own layer.
        let children: Vec<_> = (0..3).map(|_| SandboxId::mint()).collect();
        for (child, snapshot) in children.iter().zip([first, first, second]) {
            runtime.create(child, &on(&spec, &[snapshot])).await.unwrap();
            assert!(health(runtime, child, Service::Envd).await.contains("204"));
        }
        assert_eq!(seen(&host, &children[0], "/file").as_deref(), Some("one"));
        assert_eq!(seen(&host, &children[2], "/file").as_deref(), Some("two"));
        assert_eq!(seen(&host, &children[1], "/many/99").as_deref(), Some("x"));
        let machine_ids: std::collections::BTreeSet<_> = children
            .iter()
            .chain([&parent])
            .map(|id| seen(&host, id, "/etc/machine-id").unwrap())
            .collect();
        assert_eq!(machine_ids.len(), 4, "each is a machine of its own");

        fs::write(upper(&host, &children[0]).join("own"), "child").unwrap();
        let third = SnapshotId::mint();
        runtime.pause(&children[0]).await.unwrap();
        let frozen = runtime.capture(&children[0], &third, None, Haste::Caller).await.unwrap();
        assert_eq!(frozen.frozen, std::time::Duration::ZERO, "it stood still before");
        let state = runtime.list().await.unwrap().into_iter().find(|it| it.id == children[0]);
        assert_eq!(state.unwrap().state, GuestState::Paused, "and still does");
        let grandchild = SandboxId::mint();
        runtime.create(&grandchild, &on(&spec, &[third, first])).await.unwrap();
        assert_eq!(seen(&host, &grandchild, "/own").as_deref(), Some("child"));
        assert_eq!(seen(&host, &grandchild, "/file").as_deref(), Some("one"));
        assert_eq!(seen(&host, &children[1], "/own"), None);

        runtime.remove_snapshot(&second).await.unwrap();
        runtime.remove_snapshot(&second).await.unwrap();
        let error = runtime.create(&SandboxId::mint(), &on(&spec, &[second])).await.unwrap_err();
        assert!(matches!(error, RuntimeError::Image { .. }), "{error}");
        for id in children.iter().chain([&parent, &grandchild]) {
            runtime.destroy(id).await.unwrap();
        }
        for id in [first, third] {
            runtime.remove_snapshot(&id).await.unwrap();
        }
        host.runtime().close();
        host.wait_until_clean().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_guest_is_saved_moved_and_emptied() {
    if !possible() {
        return;
    }
    for (kind, host, _storage) in hosts() {
        println!("on {kind}");
        let runtime = host.runtime();
        let (id, spec) = (SandboxId::mint(), spec());
        runtime.create(&id, &spec).await.unwrap();
        fs::write(upper(&host, &id).join("file"), "one").unwrap();
        let machine_id = seen(&host, &id, "/etc/machine-id").unwrap();
        runtime.stop(&id).await.unwrap();
        let copied = SnapshotId::mint();
        runtime.capture(&id, &copied, None, Haste::Guest).await.unwrap();

        // Given up twice is given up once; it stays the same machine.
        runtime.reset(&id).await.unwrap();
        runtime.reset(&id).await.unwrap();
        runtime.start(&id, &spec).await.unwrap();
        assert_eq!(seen(&host, &id, "/file"), None);
        assert_eq!(seen(&host, &id, "/etc/machine-id"), Some(machine_id.clone()));
        runtime.stop(&id).await.unwrap();
        runtime.reset(&id).await.unwrap();
        runtime.start(&id, &on(&spec, &[copied])).await.unwrap();
        assert_eq!(seen(&host, &id, "/file").as_deref(), Some("one"));
        assert_eq!(seen(&host, &id, "/etc/machine-id"), Some(machine_id));
        assert!(health(runtime, &id, Service::Envd).await.contains("204"));

        fs::write(upper(&host, &id).join("more"), "two").unwrap();
        runtime.stop(&id).await.unwrap();
        let moved = SnapshotId::mint();
        runtime.convert(&id, &moved).await.unwrap();
        assert!(runtime.list().await.unwrap().is_empty(), "of the guest nothing is left");
        let error = runtime.start(&id, &spec).await.unwrap_err();
        assert!(matches!(error, RuntimeError::NotFound { .. }), "{error}");
        let next = SandboxId::mint();
        runtime.create(&next, &on(&spec, &[moved, copied])).await.unwrap();
        assert_eq!(seen(&host, &next, "/more").as_deref(), Some("two"));
        assert_eq!(seen(&host, &next, "/file").as_deref(), Some("one"));
        runtime.destroy(&next).await.unwrap();
        for id in [copied, moved] {
            runtime.remove_snapshot(&id).await.unwrap();
        }
        runtime.close();
        host.wait_until_clean().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_server_left_half_is_removed_and_what_it_froze_goes_on() {
    if !possible() {
        return;
    }
    let mut host = Host::open(0);
    let (id, spec) = (SandboxId::mint(), spec());
    host.runtime().create(&id, &spec).await.unwrap();
    // As it is when a server dies while it copies the files of a frozen guest.
    let half = host.data.path().join("snapshots").join(format!(".{}", SnapshotId::mint()));
    fs::create_dir_all(half.join("disk/upper")).unwrap();
    fs::write(host.entry(&id).join("frozen"), "").unwrap();
    host.runtime().pause(&id).await.unwrap();
    host.crash();
    host.start(0);
    let found = host.runtime().list().await.unwrap();
    assert_eq!(found, [Found { id, state: GuestState::Running }]);
    assert!(!half.exists());
    assert!(!host.entry(&id).join("frozen").exists());
    // One that was paused on purpose stays so.
    host.runtime().pause(&id).await.unwrap();
    host.crash();
    host.start(0);
    let found = host.runtime().list().await.unwrap();
    assert_eq!(found, [Found { id, state: GuestState::Paused }]);
    host.runtime().destroy(&id).await.unwrap();
    host.runtime().close();
    host.wait_until_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_capture_that_fails_leaves_nothing_and_a_guest_that_runs() {
    if !possible() {
        return;
    }
    let host = Host::open(0);
    let (id, spec) = (SandboxId::mint(), spec());
    host.runtime().create(&id, &spec).await.unwrap();
    let snapshot = SnapshotId::mint();
    let nobody = SandboxId::mint();
    let error = host.runtime().capture(&nobody, &snapshot, None, Haste::Guest).await.unwrap_err();
    assert!(matches!(error, RuntimeError::NotFound { .. }), "{error}");
    // The place is taken by something that cannot be replaced.
    let place = host.data.path().join("snapshots").join(snapshot.as_str());
    fs::create_dir_all(place.join("full")).unwrap();
    host.runtime().capture(&id, &snapshot, None, Haste::Guest).await.unwrap_err();
    let found = host.runtime().list().await.unwrap();
    assert_eq!(found, [Found { id, state: GuestState::Running }]);
    assert!(health(host.runtime(), &id, Service::Envd).await.contains("204"));
    let others = || fs::read_dir(place.parent().unwrap()).unwrap().count() - 1;
    eventually("no half snapshot is left", || others() == 0).await;
    fs::remove_dir_all(&place).unwrap();
    host.runtime().destroy(&id).await.unwrap();
    host.runtime().close();
    host.wait_until_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn layers_are_put_into_one_without_a_difference() {
    if !possible() {
        return;
    }
    for (kind, host, _storage) in hosts() {
        println!("on {kind}");
        let runtime = host.runtime();
        let spec = spec();
        let mut stack: Vec<SnapshotId> = Vec::new();
        for depth in 0..4 {
            let guest = SandboxId::mint();
            runtime.create(&guest, &on(&spec, &stack)).await.unwrap();
            fs::write(upper(&host, &guest).join("last"), depth.to_string()).unwrap();
            fs::write(upper(&host, &guest).join(format!("of-{depth}")), "x").unwrap();
            runtime.stop(&guest).await.unwrap();
            let snapshot = SnapshotId::mint();
            runtime.convert(&guest, &snapshot).await.unwrap();
            stack.insert(0, snapshot);
        }
        let top = stack[0];
        runtime.flatten(&top, &stack[1..]).await.unwrap();
        for below in &stack[1..] {
            runtime.remove_snapshot(below).await.unwrap();
        }
        let guest = SandboxId::mint();
        runtime.create(&guest, &on(&spec, &[top])).await.unwrap();
        assert_eq!(seen(&host, &guest, "/last").as_deref(), Some("3"));
        for depth in 0..4 {
            assert_eq!(seen(&host, &guest, &format!("/of-{depth}")).as_deref(), Some("x"));
        }
        runtime.destroy(&guest).await.unwrap();
        runtime.remove_snapshot(&top).await.unwrap();
        runtime.close();
        host.wait_until_clean().await;
    }
}
