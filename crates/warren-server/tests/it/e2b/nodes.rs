use serde_json::json;

use super::refused;
use crate::app::TestApp;

#[tokio::test]
async fn nodes_are_for_whoever_runs_the_server() {
    let app = TestApp::start().await;
    let id = app.create().await;
    let nodes = app.get("/e2b/nodes").await.expect(200);
    let node = &nodes[0];
    assert_eq!((&node["id"], &node["status"]), (&json!("local"), &json!("ready")));
    assert_eq!((&node["sandboxCount"], &node["createSuccesses"]), (&json!(1), &json!(1)));
    assert_eq!(node["metrics"]["allocatedMemoryBytes"], 1 << 30);
    assert!(node["metrics"]["memoryTotalBytes"].as_u64().unwrap() > 0, "{node}");
    assert!(node["statusChangedAt"].as_str().unwrap().ends_with('Z'), "{node}");
    let detail = app.get("/e2b/nodes/local").await.expect(200);
    assert_eq!(detail["sandboxes"], json!([{"sandboxID": id}]));
    assert_eq!(detail["machineInfo"], node["machineInfo"]);
    let missing = refused(&app.get("/e2b/nodes/other").await, 404);
    assert_eq!(missing, "node 'other' not found");
    let ready = app.post("/e2b/nodes/local", r#"{"status":"ready"}"#).await;
    assert_eq!((ready.status, ready.body.len()), (204, 0));
    refused(&app.post("/e2b/nodes/local", r#"{"status":"draining"}"#).await, 501);
    refused(&app.post("/e2b/nodes/local", r#"{"status":"gone"}"#).await, 400);
    let other = app.as_owner("other").await;
    refused(&other.get("/e2b/nodes").await, 403);
    refused(&other.post("/e2b/nodes/local", r#"{"status":"ready"}"#).await, 403);
}
