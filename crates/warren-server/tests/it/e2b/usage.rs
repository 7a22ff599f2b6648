//! Metrics and logs.

use serde_json::{Value, json};

use super::{create, refused};
use crate::app::TestApp;

#[tokio::test]
async fn a_sandbox_has_samples_of_what_it_uses() {
    let app = TestApp::start().await;
    let id = create(&app, json!({})).await;
    let target = format!("/e2b/sandboxes/{id}/metrics");
    let samples = app.get(&target).await.expect(200);
    let sample = &samples.as_array().unwrap()[0];
    let mut keys: Vec<_> = sample.as_object().unwrap().keys().cloned().collect();
    keys.sort_unstable();
    let expected = [
        "cpuCount",
        "cpuUsedPct",
        "diskTotal",
        "diskUsed",
        "memCache",
        "memTotal",
        "memUsed",
        "timestamp",
        "timestampUnix",
    ];
    assert_eq!(keys, expected);
    assert_eq!((&sample["cpuCount"], &sample["memTotal"]), (&json!(2), &json!(1_u64 << 30)));
    assert_eq!(app.get(&format!("{target}?start=1&end=2")).await.expect(200), json!([]));
    refused(&app.get(&format!("{target}?start=2&end=1")).await, 400);
    refused(&app.get(&format!("{target}?start=x")).await, 400);

    let many =
        async |ids: &str| app.get(&format!("/e2b/sandboxes/metrics?sandbox_ids={ids}")).await;
    let found = many(&format!("{id},sb-aaaaaaaaaaaaaaaa,x")).await.expect(200);
    let found = found["sandboxes"].as_object().unwrap();
    assert_eq!(found.keys().collect::<Vec<_>>(), [&id]);
    assert_eq!(found[&id]["cpuCount"], 2);
    refused(&many("").await, 400);
    refused(&many(&vec!["x"; 101].join(",")).await, 400);
    app.ask("DELETE", &format!("/e2b/sandboxes/{id}"), "").await.expect(204);
    assert_eq!(refused(&app.get(&target).await, 404), super::missing(&id));
}

/// Runs a command, and waits until its end is in the log.
async fn run(app: &TestApp, id: &str, command: &[&str]) {
    let body = json!({"command": command, "detach": true}).to_string();
    app.post(&format!("/v1/sandboxes/{id}/exec"), &body).await.expect(202);
    let target = format!("/e2b/v2/sandboxes/{id}/logs?search=ended");
    let ended = async {
        while app.get(&target).await.expect(200)["logs"] == json!([]) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), ended).await.expect("an end");
}

#[tokio::test]
async fn logs_are_read_in_both_forms() {
    let app = TestApp::start().await;
    let id = create(&app, json!({})).await;
    run(&app, &id, &["fail", "3"]).await;
    let said = |logs: &Value| -> Vec<(String, String)> {
        let one = |it: &Value| {
            let text = |name: &str| it[name].as_str().unwrap().to_owned();
            (text("level"), text("message"))
        };
        logs.as_array().unwrap().iter().map(one).collect()
    };
    let pair = |level: &str, message: &str| (level.to_owned(), message.to_owned());
    let all =
        [pair("info", "started"), pair("warn", "failed"), pair("info", "ended with status 3")];

    let v1 = app.get(&format!("/e2b/sandboxes/{id}/logs")).await.expect(200);
    assert_eq!(said(&v1["logEntries"]), all);
    let lines = v1["logs"].as_array().unwrap();
    let parsed: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line["line"].as_str().unwrap()).unwrap())
        .collect();
    assert_eq!(said(&Value::Array(parsed.clone())), all);
    assert!(parsed[0]["logger"].is_string() && lines[0]["timestamp"].is_string());

    let v2 = async |query: &str| {
        let found = app.get(&format!("/e2b/v2/sandboxes/{id}/logs?{query}")).await.expect(200);
        said(&found["logs"])
    };
    let backward: Vec<_> = all.iter().rev().cloned().collect();
    assert_eq!(v2("").await, backward);
    assert_eq!(v2("direction=forward&limit=2").await, all[..2]);
    assert_eq!(v2("level=warn").await, all[1..2]);
    assert_eq!(v2("search=start").await, all[..1]);
    assert_eq!(v2("cursor=1").await, []);
    for bad in ["limit=0", "limit=1001", "direction=up", "level=loud", "cursor=x"] {
        refused(&app.get(&format!("/e2b/v2/sandboxes/{id}/logs?{bad}")).await, 400);
    }
}
