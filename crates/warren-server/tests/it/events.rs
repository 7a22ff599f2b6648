use std::time::Duration;

use axum::body::Body;
use futures::StreamExt;
use hyper::Request;
use serde_json::Value;

use crate::app::TestApp;

/// Reads so many events of a stream.
async fn read(app: &TestApp, target: &str, last_id: Option<u64>, count: usize) -> Vec<Value> {
    let mut request = Request::get(target);
    if let Some(id) = last_id {
        request = request.header("last-event-id", id);
    }
    let answer = app.open(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut pieces = answer.into_body().into_data_stream();
    let read = async {
        let mut text = String::new();
        loop {
            let events: Vec<_> =
                text.split("\n\n").filter_map(|message| message.split_once("\ndata: ")).collect();
            if events.len() >= count {
                return events
                    .into_iter()
                    .map(|(id, data)| {
                        let event: Value = serde_json::from_str(data).unwrap();
                        assert_eq!(id, format!("id: {}", event["seq"]));
                        event
                    })
                    .collect();
            }
            text.push_str(std::str::from_utf8(&pieces.next().await.unwrap().unwrap()).unwrap());
        }
    };
    tokio::time::timeout(Duration::from_secs(10), read).await.expect("events in time")
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_life_is_told_in_order_and_replayed() {
    let app = TestApp::start().await;
    let id = app.create().await;
    let target = format!("/v1/sandboxes/{id}");
    app.post(&format!("{target}/pause"), "").await.expect(200);
    app.post(&format!("{target}/resume"), "").await.expect(200);
    app.ask("DELETE", &target, "").await.expect(204);
    let events = read(&app, "/v1/events?after=0", None, 6).await;
    assert_eq!(
        kinds(&events),
        [
            "sandbox.created",
            "sandbox.running",
            "sandbox.paused",
            "sandbox.resumed",
            "sandbox.stopped",
            "sandbox.deleted"
        ]
    );
    assert!(events.iter().all(|event| event["sandbox_id"] == id.as_str()));
    assert_eq!(events[4]["detail"]["reason"], "killed");
    let seqs: Vec<_> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6]);
    let rest = read(&app, "/v1/events", Some(4), 2).await;
    assert_eq!(kinds(&rest), ["sandbox.stopped", "sandbox.deleted"]);
}

#[tokio::test]
async fn what_happens_later_is_followed() {
    let app = TestApp::start().await;
    let (events, _) = futures::join!(read(&app, "/v1/events", None, 2), app.create());
    assert_eq!(kinds(&events), ["sandbox.created", "sandbox.running"]);
}

#[tokio::test]
async fn one_sandbox_is_followed_alone() {
    let app = TestApp::start().await;
    app.create().await;
    let id = app.create().await;
    let events = read(&app, &format!("/v1/events?after=0&sandbox={id}"), None, 2).await;
    assert!(events.iter().all(|event| event["sandbox_id"] == id.as_str()));
}

#[tokio::test]
async fn somebody_elses_events_are_not_told() {
    let app = TestApp::start().await;
    app.create().await;
    let other = app.as_owner("other").await;
    let id = other.create().await;
    let events = read(&other, "/v1/events?after=0", None, 2).await;
    assert!(events.iter().all(|event| event["sandbox_id"] == id.as_str()));
}
