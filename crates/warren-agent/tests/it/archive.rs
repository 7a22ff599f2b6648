//! Trees in and out, patterns, modes.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use serde_json::json;
use tar::{EntryType, Header};

use crate::client::{Agent, Answer};

/// An archive with one entry of each of these, and its end.
fn archive(entries: &[(EntryType, &str, &str, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (kind, name, link, content) in entries {
        let mut header = Header::new_gnu();
        let old = header.as_old_mut();
        for (text, field) in [(name, &mut old.name), (link, &mut old.linkname)] {
            field.iter_mut().zip(text.as_bytes()).for_each(|(to, from)| *to = *from);
        }
        header.set_entry_type(*kind);
        header.set_mode(0o4755);
        header.set_mtime(1_000_000_000);
        header.set_size(content.len() as u64);
        header.set_cksum();
        archive.extend_from_slice(header.as_bytes());
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

async fn import(agent: &Agent, path: &str, body: impl Into<hyper::body::Bytes>) -> Answer {
    agent.http("PUT", &format!("/archive?path={path}"), &[], body).await
}

#[tokio::test]
async fn a_tree_goes_out_and_comes_in_elsewhere() {
    let agent = Agent::start().await;
    fs::create_dir_all(agent.path("from/deep")).unwrap();
    for number in 0..300 {
        fs::write(agent.path(&format!("from/deep/ö\n{number}")), vec![7; number * 100]).unwrap();
    }
    symlink("deep", agent.path("from/link")).unwrap();
    fs::set_permissions(agent.path("from/deep/ö\n1"), fs::Permissions::from_mode(0o751)).unwrap();
    let path = format!("/archive?path={}", agent.path("from"));
    let packed = agent.http("GET", &path, &[], "").await;
    assert_eq!((packed.status, packed.header("content-type")), (200, "application/x-tar"));
    let done = import(&agent, &agent.path("new/to"), packed.body).await;
    let expected = json!({"path": agent.path("new/to"), "entries": 303, "bytes": 4_485_000,
        "skipped": 0});
    assert_eq!((done.status, done.json()), (200, expected));
    assert_eq!(fs::read(agent.path("new/to/deep/ö\n299")).unwrap(), vec![7; 29_900]);
    let mode = fs::metadata(agent.path("new/to/link/ö\n1")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o751);
}

#[tokio::test]
async fn one_file_goes_out_under_its_name() {
    let agent = Agent::start().await;
    fs::write(agent.path("f"), "content").unwrap();
    let packed = agent.http("GET", &format!("/archive?path={}", agent.path("f")), &[], "").await;
    assert_eq!(import(&agent, &agent.path("to"), packed.body).await.json()["entries"], 1);
    assert_eq!(fs::read_to_string(agent.path("to/f")).unwrap(), "content");
}

#[tokio::test]
async fn hostile_archives_are_refused_and_leave_nothing() {
    let agent = Agent::start().await;
    fs::create_dir(agent.path("out")).unwrap();
    let out = agent.path("out");
    let file = |name| (EntryType::Regular, name, "", &b"x"[..]);
    let link = |name, target| (EntryType::Symlink, name, target, &b""[..]);
    let hard = |name, target| (EntryType::Link, name, target, &b""[..]);
    for (entries, words) in [
        (vec![file("../out/f")], "`..`"),
        (vec![file("/tmp/hostile")], "absolute"),
        (vec![link("l", "../out"), file("l/f")], "leads out"),
        (vec![link("l", &out), file("l/f")], "leads out"),
        (vec![link("l", "/proc/self/root"), file("l/f")], "leads out"),
        (vec![hard("h", "/etc/passwd")], "absolute"),
        (vec![hard("h", "../out")], "`..`"),
        (vec![(EntryType::GNULongName, "l", "", &[b'x'; 5000])], "a name or a header"),
        (vec![(EntryType::GNUSparse, "s", "", b"")], "sparse"),
    ] {
        let answer = import(&agent, &agent.path("to"), archive(&entries)).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(answer.json()["message"].as_str().unwrap().contains(words), "{answer:?}");
        assert!(!fs::exists(agent.path("to")).unwrap(), "what was made for it goes with it");
        assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
    }
    for broken in [&b""[..], b"no archive", &[1; 4096], &[0x1f, 0x8b, 8, 0]] {
        let answer = import(&agent, &agent.path("to"), broken.to_vec()).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.starts_with("the archive is broken"), "{message}");
    }
    let cut = archive(&[file("a"), file("b")])[..1536].to_vec();
    fs::create_dir(agent.path("there")).unwrap();
    assert_eq!(import(&agent, &agent.path("there"), cut).await.status, 400);
    let names: Vec<_> = fs::read_dir(agent.path("there")).unwrap().map(|it| it.unwrap()).collect();
    assert_eq!(names.len(), 1, "whole files only: {names:?}");
}

#[tokio::test]
async fn devices_are_counted_and_set_user_id_is_dropped() {
    let agent = Agent::start().await;
    let device = |kind| (kind, "d", "", &b""[..]);
    let body = archive(&[
        device(EntryType::Char),
        device(EntryType::Fifo),
        (EntryType::Regular, "f", "", b"x"),
    ]);
    let done = import(&agent, &agent.path("to"), body).await;
    assert_eq!((&done.json()["entries"], &done.json()["skipped"]), (&json!(1), &json!(2)));
    let file = fs::metadata(agent.path("to/f")).unwrap();
    assert_eq!((file.mode() & 0o7777, file.mtime()), (0o755, 1_000_000_000));
}

#[tokio::test]
async fn what_is_no_tree_says_so() {
    let agent = Agent::start().await;
    fs::write(agent.path("f"), "").unwrap();
    let get = async |path: &str| agent.http("GET", &format!("/archive?path={path}"), &[], "").await;
    assert_eq!(get("/no/such").await.status, 404);
    assert_eq!(get("/dev/null").await.status, 400);
    assert_eq!(get("/proc/self").await.status, 403);
    assert_eq!(get("/proc/self/mem").await.status, 403);
    assert_eq!(get("/etc&username=no-such").await.status, 401);
    let empty = archive(&[]);
    assert_eq!(import(&agent, &agent.path("f"), empty.clone()).await.status, 400);
    assert_eq!(import(&agent, "/proc/self", empty.clone()).await.status, 403);
    assert_eq!(import(&agent, &agent.path("d"), empty.clone()).await.status, 200);
    let path = format!("/archive?path={}", agent.path("d"));
    let odd = agent.http("PUT", &path, &[("content-encoding", "br")], empty).await;
    assert_eq!(odd.status, 415);
    assert_eq!(agent.http("POST", &path, &[], "").await.status, 405);
}

#[tokio::test]
async fn large_archives_do_not_become_memory() {
    let agent = Agent::start().await;
    fs::create_dir(agent.path("from")).unwrap();
    fs::File::create(agent.path("from/large")).unwrap().set_len(100 << 20).unwrap();
    let path = format!("/archive?path={}", agent.path("from"));
    let packed = agent.http("GET", &path, &[], "").await;
    assert!(packed.body.len() > 100 << 20);
    assert_eq!(import(&agent, &agent.path("to"), packed.body).await.status, 200);
    assert_eq!(fs::metadata(agent.path("to/large")).unwrap().len(), 100 << 20);
    assert!(agent.peak_memory_kib() < 40 << 10, "{} KiB", agent.peak_memory_kib());
}

#[tokio::test]
async fn paths_are_found_by_a_pattern() {
    let agent = Agent::start().await;
    fs::create_dir_all(agent.path("src/deep")).unwrap();
    for name in ["a.rs", "src/b.rs", "src/deep/c.rs", "src/d.txt"] {
        fs::write(agent.path(name), "").unwrap();
    }
    let glob = async |pattern: &str| {
        let path = format!("/glob?path={}&pattern={pattern}", agent.path(""));
        agent.http("GET", &path, &[], "").await
    };
    let found = glob("**/*.rs").await.json();
    let paths = ["a.rs", "src/b.rs", "src/deep/c.rs"].map(|it| agent.path(it));
    assert_eq!(found, json!({"paths": paths, "truncated": false}));
    assert_eq!(glob("%5Ba").await.status, 400);
    assert_eq!(agent.http("GET", "/glob?path=/no/such&pattern=*", &[], "").await.status, 404);
    fs::create_dir(agent.path("many")).unwrap();
    for number in 0..10_001 {
        fs::File::create(agent.path(&format!("many/{number}"))).unwrap();
    }
    let found = glob("many/*").await.json();
    assert_eq!(found["truncated"], true);
    assert_eq!(found["paths"].as_array().unwrap().len(), 10_000);
}

#[tokio::test]
async fn modes_are_changed() {
    let agent = Agent::start().await;
    fs::write(agent.path("f"), "").unwrap();
    symlink("f", agent.path("link")).unwrap();
    let chmod = async |path: &str, mode: &str| {
        let body = json!({"path": path, "mode": mode}).to_string();
        agent.http("POST", "/chmod", &[], body).await.status
    };
    assert_eq!(chmod(&agent.path("link"), "0640").await, 204);
    assert_eq!(fs::metadata(agent.path("f")).unwrap().mode() & 0o7777, 0o640);
    assert_eq!(chmod(&agent.path("none"), "0640").await, 404);
    assert_eq!(chmod("/proc/self/exe", "0777").await, 400);
    assert_eq!(chmod(&agent.path("f"), "rw").await, 400);
    assert_eq!(agent.http("POST", "/chmod", &[], "x").await.status, 400);
}

#[tokio::test]
async fn a_refusal_reaches_whoever_is_still_sending() {
    let agent = Agent::start().await;
    let body = vec![b'x'; 32 << 20];
    for _ in 0..5 {
        let answer = import(&agent, &agent.path("to"), body.clone()).await;
        assert_eq!(answer.status, 400, "{:?}", answer.headers);
    }
}
