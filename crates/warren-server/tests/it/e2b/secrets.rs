//! Secrets in E2B's API.

use serde_json::json;
use warren_core::{config::Config, secrets::SealKey};

use crate::app::TestApp;

async fn app() -> TestApp {
    TestApp::with(Config { seal_key: Some(SealKey::generate()), ..Config::default() }).await
}

#[tokio::test]
async fn secrets_are_made_changed_listed_and_removed() {
    let app = app().await;
    let wanted = r#"{"name":"openai-key","value":"hunter2hunter2","metadata":{"team":"a"}}"#;
    let made = app.post("/e2b/secrets", wanted).await.expect(201);
    let expected = json!({
        "secretID": made["secretID"], "name": "openai-key", "currentVersion": 1,
        "metadata": {"team": "a"}, "createdAt": made["createdAt"], "updatedAt": made["updatedAt"],
    });
    assert_eq!(made, expected);
    let id = made["secretID"].as_str().unwrap();
    assert!(id.starts_with("sec_"), "{id}");
    let again = app.post("/e2b/secrets", wanted).await.expect(409);
    let message = "Secret 'openai-key' already exists";
    assert_eq!(again, json!({"code": 409, "message": message}));
    for name in [id, "openai-key"] {
        let found = app.get(&format!("/e2b/secrets/{name}")).await.expect(200);
        assert_eq!(found["secretID"], json!(id), "{name}");
    }
    let changed = app.post(&format!("/e2b/secrets/{id}"), r#"{"value":"other-value"}"#).await;
    let changed = changed.expect(200);
    assert_eq!(
        (&changed["currentVersion"], &changed["metadata"]),
        (&json!(2), &json!({"team": "a"}))
    );
    let changed = app.post("/e2b/secrets/openai-key", r#"{"value":"third","metadata":{}}"#).await;
    assert_eq!(changed.expect(200)["metadata"], json!({}));
    // It is the native one.
    assert_eq!(app.get("/v1/secrets/openai-key").await.expect(200)["version"], 3);
    app.post("/e2b/secrets", r#"{"name":"b","value":"x"}"#).await.expect(201);
    let page = app.get("/e2b/secrets?limit=1").await;
    assert_eq!(page.headers["x-next-token"], "b");
    let text = String::from_utf8(page.body.to_vec()).unwrap();
    assert!(!text.contains("hunter2") && !text.contains("third"), "{text}");
    let rest = app.get("/e2b/secrets?limit=1&nextToken=b").await;
    assert!(!rest.headers.contains_key("x-next-token"));
    assert_eq!(rest.expect(200)[0]["name"], "openai-key");
    let gone = app.ask("DELETE", &format!("/e2b/secrets/{id}"), "").await;
    assert_eq!((gone.status, gone.body.len()), (204, 0));
    let none = json!({"code": 404, "message": "Secret 'openai-key' not found"});
    assert_eq!(app.ask("DELETE", "/e2b/secrets/openai-key", "").await.expect(404), none);
    assert_eq!(app.get("/e2b/secrets/openai-key").await.expect(404), none);
    let missing = app.post("/e2b/secrets/openai-key", r#"{"value":"x"}"#).await;
    assert_eq!(missing.expect(404), none);
}

#[tokio::test]
async fn names_are_in_small_letters_and_found_in_any() {
    let app = app().await;
    let made = app.post("/e2b/secrets", r#"{"name":"Api-Key","value":"hunter2hunter2"}"#).await;
    assert_eq!(made.expect(201)["name"], "api-key");
    app.get("/e2b/secrets/API-KEY").await.expect(200);
    let refused = app.post("/e2b/secrets", r#"{"name":"sec_x","value":"x"}"#).await.expect(400);
    assert_eq!(refused["message"], "name: sec_ is how identities of secrets begin");
    // One of the native API keeps its letters.
    app.ask("PUT", "/v1/secrets/NATIVE", r#"{"value":"hunter3hunter3"}"#).await.expect(200);
    let headers = json!({"A": "${e2b.secrets.Api-Key}", "B": "${e2b.secrets.NATIVE}"});
    let rules = json!({"A.example": [{"transform": {"headers": headers}}]});
    let body = json!({"templateID": "base", "network": {"rules": rules}}).to_string();
    let made = app.post("/e2b/v2/sandboxes", &body).await.expect(201);
    let id = made["sandboxID"].as_str().unwrap();
    let granted = app.runtime.credentials(&id.parse().unwrap()).unwrap();
    let values = granted.rules[0].headers.iter().map(|(_, value)| value.expose());
    assert_eq!(values.collect::<Vec<_>>(), [b"hunter2hunter2", b"hunter3hunter3"]);
    assert_eq!(granted.rules[0].host, "a.example");
}

#[tokio::test]
async fn what_is_no_secret_is_refused_without_being_repeated() {
    let app = app().await;
    let long = json!({"name": "K", "value": "hunter2", "metadata": {"a": "x".repeat(2000)}});
    for body in [
        r#"{"name":"9x","value":"hunter2"}"#,
        r#"{"name":"K","value":""}"#,
        r#"{"value":"hunter2"}"#,
        &long.to_string(),
    ] {
        let refused = app.post("/e2b/secrets", body).await.expect(400);
        assert!(!refused["message"].as_str().unwrap().contains("hunter2"), "{refused}");
    }
    let other = app.as_owner("other").await;
    app.post("/e2b/secrets", r#"{"name":"K","value":"mine"}"#).await.expect(201);
    other.get("/e2b/secrets/K").await.expect(404);
    assert_eq!(other.get("/e2b/secrets").await.expect(200), json!([]));
}

#[tokio::test]
async fn a_secret_is_put_into_headers_and_never_into_the_sandbox() {
    let app = app().await;
    app.post("/e2b/secrets", r#"{"name":"key-1","value":"hunter2hunter2"}"#).await.expect(201);
    let rules = |value: &str| json!({"a.example": [{"transform": {"headers": {"X-Key": value}}}]});
    let wanted =
        |value: &str| json!({"templateID": "base", "network": {"rules": rules(value)}}).to_string();
    let made = app.post("/e2b/v2/sandboxes", &wanted("Bearer ${e2b.secrets.key-1}")).await;
    let made = made.expect(201);
    let id = made["sandboxID"].as_str().unwrap();
    let granted = app.runtime.credentials(&id.parse().unwrap()).unwrap();
    assert_eq!(granted.rules[0].headers[0].1.expose(), b"Bearer hunter2hunter2");
    let shown = app.get(&format!("/e2b/sandboxes/{id}")).await.expect(200);
    assert!(!shown.to_string().contains("hunter2"), "{shown}");
    // One that is set anew is sent at once.
    app.post("/e2b/secrets/key-1", r#"{"value":"another-value"}"#).await.expect(200);
    let granted = app.runtime.credentials(&id.parse().unwrap()).unwrap();
    assert_eq!(granted.rules[0].headers[0].1.expose(), b"Bearer another-value");
    for (value, part) in [
        ("${e2b.secrets.key-1:2}", "without a version"),
        ("${e2b.identity.tokens.aws}", "the sandbox has no token"),
        ("${e2b.secrets.none}", "there is no secret none"),
    ] {
        let refused = app.post("/e2b/v2/sandboxes", &wanted(value)).await.expect(400);
        assert!(refused["message"].as_str().unwrap().contains(part), "{refused}");
    }
}
