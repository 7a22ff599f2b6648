//! Snapshots, forks, and going back, over HTTP.

use serde_json::json;

use crate::app::TestApp;

#[tokio::test]
async fn a_snapshot_is_made_found_changed_used_and_removed() {
    let app = TestApp::start().await;
    let id = app.create().await;
    let target = format!("/v1/sandboxes/{id}/snapshots");
    let made = app.post(&target, r#"{"name":"base","tags":["a","b"]}"#).await.expect(201);
    let snapshot = made["id"].as_str().unwrap();
    assert!(snapshot.starts_with("sn-") && made["frozen_us"].is_u64(), "{made}");
    assert_eq!(
        (&made["kind"], &made["image"], &made["layers"]),
        (&json!("filesystem"), &json!("host"), &json!(1),)
    );
    app.post(&target, r#"{"name":"base"}"#).await.refused(409, "already_exists");
    app.post(&target, r#"{"name":"Base"}"#).await.refused(400, "invalid_argument");
    app.post(&target, r#"{"tags":["a b"]}"#).await.refused(400, "invalid_argument");
    let memory = app.post(&target, r#"{"kind":"memory"}"#).await;
    assert!(memory.refused(501, "unimplemented").contains("saves files"));

    let listed = app.get(&format!("/v1/snapshots?sandbox={id}&tag=a")).await.expect(200);
    assert_eq!(listed["snapshots"][0]["id"], snapshot);
    let none = app.get("/v1/snapshots?tag=c").await.expect(200);
    assert_eq!(none["snapshots"], json!([]));
    app.get("/v1/snapshots?sandbox=x").await.refused(400, "invalid_argument");
    let changed =
        app.ask("PATCH", "/v1/snapshots/base", r#"{"name":"old","tags":["c"]}"#).await.expect(200);
    assert_eq!((&changed["name"], &changed["tags"]), (&json!("old"), &json!(["c"])));

    let child = app.post("/v1/sandboxes", r#"{"snapshot":"old"}"#).await.expect(201);
    assert_eq!(child["image"], format!("snapshot:{snapshot}"));
    assert_eq!(child["snapshot"], snapshot);
    let both = app.post("/v1/sandboxes", r#"{"snapshot":"old","image":"host"}"#).await;
    assert!(both.refused(400, "invalid_argument").contains("expected one"));
    let missing = app.post("/v1/sandboxes", r#"{"snapshot":"new"}"#).await;
    assert_eq!(missing.refused(404, "not_found"), "there is no snapshot new");
    app.ask("DELETE", "/v1/snapshots/old", "").await.expect(204);
    app.get(&format!("/v1/snapshots/{snapshot}")).await.refused(404, "not_found");
}

#[tokio::test]
async fn forks_are_made_and_the_best_is_kept() {
    let app = TestApp::start().await;
    let id = app.create().await;
    let target = format!("/v1/sandboxes/{id}/fork");
    let forks = app.post(&target, r#"{"count":3,"name":"try"}"#).await.expect(201);
    let sandboxes = forks["sandboxes"].as_array().unwrap();
    assert_eq!(sandboxes.len(), 3);
    assert!(forks["frozen_us"].is_u64());
    for fork in sandboxes {
        assert_eq!((&fork["state"], &fork["parent"]), (&json!("running"), &json!(id)));
    }
    let one = app.post(&target, "{}").await.expect(201);
    assert_eq!(one["sandboxes"].as_array().unwrap().len(), 1);
    app.post(&target, r#"{"count":0}"#).await.refused(400, "invalid_argument");
    app.post(&target, r#"{"kind":"memory"}"#).await.refused(501, "unimplemented");
    let taken = app.post(&target, r#"{"count":2,"name":"try"}"#).await;
    taken.refused(409, "already_exists");
    let listed = app.get("/v1/sandboxes").await.expect(200);
    assert_eq!(listed["sandboxes"].as_array().unwrap().len(), 5, "none of the two was made");

    let kept = app.post("/v1/sandboxes/try-2/keep", "").await.expect(200);
    assert_eq!((&kept["id"], &kept["state"]), (&json!(id), &json!("running")));
    let target = format!("/v1/sandboxes/{id}/keep");
    assert!(app.post(&target, "").await.refused(400, "invalid_argument").contains("not a fork"));
}

#[tokio::test]
async fn a_sandbox_goes_back() {
    let app = TestApp::start().await;
    let id = app.create().await;
    app.post(&format!("/v1/sandboxes/{id}/snapshots"), r#"{"name":"one"}"#).await.expect(201);
    let target = format!("/v1/sandboxes/{id}/rollback");
    let back = app.post(&target, r#"{"snapshot":"one"}"#).await.expect(200);
    assert_eq!((&back["id"], &back["state"]), (&json!(id), &json!("running")));
    app.post(&target, r#"{"snapshot":"two"}"#).await.refused(404, "not_found");
}
