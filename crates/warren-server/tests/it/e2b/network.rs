//! What sandboxes may reach.

use serde_json::{Value, json};
use warren_core::{config::Config, secrets::SealKey};

use super::{create, detail, refused};
use crate::app::TestApp;

async fn app() -> TestApp {
    TestApp::with(Config { seal_key: Some(SealKey::generate()), ..Config::default() }).await
}

async fn native(app: &TestApp, id: &str) -> Value {
    app.get(&format!("/v1/sandboxes/{id}")).await.expect(200)["network"].clone()
}

#[tokio::test]
async fn the_fields_of_a_network_become_rules() {
    let app = app().await;
    let id = create(
        &app,
        json!({"network": {"denyOut": ["0.0.0.0/0"], "allowOut": ["a.example", "192.0.2.1"]}}),
    )
    .await;
    let rules = native(&app, &id).await;
    assert_eq!(rules["otherwise"], "deny");
    let texts: Vec<_> = rules["rules"].as_array().unwrap().iter().map(|it| &it["to"]).collect();
    assert_eq!(texts, ["a.example", "192.0.2.1"]);
    let shown = detail(&app, &id).await;
    assert_eq!(shown["allowInternetAccess"], false);
    assert_eq!(shown["network"]["allowOut"], json!(["a.example", "192.0.2.1"]));
    assert_eq!(shown["network"]["denyOut"], json!(["0.0.0.0/0"]));

    let offline = create(&app, json!({"allow_internet_access": false})).await;
    assert_eq!(native(&app, &offline).await["otherwise"], "deny");
    let open = create(&app, json!({"allow_internet_access": true})).await;
    assert_eq!(native(&app, &open).await, "open");
}

#[tokio::test]
async fn a_change_replaces_everything() {
    let app = app().await;
    let id = create(&app, json!({})).await;
    let put =
        async |body: &str| app.ask("PUT", &format!("/e2b/sandboxes/{id}/network"), body).await;
    put(r#"{"allow_internet_access":false}"#).await.expect(204);
    assert_eq!(native(&app, &id).await["otherwise"], "deny");
    let secret = r#"{"rules":{"a.example":[{"transform":{"headers":{"X-Key":"hunter2hunter2"}}}]},
        "egressProxy":{"address":"p.example:1080","username":"u","password":"hunter3hunter3"}}"#;
    put(secret).await.expect(204);
    assert_eq!(native(&app, &id).await, "open");
    let granted = app.runtime.credentials(&id.parse().unwrap()).unwrap();
    assert_eq!(granted.rules[0].headers[0].1.expose(), b"hunter2hunter2");
    assert_eq!(granted.proxy.unwrap().port, 1080);
    let shown = app.get(&format!("/e2b/sandboxes/{id}")).await;
    assert!(!String::from_utf8_lossy(&shown.body).contains("hunter"), "values are in no answer");
    let network = &shown.expect(200)["network"];
    assert_eq!(network["rules"]["a.example"][0]["transform"]["headers"], json!({"X-Key": "***"}));
    assert_eq!(network["egressProxy"], json!({"address": "p.example:1080", "username": "u"}));
    put("{}").await.expect(204);
    assert_eq!(app.runtime.credentials(&id.parse().unwrap()), None);

    let message = refused(&put(r#"{"allowOut":["a.example"]}"#).await, 400);
    assert!(message.contains("you must include 'ALL_TRAFFIC' in deny out"), "{message}");
    // What cannot be done whole is not done at all.
    let half = r#"{"allow_internet_access":false,
        "rules":{"a.example":[{"transform":{"headers":{"Host":"b"}}}]}}"#;
    let message = refused(&put(half).await, 400);
    assert!(message.starts_with("network.rules: a.example"), "{message}");
    assert_eq!(native(&app, &id).await, "open");
    app.post(&format!("/e2b/sandboxes/{id}/pause"), "{}").await.expect(204);
    refused(&put("{}").await, 409);
}
