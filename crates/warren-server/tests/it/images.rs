//! Images, over HTTP.

use serde_json::Value;
use warren_core::access::KeyScope;
use warren_server::Access;

use crate::app::{Answer, TestApp};

/// The lines of a transfer.
fn lines(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_transfer_is_told_line_by_line() {
    let app = TestApp::start().await;
    let told = lines(&app.post("/v1/images/pull", r#"{"reference":"python:3.12"}"#).await);
    let kinds: Vec<_> = told.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["resolved", "done"]);
    let image = &told[1]["images"][0];
    assert_eq!(image["references"][0], "python:3.12");
    assert_eq!(image["config"]["user"], "app");
    let told = lines(&app.post("/v1/images/pull", r#"{"reference":"absent:1"}"#).await);
    assert_eq!((&told[0]["type"], &told[0]["code"]), (&"error".into(), &"not_found".into()));
    // The runtime of this test unpacks no snapshots: it is fetched, and then that is said.
    let told = lines(&app.post("/v1/snapshots", r#"{"reference":"saved:1","name":"x"}"#).await);
    let last = told.last().unwrap();
    assert_eq!((&told[0]["type"], &last["type"]), (&"resolved".into(), &"error".into()));
    assert_eq!(last["code"], "unimplemented");
    let pushed = app.post("/v1/snapshots/none/push", r#"{"target":"saved:1"}"#).await;
    pushed.refused(404, "not_found");
    let wrong = app.post("/v1/images/pull", r#"{"reference":"A B"}"#).await;
    assert_eq!(lines(&wrong)[0]["code"], "invalid_argument");
}

#[tokio::test]
async fn images_are_listed_named_and_removed() {
    let app = TestApp::start().await;
    app.post("/v1/images/pull", r#"{"reference":"ghcr.io/team/tool:1"}"#).await;
    let shown = app.get("/v1/images/ghcr.io%2Fteam%2Ftool:1").await.expect(200);
    let id = shown["id"].as_str().unwrap().to_owned();
    let short = &id["sha256:".len()..][..8];
    assert_eq!(app.get(&format!("/v1/images/{short}")).await.expect(200)["id"], id.as_str());
    assert_eq!(app.get("/v1/images").await.expect(200)["images"].as_array().unwrap().len(), 1);
    let wanted = format!(r#"{{"image":"{id}","tag":"mine:2"}}"#);
    app.post("/v1/images/tag", &wanted).await.expect(200);
    let made = app.post("/v1/sandboxes", r#"{"image":"ghcr.io/team/tool:1"}"#).await.expect(201);
    assert_eq!((&made["user"], &made["workdir"]), (&"app".into(), &"/app".into()));
    app.ask("DELETE", &format!("/v1/images/{id}"), "").await.refused(400, "failed_precondition");
    let removed = app.ask("DELETE", "/v1/images/mine:2", "").await.expect(200);
    assert_eq!(removed["references"][0], "mine:2");
    app.ask("DELETE", "/v1/images/mine:2", "").await.refused(404, "not_found");
    let pruned = app.post("/v1/images/prune", r#"{"all":true}"#).await.expect(200);
    assert_eq!(pruned["images"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn archives_go_in_and_out() {
    let app = TestApp::start().await;
    let came = app.ask("PUT", "/v1/images/archive?name=mine:1", "tar").await.expect(200);
    assert_eq!(came["images"][0]["references"][0], "mine:1");
    let out = app.get("/v1/images/mine:1/archive?format=docker").await;
    assert_eq!(out.status, 200);
    app.get("/v1/images/mine:1/archive?format=zip").await.refused(400, "invalid_argument");
    let two = r#"{"docker":"x","path":"/y"}"#;
    app.post("/v1/images/import", two).await.refused(400, "invalid_argument");
    app.post("/v1/images/import", r#"{"path":"y"}"#).await.refused(400, "invalid_argument");
}

#[tokio::test]
async fn a_key_reaches_no_registry_that_is_not_listed() {
    let app = TestApp::start().await;
    let key = app.key(KeyScope::Project("default".parse().unwrap())).await;
    let remote = app.over_tcp(Access::Keys).with_key(&key);
    let told = remote.ask("POST", "/v1/images/pull", r#"{"reference":"10.0.0.1/x"}"#).await;
    assert_eq!(lines(&told)[0]["code"], "permission_denied");
    let made = remote.ask("POST", "/v1/sandboxes", r#"{"image":"10.0.0.1/x"}"#).await;
    made.refused(403, "permission_denied");
}
