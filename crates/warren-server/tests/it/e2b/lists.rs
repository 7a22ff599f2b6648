//! Lists: filters, orders, pages.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use warren_core::fake::FakeClock;

use super::{create, refused};
use crate::app::{Answer, TestApp};

#[track_caller]
fn ids(answer: &Answer) -> Vec<String> {
    let listed = answer.expect(200);
    let listed = listed.as_array().unwrap();
    listed.iter().map(|it| it["sandboxID"].as_str().unwrap().to_owned()).collect()
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers.get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn sandboxes_are_found_by_metadata_that_was_encoded_three_times() {
    let app = TestApp::start().await;
    let odd = create(&app, json!({"metadata": {"a b": "c&d"}})).await;
    let two = create(&app, json!({"metadata": {"k": "v", "x": "y"}})).await;
    create(&app, json!({"metadata": {"k": "other"}})).await;
    for (filter, expected) in [
        ("a%252520b%3Dc%252526d", vec![odd]),
        ("k%3Dv", vec![two.clone()]),
        ("k%3Dv%26x%3Dy", vec![two]),
        ("k%3Dv%26x%3Dz", vec![]),
        ("nothing%3Dat", vec![]),
    ] {
        for target in ["/e2b/v2/sandboxes", "/e2b/sandboxes"] {
            let found = app.get(&format!("{target}?metadata={filter}")).await;
            assert_eq!(ids(&found), expected, "{filter}");
        }
    }
}

#[tokio::test]
async fn a_list_has_states_an_order_and_pages() {
    let clock = Arc::new(FakeClock::at(1_795_305_600_000));
    let app = TestApp::at(Arc::clone(&clock)).await;
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(create(&app, json!({})).await);
        clock.advance(Duration::from_secs(1));
    }
    let [first, second, third] = &all[..] else { panic!() };
    app.post(&format!("/e2b/sandboxes/{second}/pause"), "{}").await.expect(204);
    let list = async |query: &str| app.get(&format!("/e2b/v2/sandboxes?{query}")).await;
    let newest = [third, second, first].map(Clone::clone);
    let whole = list("").await;
    assert_eq!(ids(&whole), newest);
    assert_eq!(
        (header(&whole, "x-total-running"), header(&whole, "x-next-token")),
        (Some("2"), None)
    );
    assert!(header(&whole, "access-control-expose-headers").unwrap().contains("X-Next-Token"));
    assert_eq!(ids(&list("state=running%2Cpaused").await), newest);
    assert_eq!(ids(&list("state=paused").await), std::slice::from_ref(second));
    assert_eq!(ids(&list("order=asc").await), [first, second, third].map(Clone::clone));
    assert_eq!(ids(&list("startedAfter=2026-11-22T00:00:01Z").await), newest[..2]);
    // The first list knows those alone that run.
    assert_eq!(ids(&app.get("/e2b/sandboxes").await), [third, first].map(Clone::clone));

    for (order, expected) in [("", newest.to_vec()), ("order=asc&", all.clone())] {
        let (mut found, mut token) = (Vec::new(), None::<String>);
        for page in 0..3 {
            let next = token.map(|token| format!("&nextToken={token}")).unwrap_or_default();
            // The order of the first page holds for the others, also where they do not say it.
            let order = if page == 0 { order } else { "" };
            let page = list(&format!("{order}limit=1{next}")).await;
            found.extend(ids(&page));
            token = header(&page, "x-next-token").map(str::to_owned);
        }
        assert_eq!((found, token), (expected, None));
    }
    for bad in ["limit=0", "limit=101", "limit=x", "nextToken=x", "state=dead", "order=up"] {
        refused(&list(bad).await, 400);
    }
    refused(&list("startedAfter=yesterday").await, 400);
}

#[tokio::test]
async fn a_sandbox_in_a_list_has_all_that_clients_require() {
    let app = TestApp::start().await;
    create(&app, json!({"metadata": {"k": "v"}})).await;
    let listed = app.get("/e2b/v2/sandboxes").await.expect(200);
    let listed = listed[0].as_object().unwrap();
    let keys: Vec<_> = listed.keys().map(String::as_str).collect();
    let expected = [
        "alias",
        "clientID",
        "cpuCount",
        "diskSizeMB",
        "endAt",
        "envdVersion",
        "memoryMB",
        "metadata",
        "sandboxID",
        "startedAt",
        "state",
        "templateID",
    ];
    let mut sorted = keys.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, expected);
    assert_eq!(listed["state"], "running");
    assert!(listed["endAt"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test]
async fn nobody_sees_the_sandboxes_of_others() {
    let app = TestApp::start().await;
    let id = create(&app, json!({})).await;
    let other = app.as_owner("other").await;
    assert_eq!(other.get("/e2b/v2/sandboxes").await.expect(200), json!([]));
    let message = refused(&other.get(&format!("/e2b/sandboxes/{id}")).await, 404);
    assert_eq!(message, super::missing(&id));
    for (method, path, body) in [
        ("DELETE", "", ""),
        ("POST", "/connect", r#"{"timeout":5}"#),
        ("POST", "/resume", "{}"),
        ("POST", "/pause", "{}"),
        ("POST", "/timeout", r#"{"timeout":0}"#),
        ("POST", "/refreshes", "{}"),
        ("PUT", "/network", "{}"),
        ("POST", "/fork", "{}"),
        ("POST", "/snapshots", "{}"),
        ("GET", "/metrics", ""),
        ("GET", "/logs", ""),
    ] {
        let answer = other.ask(method, &format!("/e2b/sandboxes/{id}{path}"), body).await;
        assert_eq!(refused(&answer, 404), super::missing(&id), "{method} {path}");
    }
    let many = other.get(&format!("/e2b/sandboxes/metrics?sandbox_ids={id}")).await.expect(200);
    assert_eq!(many, json!({"sandboxes": {}}));
    assert_eq!(super::detail(&app, &id).await["state"], Value::from("running"));
}
