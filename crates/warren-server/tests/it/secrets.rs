//! Secrets, over HTTP.

use warren_core::{config::Config, secrets::SealKey};

use crate::app::TestApp;

async fn app() -> TestApp {
    TestApp::with(Config { seal_key: Some(SealKey::generate()), ..Config::default() }).await
}

#[tokio::test]
async fn a_secret_is_set_and_shown_without_its_value() {
    let app = app().await;
    let set = app.ask("PUT", "/v1/secrets/TOKEN", r#"{"value":"hunter2hunter2"}"#).await;
    assert_eq!(set.expect(200)["version"], 1);
    let again = app.ask("PUT", "/v1/secrets/TOKEN", r#"{"value":"other"}"#).await.expect(200);
    assert_eq!((&again["version"], &again["usable"]), (&2.into(), &true.into()));
    for path in ["/v1/secrets", "/v1/secrets/TOKEN"] {
        let answer = app.get(path).await;
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        assert!(text.contains("TOKEN") && !text.contains("hunter2") && !text.contains("other"));
    }
    assert!(app.ask("DELETE", "/v1/secrets/TOKEN", "").await.expect(204).is_null());
    app.get("/v1/secrets/TOKEN").await.refused(404, "not_found");
    app.ask("DELETE", "/v1/secrets/TOKEN", "").await.refused(404, "not_found");
}

#[tokio::test]
async fn a_secret_is_its_projects_alone() {
    let app = app().await;
    app.ask("PUT", "/v1/secrets/TOKEN", r#"{"value":"mine"}"#).await.expect(200);
    let other = app.as_owner("other").await;
    assert_eq!(other.get("/v1/secrets").await.expect(200)["secrets"].as_array().unwrap().len(), 0);
    other.get("/v1/secrets/TOKEN").await.refused(404, "not_found");
    other.ask("DELETE", "/v1/secrets/TOKEN", "").await.refused(404, "not_found");
    other.ask("PUT", "/v1/secrets/TOKEN", r#"{"value":"theirs"}"#).await.expect(200);
    assert_eq!(app.get("/v1/secrets/TOKEN").await.expect(200)["version"], 1);
}

#[tokio::test]
async fn what_is_no_secret_is_refused_without_being_repeated() {
    let app = app().await;
    for (name, body) in [
        ("9x", r#"{"value":"hunter2"}"#),
        ("A%20B", r#"{"value":"hunter2"}"#),
        ("K", r#"{"value":""}"#),
        ("K", r#"{"valeu":"hunter2"}"#),
        ("K", r#"{}"#),
    ] {
        let answer = app.ask("PUT", &format!("/v1/secrets/{name}"), body).await;
        assert!(!answer.refused(400, "invalid_argument").contains("hunter2"), "{name} {body}");
    }
    let long = format!(r#"{{"value":"{}"}}"#, "x".repeat(65_537));
    app.ask("PUT", "/v1/secrets/K", &long).await.refused(400, "invalid_argument");
}

#[tokio::test]
async fn without_a_key_nothing_is_kept() {
    let app = TestApp::start().await;
    let answer = app.ask("PUT", "/v1/secrets/K", r#"{"value":"x"}"#).await;
    answer.refused(501, "unimplemented");
}
