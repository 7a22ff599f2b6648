//! Who sandboxes are to others.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde_json::{Value, json};
use warren_core::{config::Config, secrets::SealKey};

use super::{create, refused};
use crate::app::TestApp;

async fn app() -> TestApp {
    let issuer = "https://api.example.com".to_owned();
    let seal_key = Some(SealKey::generate());
    TestApp::with(Config { seal_key, issuer, ..Config::default() }).await
}

/// The header that requests of a sandbox are given.
fn header(app: &TestApp, id: &str) -> String {
    let granted = app.runtime.credentials(&id.parse().unwrap()).unwrap();
    String::from_utf8(granted.rules[0].headers[0].1.expose().to_vec()).unwrap()
}

/// What a token claims, once it is proved by the key that the server tells everybody.
async fn claims(app: &TestApp, header: &str) -> Value {
    let about = app.get("/e2b/.well-known/openid-configuration").await.expect(200);
    assert_eq!(about["jwks_uri"], "https://api.example.com/.well-known/jwks.json");
    let keys = app.get("/e2b/.well-known/jwks.json").await.expect(200);
    let key = &keys["keys"][0];
    let decode = |text: &str| BASE64.decode(text).unwrap();
    let [x, y] = [&key["x"], &key["y"]].map(|it| decode(it.as_str().unwrap()));
    let token = header.strip_prefix("Bearer ").unwrap();
    let (text, signature) = token.rsplit_once('.').unwrap();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, [vec![4], x, y].concat())
        .verify(text.as_bytes(), &decode(signature))
        .unwrap();
    let (head, claims) = text.split_once('.').unwrap();
    let head: Value = serde_json::from_slice(&decode(head)).unwrap();
    assert_eq!(head["kid"], key["kid"]);
    let claims: Value = serde_json::from_slice(&decode(claims)).unwrap();
    assert_eq!(claims["iss"], about["issuer"]);
    claims
}

fn identity(name: &str) -> Value {
    json!({
        "iam": {"tokens": {"aws": {"audience": "sts.example", "tokenType": "JWT-SVID"}}},
        "network": {"rules": {"a.example": [{"transform": {"headers": {
            "Authorization": format!("Bearer ${{e2b.identity.tokens.{name}}}"),
        }}}]}},
    })
}

#[tokio::test]
async fn requests_carry_a_token_that_others_can_prove() {
    let app = app().await;
    let id = create(&app, identity("aws")).await;
    let found = claims(&app, &header(&app, &id)).await;
    assert_eq!(found["aud"], json!(["sts.example"]));
    assert_eq!(found["sub"], format!("spiffe://api.example.com/project/default/sandbox/{id}"));
    // It is in no answer and in no environment.
    let token = header(&app, &id);
    let shown = app.get(&format!("/e2b/sandboxes/{id}")).await;
    assert!(!String::from_utf8_lossy(&shown.body).contains(&token), "values are in no answer");
    // Another host may get it later, by the name that it was made with.
    let change = json!({"rules": {"b.example": [{"transform": {"headers": {
        "Authorization": "Bearer ${e2b.identity.tokens.aws}",
    }}}]}});
    let target = format!("/e2b/sandboxes/{id}/network");
    app.ask("PUT", &target, &change.to_string()).await.expect(204);
    assert_eq!(claims(&app, &header(&app, &id)).await["sandbox_id"], id.as_str());
    // A fork is somebody else.
    let forks = app.post(&format!("/e2b/sandboxes/{id}/fork"), "{}").await.expect(201);
    let fork = forks[0]["sandbox"]["sandboxID"].as_str().unwrap();
    assert_eq!(claims(&app, &header(&app, fork)).await["sandbox_id"], fork);
}

#[tokio::test]
async fn what_names_no_token_is_refused() {
    let app = app().await;
    let check = async |mut body: Value, expected: &str| {
        body["templateID"] = json!("base");
        let message = refused(&app.post("/e2b/v2/sandboxes", &body.to_string()).await, 400);
        assert_eq!(message, expected);
    };
    check(identity("gcp"), "network.rules: the sandbox has no token \"gcp\"").await;
    let mut other = identity("aws");
    other["iam"]["tokens"]["aws"]["tokenType"] = json!("ID");
    check(other, "iam.tokens.aws.tokenType: expected JWT-SVID").await;
    let mut nobody = identity("aws");
    nobody["iam"]["tokens"]["aws"]["audience"] = json!("");
    check(nobody, "iam.tokens: aws: expected an audience of 1 to 1024 bytes").await;
    assert_eq!(app.runtime.guests(), []);
}

#[tokio::test]
async fn a_server_without_a_key_has_no_identities() {
    let app = TestApp::start().await;
    refused(&app.get("/e2b/.well-known/jwks.json").await, 404);
    let mut body = identity("aws");
    body["templateID"] = json!("base");
    let answer = app.post("/e2b/v2/sandboxes", &body.to_string()).await;
    assert_eq!(refused(&answer, 501), "this runtime cannot say who sandboxes are here");
}
