//! Contents of files: up, down, in parts, compressed, together.

use std::fs;
use std::io::Write as _;

use serde_json::json;

use crate::client::{Agent, Answer};

const RAW: (&str, &str) = ("content-type", "application/octet-stream");

async fn put(agent: &Agent, path: &str, body: impl Into<hyper::body::Bytes>) -> Answer {
    agent.http("POST", &format!("/files?path={path}"), &[RAW], body).await
}

async fn get(agent: &Agent, path: &str, headers: &[(&str, &str)]) -> Answer {
    agent.http("GET", &format!("/files?path={path}"), headers, "").await
}

fn form(parts: &[(&str, Option<&str>, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, filename, content) in parts {
        write!(body, "--b\r\nContent-Disposition: form-data; name=\"{name}\"").unwrap();
        if let Some(filename) = filename {
            write!(body, "; filename=\"{filename}\"").unwrap();
        }
        body.extend_from_slice(b"\r\nContent-Type: application/octet-stream\r\n\r\n");
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--b--\r\n");
    body
}

const FORM: (&str, &str) = ("content-type", "multipart/form-data; boundary=b");

fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[tokio::test]
async fn what_goes_up_comes_down() {
    let agent = Agent::start().await;
    for length in [0, 1, 65_537, 3 << 20] {
        let (path, content) = (agent.path(&format!("new/dir/{length}")), noise(length));
        let answer = put(&agent, &path, content.clone()).await;
        assert_eq!(answer.status, 200);
        let expected = json!([{"name": length.to_string(), "path": path, "type": "file"}]);
        assert_eq!(answer.json(), expected, "exactly these keys");
        let answer = get(&agent, &path, &[]).await;
        assert_eq!((answer.status, answer.header("content-length")), (200, &*length.to_string()));
        assert!(answer.body == content);
        assert_eq!(answer.header("content-disposition"), format!("inline; filename={length}"));
    }
    put(&agent, &agent.path("over"), "a longer text").await;
    put(&agent, &agent.path("over"), "short").await;
    assert_eq!(fs::read_to_string(agent.path("over")).unwrap(), "short");
}

#[tokio::test]
async fn parts_of_a_file_are_sent_as_asked() {
    let agent = Agent::start().await;
    let (path, content) = (agent.path("f"), noise(1 << 20));
    fs::write(&path, &content).unwrap();
    for (range, expected) in [
        ("bytes=0-0", 0..1),
        ("bytes=1000-699999", 1000..700_000),
        ("bytes=1048000-", 1_048_000..1_048_576),
        ("bytes=-5", 1_048_571..1_048_576),
    ] {
        let answer = get(&agent, &path, &[("range", range)]).await;
        assert_eq!(answer.status, 206, "{range}");
        let said = format!("bytes {}-{}/1048576", expected.start, expected.end - 1);
        assert_eq!(answer.header("content-range"), said);
        assert!(answer.body == content[expected]);
    }
    let answer = get(&agent, &path, &[("range", "bytes=1048576-")]).await;
    assert_eq!((answer.status, answer.header("content-range")), (416, "bytes */1048576"));
    let head = agent.http("HEAD", &format!("/files?path={path}"), &[], "").await;
    assert_eq!((head.status, head.header("content-length")), (200, "1048576"));
    assert!(head.body.is_empty());
}

#[tokio::test]
async fn an_unchanged_file_is_not_sent_again() {
    let agent = Agent::start().await;
    let path = agent.path("f");
    fs::write(&path, "one").unwrap();
    let first = get(&agent, &path, &[]).await;
    let (tag, date) = (first.header("etag"), first.header("last-modified"));
    for header in [("if-none-match", tag), ("if-modified-since", date), ("if-none-match", "*")] {
        let answer = get(&agent, &path, &[header]).await;
        assert_eq!((answer.status, answer.body.len()), (304, 0), "{header:?}");
    }
    fs::write(&path, "other").unwrap();
    assert_eq!(get(&agent, &path, &[("if-none-match", tag)]).await.status, 200);
    let range = [("range", "bytes=0-1"), ("if-range", tag)];
    assert_eq!(get(&agent, &path, &range).await.status, 200, "the whole of a changed file");
}

#[tokio::test]
async fn forms_carry_files_with_whole_paths() {
    let agent = Agent::start().await;
    let (one, two) = (agent.path("dir/one"), agent.path("two"));
    let big = noise(1 << 20);
    let body = form(&[
        ("file", Some(&one), &big),
        ("other", Some("/no/such"), b"ignored"),
        ("file", Some(&two), b""),
    ]);
    let answer = agent.http("POST", "/files", &[FORM], body).await;
    let entry = |name: &str, path: &str| json!({"name": name, "path": path, "type": "file"});
    assert_eq!(answer.json(), json!([entry("one", &one), entry("two", &two)]));
    assert!(fs::read(&one).unwrap() == big);
    assert_eq!(fs::read(&two).unwrap(), b"");
    let path = agent.path("named");
    for filename in [Some("blob"), None] {
        let body = form(&[("file", filename, b"x")]);
        let answer = agent.http("POST", &format!("/files?path={path}"), &[FORM], body).await;
        assert_eq!(answer.json(), json!([entry("named", &path)]), "{filename:?}");
    }
    let none = agent.http("POST", "/files", &[FORM], form(&[])).await;
    assert_eq!((none.status, none.json()), (200, json!([])));
}

#[tokio::test]
async fn bad_uploads_are_refused_in_json() {
    let agent = Agent::start().await;
    let one = agent.path("one");
    let twice = form(&[("file", Some(&one), b"first"), ("file", Some(&one), b"second")]);
    let gzip = ("content-encoding", "gzip");
    let to = format!("/files?path={one}");
    let directory = format!("/files?path={}", agent.work().to_str().unwrap());
    let cases = [
        ("/files", vec![FORM], twice, 400),
        ("/files", vec![FORM], form(&[("file", None, b"x")]), 400),
        ("/files", vec![FORM], b"--b\r\n\r\n".to_vec(), 400),
        ("/files", vec![("content-type", "multipart/form-data")], vec![], 400),
        ("/files", vec![RAW], b"x".to_vec(), 400),
        (&*to, vec![("content-type", "text/plain")], b"x".to_vec(), 400),
        (&*to, vec![RAW, gzip], b"not gzip".to_vec(), 400),
        (&*to, vec![RAW, ("content-encoding", "br")], b"x".to_vec(), 415),
        (&*directory, vec![RAW], b"x".to_vec(), 400),
        ("/files?path=/x&username=no-such", vec![RAW], b"x".to_vec(), 401),
    ];
    for (path, headers, body, status) in cases {
        let answer = agent.http("POST", path, &headers, body).await;
        assert_eq!(answer.status, status, "{path} {headers:?}");
        assert_eq!(answer.json()["code"], status);
    }
    assert_eq!(agent.http("PUT", "/files", &[RAW], "x").await.status, 405);
}

#[tokio::test]
async fn what_cannot_be_read_says_so() {
    let agent = Agent::start().await;
    let missing = get(&agent, "/no/such", &[]).await;
    assert_eq!(missing.json(), json!({"code": 404, "message": "path '/no/such' does not exist"}));
    assert_eq!(missing.status, 404);
    assert_eq!(get(&agent, "/etc", &[]).await.status, 400);
    let unknown = get(&agent, "/etc/passwd&username=no-such", &[]).await;
    assert_eq!(unknown.json(), json!({"code": 401, "message": "invalid username: 'no-such'"}));
}

#[tokio::test]
async fn compressed_bodies_are_stored_plain() {
    let agent = Agent::start().await;
    let content = [noise(100_000), vec![b'a'; 5 << 20]].concat();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&content).unwrap();
    let path = agent.path("plain");
    let headers = [RAW, ("content-encoding", "gzip")];
    let body = encoder.finish().unwrap();
    let cut = body[..body.len() / 2].to_vec();
    let answer = agent.http("POST", &format!("/files?path={path}"), &headers, body).await;
    assert_eq!(answer.status, 200);
    assert!(fs::read(&path).unwrap() == content);
    let answer = agent.http("POST", &format!("/files?path={path}"), &headers, cut).await;
    assert_eq!(answer.status, 400, "half of it");
}

#[tokio::test]
async fn metadata_stays_with_the_file() {
    let agent = Agent::start().await;
    let path = agent.path("f");
    let to = format!("/files?path={path}");
    let headers = [RAW, ("x-metadata-Author", "me"), ("x-metadata-kind", "a b")];
    let answer = agent.http("POST", &to, &headers, "x").await;
    if answer.json()["code"] == 400 {
        return assert!(answer.json()["message"].as_str().unwrap().contains("metadata"));
    }
    let expected = json!({"author": "me", "kind": "a b"});
    assert_eq!(answer.json()[0]["metadata"], expected);
    let stat = json!({"path": path});
    let entry = agent.json("filesystem.Filesystem/Stat", &stat).await.unwrap();
    assert_eq!(entry["entry"]["metadata"], expected);
    put(&agent, &path, "again").await;
    let entry = agent.json("filesystem.Filesystem/Stat", &stat).await.unwrap();
    assert_eq!(entry["entry"].get("metadata"), None, "replaced by nothing");
    let long = "x".repeat(5000);
    let answer = agent.http("POST", &to, &[RAW, ("x-metadata-a", &long)], "x").await;
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn files_are_put_together() {
    let agent = Agent::start().await;
    for (name, content) in [("a", "one "), ("b", "two")] {
        fs::write(agent.path(name), content).unwrap();
    }
    let order = json!({"source_paths": [agent.path("a"), agent.path("b")], "destination": agent.path("x/c")});
    let answer = agent.http("POST", "/files/compose", &[], order.to_string()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json(), json!({"name": "c", "path": agent.path("x/c"), "type": "file"}));
    assert_eq!(fs::read_to_string(agent.path("x/c")).unwrap(), "one two");
    assert_eq!(agent.http("POST", "/files/compose", &[], "{}").await.status, 400);
}

#[tokio::test]
async fn large_files_do_not_become_memory() {
    let agent = Agent::start().await;
    let path = agent.path("large");
    fs::File::create(&path).unwrap().set_len(200 << 20).unwrap();
    let answer = get(&agent, &path, &[]).await;
    assert_eq!(answer.body.len(), 200 << 20);
    let answer = put(&agent, &path, answer.body).await;
    assert_eq!(answer.status, 200);
    assert_eq!(fs::metadata(&path).unwrap().len(), 200 << 20);
    assert!(agent.peak_memory_kib() < 40 << 10, "{} KiB", agent.peak_memory_kib());
}
