use std::{
    fs::File,
    os::fd::AsFd as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use warren_core::{
    id::SandboxId,
    runtime::{Found, GuestState, Port, Runtime, RuntimeError, Service},
    spec::{Image, Limits, Network, OciImage, Profile, Spec},
};

use crate::harness::{Host, eventually, health, limits, possible, spec};

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

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_is_made_without_any_blank_and_without_network() {
    if !possible() {
        return;
    }
    let host = Host::open(0);
    let id = SandboxId::mint();
    let wanted = Spec { network: Network::None, profile: Profile::Strict, ..spec() };
    host.runtime().create(&id, &wanted).await.unwrap();
    assert_eq!(health(host.runtime(), &id, Service::Envd).await, "HTTP/1.1 204 No Content");
}

#[tokio::test(flavor = "multi_thread")]
async fn create_and_destroy_leave_nothing_behind() {
    if !possible() {
        return;
    }
    let host = Host::open(0);
    for _ in 0..20 {
        let id = SandboxId::mint();
        host.runtime().create(&id, &spec()).await.unwrap();
        assert!(!host.traces().is_empty());
        host.runtime().destroy(&id).await.unwrap();
    }
    host.wait_until_clean().await;
    // What it had to remove are the slots whose interface was still there.
    assert_eq!(host.runtime().network().unwrap().reconcile(&[]).unwrap(), Vec::<u32>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_that_fails_leaves_nothing_behind() {
    if !possible() {
        return;
    }
    let host = Host::open(0);
    let id = SandboxId::mint();
    let images = [
        Image::Directory("/nowhere".into()),
        Image::Archive("/nowhere.tar".into()),
        Image::Oci(OciImage { reference: "python:3.12".into(), id: None }),
    ];
    for image in images {
        let error = host.runtime().create(&id, &Spec { image, ..spec() }).await.unwrap_err();
        assert!(matches!(error, RuntimeError::Image { .. }), "{error}");
    }
    // Fails late: with the guest forked, its limits cannot be set.
    let limits = Limits { pids: u32::MAX, memory_bytes: 1, ..limits() };
    assert!(host.runtime().create(&id, &Spec { limits, ..spec() }).await.is_err());
    host.wait_until_clean().await;
    assert!(host.runtime().list().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_can_come_from_a_directory() {
    if !possible() {
        return;
    }
    let host = Host::open(0);
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("usr/bin")).unwrap();
    std::fs::write(root.path().join("marker"), "from the image").unwrap();
    let id = SandboxId::mint();
    let image = Image::Directory(root.path().to_owned());
    host.runtime().create(&id, &Spec { image, ..spec() }).await.unwrap();
    assert_eq!(health(host.runtime(), &id, Service::Control).await, "HTTP/1.1 204 No Content");
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 2, "the image is not written to");
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_can_be_handed_over_by_path() {
    if !possible() {
        return;
    }
    let host = Host::open_in(tempfile::tempdir().unwrap(), 0, true);
    let id = SandboxId::mint();
    host.runtime().create(&id, &spec()).await.unwrap();
    assert_eq!(health(host.runtime(), &id, Service::Control).await, "HTTP/1.1 204 No Content");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_guest_stands_still_and_can_be_destroyed() {
    if !possible() {
        return;
    }
    let host = Host::open(0);
    if !host.runtime().capabilities().pause {
        println!("SKIPPED: no cgroup is writable, so there is no pause");
        return;
    }
    let id = SandboxId::mint();
    host.runtime().create(&id, &spec()).await.unwrap();
    host.runtime().pause(&id).await.unwrap();
    let found = host.runtime().list().await.unwrap();
    assert_eq!(found, [Found { id, state: GuestState::Paused }]);
    let cpu = host.runtime().usage(&id).await.unwrap().cpu;
    assert_eq!(host.runtime().usage(&id).await.unwrap().cpu, cpu);
    host.runtime().resume(&id).await.unwrap();
    assert_eq!(health(host.runtime(), &id, Service::Envd).await, "HTTP/1.1 204 No Content");
    host.runtime().pause(&id).await.unwrap();
    host.runtime().destroy(&id).await.unwrap();
    host.wait_until_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_guest_gives_memory_back_and_goes_on() {
    const FILE: usize = 32 << 20;
    if !possible() {
        return;
    }
    let host = Host::open(0);
    let room = host.runtime().memory_room().await.unwrap();
    assert!(room.free_bytes > 0 && room.free_bytes <= room.total_bytes, "{room:?}");
    if !host.runtime().capabilities().pause {
        println!("SKIPPED: no cgroup is writable, so there is no pause");
        return;
    }
    let id = SandboxId::mint();
    host.runtime().create(&id, &spec()).await.unwrap();
    let mut stream = host.runtime().connect(&id, Service::Envd).await.unwrap();
    let head = format!(
        "POST /files?path=/large&username=root HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\
         content-type: application/octet-stream\r\ncontent-length: {FILE}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b'x'; FILE]).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // What is on the disk can be read again.
    File::open(host.entry(&id).join("disk/upper/large")).unwrap().sync_all().unwrap();
    assert_eq!(host.runtime().reclaim(&id).await.unwrap(), 0, "one that runs keeps what it has");
    host.runtime().pause(&id).await.unwrap();
    let before = host.runtime().usage(&id).await.unwrap().memory_bytes;
    assert!(before > FILE as u64, "{before}");
    let given = host.runtime().reclaim(&id).await.unwrap();
    let after = host.runtime().usage(&id).await.unwrap().memory_bytes;
    println!("of {before} bytes {given} were given back");
    assert!(
        given > FILE as u64 / 2 && after < before - FILE as u64 / 2,
        "{before} {given} {after}"
    );
    host.runtime().resume(&id).await.unwrap();
    assert_eq!(health(host.runtime(), &id, Service::Envd).await, "HTTP/1.1 204 No Content");
    let large = std::fs::read(host.entry(&id).join("disk/upper/large")).unwrap();
    assert!(large.len() == FILE && large.iter().all(|byte| *byte == b'x'));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_guest_starts_again_with_its_files() {
    if !possible() {
        return;
    }
    let mut host = Host::open(1);
    let (id, spec) = (SandboxId::mint(), spec());
    host.runtime().create(&id, &spec).await.unwrap();
    let upper = |host: &Host| host.entry(&id).join("disk/upper");
    std::fs::write(upper(&host).join("kept"), "words").unwrap();
    host.runtime().pause(&id).await.unwrap();
    host.runtime().stop(&id).await.unwrap();
    host.runtime().stop(&id).await.unwrap();
    let stopped = [Found { id, state: GuestState::Stopped }];
    assert_eq!(host.runtime().list().await.unwrap(), stopped);
    eventually("only files are left", || !host.entry(&id).exists()).await;

    host.crash();
    host.start(1);
    assert_eq!(host.runtime().list().await.unwrap(), stopped);
    host.runtime().start(&id, &spec).await.unwrap();
    assert!(health(host.runtime(), &id, Service::Envd).await.contains("204"));
    assert_eq!(std::fs::read_to_string(upper(&host).join("kept")).unwrap(), "words");
    let state = GuestState::Running;
    assert_eq!(host.runtime().list().await.unwrap(), [Found { id, state }]);

    host.runtime().stop(&id).await.unwrap();
    host.runtime().destroy(&id).await.unwrap();
    assert!(host.runtime().list().await.unwrap().is_empty());
    let error = host.runtime().start(&id, &spec).await.unwrap_err();
    assert!(matches!(error, RuntimeError::NotFound { .. }), "{error}");
    host.runtime().close();
    host.wait_until_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_fails_leaves_the_files() {
    if !possible() {
        return;
    }
    let host = Host::open(0);
    let (id, spec) = (SandboxId::mint(), spec());
    host.runtime().create(&id, &spec).await.unwrap();
    std::fs::write(host.entry(&id).join("disk/upper/kept"), "words").unwrap();
    host.runtime().stop(&id).await.unwrap();
    let missing = Image::Directory("/nowhere".into());
    host.runtime().start(&id, &Spec { image: missing, ..spec.clone() }).await.unwrap_err();
    // A place that the guest's mounts cannot have: what was a directory is a file.
    let shelf = host.data.path().join("stopped").join(id.as_str());
    std::fs::write(shelf.join("disk/upper/proc"), "").unwrap();
    host.runtime().start(&id, &spec).await.unwrap_err();
    assert_eq!(host.runtime().list().await.unwrap(), [Found { id, state: GuestState::Stopped }]);
    std::fs::remove_file(shelf.join("disk/upper/proc")).unwrap();
    host.runtime().start(&id, &spec).await.unwrap();
    assert!(health(host.runtime(), &id, Service::Envd).await.contains("204"));
    assert!(host.entry(&id).join("disk/upper/kept").exists());
    host.runtime().destroy(&id).await.unwrap();
    host.runtime().close();
    host.wait_until_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_listened_on_from_outside_is_one_of_the_guest() {
    if !possible() {
        return;
    }
    let host = Host::open(0);
    let id = SandboxId::mint();
    host.runtime().create(&id, &spec()).await.unwrap();
    if !host.runtime().capabilities().dial {
        println!("SKIPPED: ports cannot be dialled here");
        return;
    }
    host.runtime().dial(&id, 5432).await.err().expect("nothing listens yet");
    let mut listener = host.runtime().listen(&id, 5432).await.unwrap();
    assert!(host.runtime().listen(&id, 5432).await.is_err(), "the port is taken");
    let ports = host.runtime().ports(&id).await.unwrap();
    assert_eq!(ports, [Port { number: 5432, loopback: true }]);
    let mut inside = host.runtime().dial(&id, 5432).await.unwrap();
    let mut outside = listener.accept().await.unwrap();
    inside.write_all(b"there").await.unwrap();
    let mut text = [0; 5];
    outside.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"there");
    drop(listener);
    assert!(host.runtime().ports(&id).await.unwrap().is_empty());
    // A connection that is still held does not keep the guest's network.
    host.runtime().destroy(&id).await.unwrap();
    drop((inside, outside));
    host.wait_until_clean().await;
}

/// Connections that a guest does not take wait, and nothing else does: no thread is held by them.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_takes_no_connections_holds_nobody_up() {
    if !possible() {
        return;
    }
    let host = Host::open(0);
    let id = SandboxId::mint();
    host.runtime().create(&id, &spec()).await.unwrap();
    if !host.runtime().capabilities().dial {
        println!("SKIPPED: ports cannot be dialled here");
        return;
    }
    let network = File::open(format!("/proc/{}/ns/net", host.process(&id))).unwrap();
    let listener = std::thread::spawn(move || {
        warren_sys::netns::enter(network.as_fd()).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:5432").unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        listener
    });
    let listener = listener.join().unwrap();
    let (mut dialling, ended) = (tokio::task::JoinSet::new(), Arc::new(AtomicUsize::new(0)));
    // More than there are threads for work that blocks.
    for _ in 0..700 {
        let (runtime, ended) = (Arc::clone(host.runtime()), Arc::clone(&ended));
        dialling.spawn(async move {
            let stream = runtime.dial(&id, 5432).await.ok();
            ended.fetch_add(1, Ordering::Relaxed);
            stream
        });
    }
    // The first are through; all others wait.
    let first = dialling.join_next().await.unwrap().unwrap();
    assert!(first.is_some());
    host.runtime().pause(&id).await.unwrap();
    host.runtime().resume(&id).await.unwrap();
    let ended = ended.load(Ordering::Relaxed);
    assert!(ended < 100, "{ended} have ended meanwhile");
    dialling.shutdown().await;
    drop(listener);
    host.runtime().destroy(&id).await.unwrap();
    host.wait_until_clean().await;
}
