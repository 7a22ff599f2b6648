//! What is told of what happens in a directory.

use std::fs;

use serde_json::{Value, json};
use warren_proto::filesystem::watch_dir_response::Event;
use warren_proto::filesystem::{EventType, WatchDirRequest, WatchDirResponse};
use warren_proto::{Code, Codec};

use crate::client::{Agent, Stream};

async fn create(agent: &Agent, more: &Value) -> String {
    let mut request = json!({"path": agent.work()});
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let made = agent.json("filesystem.Filesystem/CreateWatcher", &request).await.unwrap();
    made["watcherId"].as_str().unwrap().to_owned()
}

async fn drain(agent: &Agent, id: &str) -> Vec<Value> {
    let request = json!({"watcherId": id});
    let answer = agent.json("filesystem.Filesystem/GetWatcherEvents", &request).await.unwrap();
    answer.get("events").map(|it| it.as_array().unwrap().clone()).unwrap_or_default()
}

async fn upload(agent: &Agent, name: &str, content: &'static str) {
    let headers = [("content-type", "application/octet-stream")];
    let path = format!("/files?path={}", agent.path(name));
    assert_eq!(agent.http("POST", &path, &headers, content).await.status, 200);
}

fn names(events: &[Value]) -> Vec<(&str, &str)> {
    let kind = |it: &'_ Value| it["type"].as_str().unwrap().to_owned();
    events.iter().map(|it| (it["name"].as_str().unwrap(), short(&kind(it)))).collect()
}

fn short(kind: &str) -> &'static str {
    match kind {
        "EVENT_TYPE_CREATE" => "create",
        "EVENT_TYPE_WRITE" => "write",
        "EVENT_TYPE_REMOVE" => "remove",
        "EVENT_TYPE_RENAME" => "rename",
        "EVENT_TYPE_CHMOD" => "chmod",
        _ => "?",
    }
}

#[tokio::test]
async fn an_upload_of_a_new_file_is_exactly_three_events_at_once() {
    let agent = Agent::start().await;
    let id = create(&agent, &json!({})).await;
    for name in ["f", "g"] {
        upload(&agent, name, "content").await;
        let events = drain(&agent, &id).await;
        assert_eq!(names(&events), [(name, "create"), (name, "chmod"), (name, "write")]);
        assert_eq!(events[0].get("entry"), None);
    }
    assert_eq!(drain(&agent, &id).await, Vec::<Value>::new());
}

#[tokio::test]
async fn moves_and_removals_are_told_by_name() {
    let agent = Agent::start().await;
    fs::write(agent.path("a"), "").unwrap();
    let id = create(&agent, &json!({})).await;
    fs::rename(agent.path("a"), agent.path("b")).unwrap();
    fs::remove_file(agent.path("b")).unwrap();
    let events = drain(&agent, &id).await;
    assert_eq!(names(&events), [("a", "rename"), ("b", "create"), ("b", "remove")]);
}

#[tokio::test]
async fn a_recursive_watch_follows_new_directories() {
    let agent = Agent::start().await;
    fs::create_dir(agent.path("old")).unwrap();
    let flat = create(&agent, &json!({})).await;
    let deep = create(&agent, &json!({"recursive": true})).await;
    upload(&agent, "old/f", "x").await;
    upload(&agent, "new/sub/g", "x").await;
    assert_eq!(names(&drain(&agent, &flat).await), [("new", "create")]);
    let events = drain(&agent, &deep).await;
    let names = names(&events);
    assert_eq!(names[..3], [("old/f", "create"), ("old/f", "chmod"), ("old/f", "write")]);
    for expected in ["new", "new/sub", "new/sub/g"] {
        let count = names.iter().filter(|it| **it == (expected, "create")).count();
        assert_eq!(count, 1, "{expected}: {names:?}");
    }
    upload(&agent, "new/sub/h", "x").await;
    let events = drain(&agent, &deep).await;
    assert_eq!(events.iter().filter(|it| it["name"] == "new/sub/h").count(), 3);
}

#[tokio::test]
async fn entries_come_along_when_asked_for() {
    let agent = Agent::start().await;
    let id = create(&agent, &json!({"includeEntry": true})).await;
    upload(&agent, "f", "12345").await;
    fs::write(agent.path("gone"), "").unwrap();
    fs::remove_file(agent.path("gone")).unwrap();
    let events = drain(&agent, &id).await;
    let last = events.iter().rfind(|it| it["name"] == "f").unwrap();
    assert_eq!(
        (&last["entry"]["size"], &last["entry"]["type"]),
        (&json!("5"), &json!("FILE_TYPE_FILE"))
    );
    let gone = events.iter().rfind(|it| it["name"] == "gone").unwrap();
    assert_eq!(gone.get("entry"), None);
}

#[tokio::test]
async fn a_watcher_ends_when_it_is_removed() {
    let agent = Agent::start().await;
    let id = create(&agent, &json!({})).await;
    let request = json!({"watcherId": id});
    assert_eq!(agent.json("filesystem.Filesystem/RemoveWatcher", &request).await, Ok(json!({})));
    for method in ["RemoveWatcher", "GetWatcherEvents"] {
        let status = agent.json(&format!("filesystem.Filesystem/{method}"), &request).await;
        assert_eq!(status.unwrap_err().code, Code::NotFound, "{method}");
    }
    for _ in 0..3 {
        let mut ids = Vec::new();
        for _ in 0..40 {
            ids.push(create(&agent, &json!({})).await);
        }
        for id in ids {
            let request = json!({"watcherId": id});
            agent.json("filesystem.Filesystem/RemoveWatcher", &request).await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_cannot_be_watched_says_why() {
    let agent = Agent::start().await;
    fs::write(agent.path("f"), "").unwrap();
    for (path, code) in
        [(agent.path("f"), Code::InvalidArgument), (agent.path("none"), Code::NotFound)]
    {
        let request = json!({"path": path});
        let status = agent.json("filesystem.Filesystem/CreateWatcher", &request).await;
        assert_eq!(status.unwrap_err().code, code, "{path}");
        let request = WatchDirRequest { path, ..WatchDirRequest::default() };
        let mut stream: Stream<WatchDirResponse> =
            agent.stream(Codec::Json, "filesystem.Filesystem/WatchDir", &[], &request).await;
        assert_eq!(stream.next().await.unwrap_err().code, code);
    }
}

#[tokio::test]
async fn a_stream_starts_tells_lives_and_ends_in_time() {
    let agent = Agent::start().await;
    let path = agent.work().to_str().unwrap().to_owned();
    let request = WatchDirRequest { path, ..WatchDirRequest::default() };
    let headers = [("keepalive-ping-interval", "1"), ("connect-timeout-ms", "2500")];
    let mut stream: Stream<WatchDirResponse> =
        agent.stream(Codec::Json, "filesystem.Filesystem/WatchDir", &headers, &request).await;
    let mut next = async || stream.next().await.map(|it| it.and_then(|it| it.event));
    assert!(matches!(next().await, Ok(Some(Event::Start(_)))));
    upload(&agent, "f", "x").await;
    for kind in [EventType::Create, EventType::Chmod, EventType::Write] {
        match next().await {
            Ok(Some(Event::Filesystem(event))) => {
                assert_eq!((event.name.as_str(), event.r#type.as_known()), ("f", Some(kind)));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(next().await, Ok(Some(Event::Keepalive(_)))));
    loop {
        match next().await {
            Ok(Some(Event::Keepalive(_))) => {}
            other => break assert_eq!(other.unwrap_err().code, Code::DeadlineExceeded),
        }
    }
}
