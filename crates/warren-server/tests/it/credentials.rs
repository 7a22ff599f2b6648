//! What requests of sandboxes are given, over HTTP.

use warren_core::{config::Config, secrets::SealKey};

use crate::app::TestApp;

const RULES: &str = r#"{"rules":[{"host":"a.example","headers":{"Authorization":"Bearer {{secret:TOKEN}}"},"paths":["/me/**"]}]}"#;

async fn app() -> TestApp {
    let config = Config { seal_key: Some(SealKey::generate()), ..Config::default() };
    let app = TestApp::with(config).await;
    app.ask("PUT", "/v1/secrets/TOKEN", r#"{"value":"hunter2hunter2"}"#).await.expect(200);
    app
}

#[tokio::test]
async fn credentials_are_set_and_shown_without_values() {
    let app = app().await;
    let id = app.create().await;
    let path = format!("/v1/sandboxes/{id}/credentials");
    let set = app.ask("PUT", &path, RULES).await;
    let text = String::from_utf8(set.body.to_vec()).unwrap();
    assert!(!text.contains("hunter2") && !text.contains("Bearer"), "{text}");
    let shown = app.get(&path).await.expect(200);
    assert_eq!(shown, set.expect(200));
    assert_eq!(shown["rules"][0]["headers"][0], "Authorization");
    assert_eq!(shown["secrets"][0], "TOKEN");
    let granted = app.runtime.credentials(&id.parse().unwrap()).unwrap();
    assert_eq!(granted.rules[0].headers[0].1.expose(), b"Bearer hunter2hunter2");
    let none = app.ask("PUT", &path, "{}").await.expect(200);
    assert!(none["rules"].as_array().unwrap().is_empty());
    assert_eq!(app.runtime.credentials(&id.parse().unwrap()), None);
}

#[tokio::test]
async fn a_sandbox_is_made_with_credentials() {
    let app = app().await;
    let body = format!(r#"{{"credentials":{RULES}}}"#);
    let made = app.post("/v1/sandboxes", &body).await;
    let text = String::from_utf8(made.body.to_vec()).unwrap();
    assert!(!text.contains("hunter2") && !text.contains("Bearer"), "{text}");
    let made = made.expect(201);
    let id = made["id"].as_str().unwrap();
    let shown = app.get(&format!("/v1/sandboxes/{id}/credentials")).await.expect(200);
    assert_eq!(shown["rules"][0]["host"], "a.example");
    assert!(app.runtime.credentials(&id.parse().unwrap()).is_some());
}

#[tokio::test]
async fn what_cannot_be_given_is_refused() {
    let app = app().await;
    let id = app.create().await;
    let path = format!("/v1/sandboxes/{id}/credentials");
    for bad in [
        r#"{"rules":[{"host":"10.0.0.1","headers":{"a":"b"}}]}"#,
        r#"{"rules":[{"host":"a.b","headers":{"Host":"c"}}]}"#,
        r#"{"rules":[{"host":"a.b","headers":{"x":"{{secret:GONE}}"}}]}"#,
        r#"{"rules":[{"host":"a.b"}]}"#,
        r#"{"rules":[{"host":"a.b","header":{}}]}"#,
        r#"{"proxy":{"kind":"ftp","host":"a.b","port":1}}"#,
    ] {
        app.ask("PUT", &path, bad).await.refused(400, "invalid_argument");
    }
    let other = app.as_owner("other").await;
    other.get(&path).await.refused(404, "not_found");
    app.runtime.change_capabilities(|it| it.credentials = false);
    app.ask("PUT", &path, RULES).await.refused(501, "unimplemented");
}
