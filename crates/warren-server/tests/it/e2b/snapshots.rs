//! Snapshots and forks.

use serde_json::{Value, json};
use warren_core::fake::Failure;

use super::{create, detail, refused};
use crate::app::TestApp;

#[tokio::test]
async fn a_snapshot_is_made_listed_used_and_removed() {
    let app = TestApp::start().await;
    let id = create(&app, json!({"metadata": {"k": "v"}})).await;
    let target = format!("/e2b/sandboxes/{id}/snapshots");
    let plain = app.post(&target, "{}").await.expect(201);
    let plain_id = plain["snapshotID"].as_str().unwrap();
    assert!(plain_id.starts_with("sn-") && plain_id.ends_with(":default"), "{plain}");
    assert_eq!(plain["names"], json!([]));
    let named = app.post(&target, r#"{"name":"mine:v1"}"#).await.expect(201);
    assert_eq!(named["snapshotID"], "default/mine:v1");
    assert_eq!(named["names"], json!(["default/mine:v1"]));
    assert_eq!(detail(&app, &id).await["state"], "running");

    for name in [plain_id, "mine:v1", "default/mine:v1"] {
        let body = json!({"templateID": name}).to_string();
        let made = app.post("/e2b/v2/sandboxes", &body).await.expect(201);
        assert_ne!(made["sandboxID"], id.as_str());
        assert!(made["templateID"].as_str().unwrap().starts_with("sn-"), "{made}");
    }
    let list = async |query: &str| app.get(&format!("/e2b/snapshots?{query}")).await;
    let of_sandbox = list(&format!("sandboxID={id}")).await.expect(200);
    assert_eq!(of_sandbox.as_array().unwrap().len(), 2);
    assert_eq!(list("name=mine%3Av1").await.expect(200), json!([named]));
    assert_eq!(list("sandboxID=sb-aaaaaaaaaaaaaaaa").await.expect(200), json!([]));
    let first = list("limit=1").await;
    let token = first.headers["x-next-token"].to_str().unwrap().to_owned();
    let second = list(&format!("limit=1&nextToken={token}")).await;
    assert_eq!(second.headers.get("x-next-token"), None);
    assert_ne!(first.expect(200), second.expect(200));

    let again = app.ask("DELETE", "/e2b/templates/default%2Fmine%3Av1", "").await;
    again.expect(204);
    let again = app.ask("DELETE", "/e2b/templates/default%2Fmine%3Av1", "").await;
    assert_eq!(refused(&again, 404), "template 'default/mine:v1' not found");
}

#[tokio::test]
async fn a_name_moves_to_the_newest_snapshot() {
    let app = TestApp::start().await;
    let id = create(&app, json!({})).await;
    let target = format!("/e2b/sandboxes/{id}/snapshots");
    app.post(&target, r#"{"name":"mine"}"#).await.expect(201);
    let first = app.get("/v1/snapshots/mine").await.expect(200)["id"].clone();
    let again = app.post(&target, r#"{"name":"mine"}"#).await.expect(201);
    assert_eq!(again["snapshotID"], "default/mine:default");
    let second = app.get("/v1/snapshots/mine").await.expect(200)["id"].clone();
    assert_ne!(first, second);
    // The first is still there, without a name.
    let target = format!("/v1/snapshots/{}", first.as_str().unwrap());
    assert_eq!(app.get(&target).await.expect(200)["name"], Value::Null);
    for bad in ["A", "other/mine", "a b", "a:"] {
        let body = json!({"name": bad}).to_string();
        refused(&app.post(&format!("/e2b/sandboxes/{id}/snapshots"), &body).await, 400);
    }
}

#[tokio::test]
async fn forks_are_like_what_they_were_made_of() {
    let app = TestApp::start().await;
    let id = create(
        &app,
        json!({"metadata": {"k": "v"}, "envVars": {"KEY": "kept"},
               "network": {"allowPublicTraffic": false}}),
    )
    .await;
    let target = format!("/e2b/sandboxes/{id}/fork");
    let forks = app.post(&target, r#"{"count":2,"timeout":60}"#).await.expect(201);
    let forks = forks.as_array().unwrap();
    assert_eq!(forks.len(), 2);
    for fork in forks {
        let fork = &fork["sandbox"];
        assert!(fork["trafficAccessToken"].is_string() && fork["envdAccessToken"].is_string());
        let fork_id = fork["sandboxID"].as_str().unwrap();
        let shown = detail(&app, fork_id).await;
        assert_eq!((&shown["state"], &shown["metadata"]), (&json!("running"), &json!({"k": "v"})));
        let agent = app.runtime.agent(&fork_id.parse().unwrap()).unwrap();
        assert_eq!(agent.initialised().last().unwrap()["env"]["KEY"], "kept");
    }
    assert_eq!(app.post(&target, "{}").await.expect(201).as_array().unwrap().len(), 1);
    for bad in [r#"{"count":0}"#, r#"{"count":101}"#, r#"{"timeout":0}"#] {
        refused(&app.post(&target, bad).await, 400);
    }
    app.post(&format!("/e2b/sandboxes/{id}/pause"), "{}").await.expect(204);
    refused(&app.post(&target, "{}").await, 409);
}

#[tokio::test]
async fn a_fork_that_cannot_be_made_leaves_the_others() {
    let app = TestApp::start().await;
    let id = create(&app, json!({})).await;
    let target = format!("/e2b/sandboxes/{id}/fork");
    app.runtime.fail_next(Failure::Create);
    let forks = app.post(&target, r#"{"count":3}"#).await.expect(201);
    let forks = forks.as_array().unwrap();
    let made = forks.iter().filter(|fork| fork["sandbox"]["sandboxID"].is_string()).count();
    let failed: Vec<_> = forks.iter().filter_map(|fork| fork.get("error")).collect();
    assert_eq!((made, failed.len()), (2, 1), "{forks:?}");
    assert!(failed[0]["code"].is_number() && failed[0]["message"].is_string(), "{failed:?}");
    // With none of them there is nothing to be told but why.
    app.runtime.fail_next(Failure::Create);
    let answer = app.post(&target, "{}").await;
    refused(&answer, answer.status);
}
