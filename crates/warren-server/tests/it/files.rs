use axum::body::Body;
use futures::StreamExt;
use hyper::Request;
use serde_json::json;

use crate::app::TestApp;

#[tokio::test]
async fn what_is_written_is_read_back() {
    let app = TestApp::start().await;
    let id = app.create().await;
    let files = format!("/v1/sandboxes/{id}/files?path=/home/user/a%20b");
    let written = app.ask("PUT", &files, "some bytes").await.expect(200);
    assert_eq!(written, json!({"path": "/home/user/a b", "size": 10}));
    let read = app.get(&files).await;
    assert_eq!(read.status, 200);
    assert_eq!(&read.body[..], b"some bytes");
    assert_eq!(read.headers["content-length"], "10");
    assert_eq!(read.headers["content-type"], "application/octet-stream");
}

#[tokio::test]
async fn a_part_of_a_file_is_read() {
    let app = TestApp::start().await;
    let id = app.create().await;
    let files = format!("/v1/sandboxes/{id}/files?path=/f");
    app.ask("PUT", &files, "0123456789").await.expect(200);
    let request = Request::get(&files).header("range", "bytes=2-4").body(Body::empty()).unwrap();
    let part = app.send(request).await;
    assert_eq!((part.status, &part.body[..]), (206, &b"234"[..]));
    assert_eq!(part.headers["content-range"], "bytes 2-4/10");
}

#[tokio::test]
async fn a_large_file_streams_through_in_both_directions() {
    let app = TestApp::start().await;
    let id = app.create().await;
    let files = format!("/v1/sandboxes/{id}/files?path=/large");
    let piece = bytes::Bytes::from(vec![7; 1 << 20]);
    let pieces = futures::stream::iter(vec![piece; 20]).map(Ok::<_, std::io::Error>);
    let request = Request::put(&files).body(Body::from_stream(pieces)).unwrap();
    assert_eq!(app.send(request).await.expect(200)["size"], 20 << 20);
    assert_eq!(app.get(&files).await.body.len(), 20 << 20);
}

#[tokio::test]
async fn a_file_that_is_not_there_is_not_found() {
    let app = TestApp::start().await;
    let id = app.create().await;
    let read = app.get(&format!("/v1/sandboxes/{id}/files?path=/none")).await;
    assert_eq!(read.refused(404, "not_found"), "path '/none' does not exist");
    let stat = app.get(&format!("/v1/sandboxes/{id}/files/stat?path=/none")).await;
    stat.refused(404, "not_found");
}

#[tokio::test]
async fn paths_are_shown_listed_made_moved_and_removed() {
    let app = TestApp::start().await;
    let id = app.create().await;
    let files = format!("/v1/sandboxes/{id}/files");
    app.ask("PUT", &format!("{files}?path=/d/a"), "abc").await.expect(200);
    let shown = app.get(&format!("{files}/stat?path=/d/a")).await.expect(200);
    assert_eq!(
        shown,
        json!({"name": "a", "path": "/d/a", "kind": "file", "size": 3, "mode": "0644",
            "owner": "user", "group": "user"})
    );
    let made = app.post(&format!("{files}/mkdir?path=/d/e"), "").await.expect(200);
    assert_eq!(made["kind"], "directory");
    app.post(&format!("{files}/mkdir?path=/d/e"), "").await.refused(409, "already_exists");
    let moved = app.post(&format!("{files}/move"), r#"{"from":"/d/a","to":"/d/b"}"#).await;
    assert_eq!(moved.expect(200)["path"], "/d/b");
    let listed = app.get(&format!("{files}/list?path=/d&depth=2")).await.expect(200);
    assert_eq!(listed["entries"].as_array().unwrap().len(), 1);
    assert_eq!(listed["entries"][0]["name"], "b");
    app.ask("DELETE", &format!("{files}?path=/d/b"), "").await.expect(204);
    app.get(&format!("{files}?path=/d/b")).await.refused(404, "not_found");
}

#[tokio::test]
async fn archives_stream_through_in_both_directions() {
    let app = TestApp::start().await;
    let id = app.create().await;
    let archive = format!("/v1/sandboxes/{id}/files/archive?path=/tree");
    let piece = bytes::Bytes::from(vec![0; 1 << 20]);
    let pieces = futures::stream::iter(vec![piece; 20]).map(Ok::<_, std::io::Error>);
    let request = Request::put(&archive).body(Body::from_stream(pieces)).unwrap();
    let done = app.send(request).await.expect(200);
    let expected = json!({"path": "/tree", "entries": 1, "bytes": 20 << 20, "skipped": 0});
    assert_eq!(done, expected);
    let read = app.get(&archive).await;
    assert_eq!((read.status, read.body.len()), (200, 20 << 20));
    assert_eq!(read.headers["content-type"], "application/x-tar");
    let refused = app.ask("PUT", &archive, "no archive").await.refused(400, "invalid_argument");
    assert_eq!(refused, "the archive is broken");
    app.get(&archive.replace("tree", "none")).await.refused(404, "not_found");
}

#[tokio::test]
async fn paths_are_found_and_modes_changed() {
    let app = TestApp::start().await;
    let id = app.create().await;
    let files = format!("/v1/sandboxes/{id}/files");
    for name in ["b.rs", "a.rs", "c.txt"] {
        app.ask("PUT", &format!("{files}?path=/w/{name}"), "").await.expect(200);
    }
    let found = app.get(&format!("{files}/glob?path=/w&pattern=*.rs")).await.expect(200);
    assert_eq!(found, json!({"paths": ["/w/a.rs", "/w/b.rs"], "truncated": false}));
    let chmod = format!("{files}/chmod");
    let changed = app.post(&chmod, r#"{"path": "/w/a.rs", "mode": "0644"}"#).await.expect(200);
    assert_eq!((&changed["path"], &changed["mode"]), (&json!("/w/a.rs"), &json!("0644")));
    app.post(&chmod, r#"{"path": "/none", "mode": "0644"}"#).await.refused(404, "not_found");
    for bad in [r#"{"path": "/a"}"#, r#"{"path": "/a", "mode": "rw"}"#, r#"{"mode": "0644"}"#] {
        app.post(&chmod, bad).await.refused(400, "invalid_argument");
    }
    app.get(&format!("{files}/glob?path=/w")).await.refused(400, "invalid_argument");
}

#[tokio::test]
async fn a_watch_tells_what_happens_until_the_sandbox_ends() {
    let app = TestApp::start().await;
    let id = app.create().await;
    let files = format!("/v1/sandboxes/{id}/files");
    app.post(&format!("{files}/mkdir?path=/w"), "").await.expect(200);
    let watch = Request::get(format!("{files}/watch?path=/w&recursive=true"));
    let answer = app.open(watch.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
    let mut lines = answer.into_body().into_data_stream();
    let mut next = async || -> serde_json::Value {
        serde_json::from_slice(&lines.next().await.unwrap().unwrap()).unwrap()
    };
    assert_eq!(next().await, json!({"type": "start", "path": "/w"}));
    app.ask("PUT", &format!("{files}?path=/w/f"), "x").await.expect(200);
    assert_eq!(next().await, json!({"type": "write", "path": "/w/f"}));
    app.ask("DELETE", &format!("/v1/sandboxes/{id}"), "").await;
    assert_eq!(next().await["type"], "error");
    let bad = app.get(&format!("{files}/watch?path=/w&recursive=perhaps")).await;
    bad.refused(400, "invalid_argument");
}
