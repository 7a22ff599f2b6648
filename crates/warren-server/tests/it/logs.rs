use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::app::TestApp;

fn text(entry: &Value) -> String {
    let data = STANDARD.decode(entry["data"].as_str().unwrap()).unwrap();
    String::from_utf8(data).unwrap()
}

/// Runs a command without waiting for it, and gives its id once its end is written down.
async fn detached(app: &TestApp, id: &str, command: &[&str]) -> String {
    let body = json!({ "command": command, "detach": true }).to_string();
    let started = app.post(&format!("/v1/sandboxes/{id}/exec"), &body).await.expect(202);
    let exec = started["exec_id"].as_str().unwrap().to_owned();
    let target = format!("/v1/sandboxes/{id}/logs?exec={exec}");
    let ended = async {
        loop {
            let page = app.get(&target).await.expect(200);
            let entries = page["entries"].as_array().unwrap();
            if entries.iter().any(|entry| text(entry).starts_with("ended")) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), ended).await.expect("an end");
    exec
}

#[tokio::test]
async fn what_detached_commands_write_is_kept_in_order() {
    let app = TestApp::start().await;
    let id = app.create().await;
    let first = detached(&app, &id, &["echo", "hello"]).await;
    let second = detached(&app, &id, &["fail", "3"]).await;
    let page = app.get(&format!("/v1/sandboxes/{id}/logs")).await.expect(200);
    let entries = page["entries"].as_array().unwrap();
    let told: Vec<_> = entries
        .iter()
        .map(|entry| {
            let exec = if entry["exec_id"] == first.as_str() { 1 } else { 2 };
            (exec, entry["source"].as_str().unwrap(), text(entry))
        })
        .collect();
    let expected = [
        (1, "system", "started"),
        (1, "stdout", "hello\n"),
        (1, "system", "ended with status 0"),
        (2, "system", "started"),
        (2, "stderr", "failed\n"),
        (2, "system", "ended with status 3"),
    ];
    assert_eq!(told, expected.map(|(exec, source, text)| (exec, source, text.to_owned())));

    let limited = app.get(&format!("/v1/sandboxes/{id}/logs?limit=2")).await.expect(200);
    let after = &limited["next_after"];
    assert_eq!(after, &entries[1]["seq"]);
    let target = format!("/v1/sandboxes/{id}/logs?after={after}&exec={second}");
    let rest = app.get(&target).await.expect(200);
    assert_eq!(rest["entries"].as_array().unwrap().len(), 3);
    assert!(rest.get("next_after").is_none());
}

#[tokio::test]
async fn a_followed_log_ends_with_its_sandbox_and_is_there_afterwards() {
    let app = TestApp::start().await;
    let id = app.create().await;
    detached(&app, &id, &["echo", "hello"]).await;
    let target = format!("/v1/sandboxes/{id}/logs?follow=true");
    let follow = app.get(&target);
    let stop = async {
        tokio::task::yield_now().await;
        app.post(&format!("/v1/sandboxes/{id}/stop"), "").await.expect(200);
    };
    let (followed, ()) = tokio::join!(follow, stop);
    let lines = followed.lines();
    let kinds: Vec<_> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["entry", "entry", "entry", "end"]);
    let page = app.get(&format!("/v1/sandboxes/{id}/logs")).await.expect(200);
    assert_eq!(page["entries"].as_array().unwrap().len(), 3);
    app.ask("DELETE", &format!("/v1/sandboxes/{id}"), "").await.expect(204);
    app.get(&format!("/v1/sandboxes/{id}/logs")).await.refused(404, "not_found");
}

#[tokio::test]
async fn a_log_is_asked_for_in_sense() {
    let app = TestApp::start().await;
    let id = app.create().await;
    for (query, what) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("after=x", "after"),
        ("exec=x", "exec"),
        ("follow=yes", "follow"),
        ("follow=true&limit=3", "limit"),
        ("folow=true", "folow"),
    ] {
        let answer = app.get(&format!("/v1/sandboxes/{id}/logs?{query}")).await;
        assert!(answer.refused(400, "invalid_argument").contains(what), "{query}");
    }
}
