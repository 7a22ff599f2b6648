//! Who asks: over TCP with keys, and by the name of the host; teams and their keys.

use axum::body::Body;
use hyper::Request;
use serde_json::{Value, json};
use warren_server::{Access, Config};

use super::refused;
use crate::{
    app::TestApp,
    tcp::{Served, ask},
};

/// The status and the body of what came over a socket.
#[track_caller]
fn parts(response: &str) -> (u16, Value) {
    let status = response.split(' ').nth(1).unwrap().parse().unwrap();
    let body = response.split_once("\r\n\r\n").unwrap().1;
    (status, serde_json::from_str(body).unwrap_or_default())
}

fn request(method: &str, target: &str, headers: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\n{headers}connection: close\r\ncontent-length: 0\r\n\r\n")
}

/// A key of `default`, as E2B's clients write it.
async fn key(app: &TestApp) -> String {
    app.project_key("default").await.replace("wrn_", "e2b_")
}

#[tokio::test]
async fn a_key_is_asked_for_in_e2bs_own_words() {
    let served = Served::start(Config::default(), None).await;
    let key = key(&served.app).await;
    let get = async |target: &str, headers: &str| {
        parts(&ask(&served, &request("GET", target, headers)).await)
    };
    let host = "host: 127.0.0.1\r\n";
    assert_eq!(get("/e2b/health", host).await.0, 204);
    let (status, body) = get("/e2b/v2/sandboxes", host).await;
    assert_eq!((status, &body["code"]), (401, &json!(401)));
    assert!(body["message"].is_string(), "{body}");
    for shown in [format!("x-api-key: {key}"), format!("authorization: Bearer {key}")] {
        let (status, body) = get("/e2b/v2/sandboxes", &format!("{host}{shown}\r\n")).await;
        assert_eq!((status, body), (200, json!([])));
        let (status, teams) = get("/e2b/teams", &format!("{host}{shown}\r\n")).await;
        let team =
            json!({"teamID": "default", "name": "default", "apiKey": key, "isDefault": true});
        assert_eq!((status, teams), (200, json!([team])));
    }
    let zeroes = format!("{host}x-api-key: e2b_{}\r\n", "0".repeat(40));
    assert_eq!(get("/e2b/v2/sandboxes", &zeroes).await.0, 401);
    // At the root of its own host, where the native API is too, and nowhere else.
    let shown = format!("x-api-key: {key}\r\n");
    let at = |host: &str| format!("host: {host}\r\n{shown}");
    assert_eq!(get("/health", &at("api.localhost:1")).await.0, 204);
    assert_eq!(get("/v2/sandboxes?limit=1", &at("api.localhost")).await, (200, json!([])));
    assert_eq!(get("/e2b/v2/sandboxes", &at("api.localhost")).await.0, 200);
    assert_eq!(get("/v1/sandboxes", &at("api.localhost")).await.0, 200);
    let (status, body) = get("/nothing", &at("api.localhost")).await;
    assert_eq!((status, &body["code"]), (404, &json!(404)));
    assert_eq!(get("/v2/sandboxes", &at("127.0.0.1")).await.1["code"], "not_found");
    served.stop().await;
}

#[tokio::test]
async fn where_no_key_is_needed_any_key_will_do() {
    let served = Served::with_access(Config::default(), None, Access::Open).await;
    for shown in ["", "x-api-key: k\r\n", "x-api-key: e2b_00\r\n"] {
        let request = request("GET", "/e2b/v2/sandboxes", &format!("host: localhost\r\n{shown}"));
        assert_eq!(parts(&ask(&served, &request).await), (200, json!([])), "{shown}");
    }
    // The native API still says that a key is none.
    let native = request("GET", "/v1/sandboxes", "host: localhost\r\nx-api-key: k\r\n");
    assert_eq!(parts(&ask(&served, &native).await).0, 401);
    served.stop().await;
}

#[tokio::test]
async fn a_domain_with_its_port_is_told() {
    let served = Served::start(Config::default(), None).await;
    let shown = format!("x-api-key: {}\r\n", key(&served.app).await);
    let body = r#"{"templateID":"base"}"#;
    let length = body.len();
    let request = format!(
        "POST /v2/sandboxes HTTP/1.1\r\nhost: api.localhost:7423\r\n{shown}connection: close\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    let (status, made) = parts(&ask(&served, &request).await);
    assert_eq!((status, &made["domain"]), (201, &json!("localhost:7423")));
    served.stop().await;
}

#[tokio::test]
async fn strangers_are_told_so() {
    let app = TestApp::start().await.as_stranger();
    refused(&app.get("/e2b/v2/sandboxes").await, 401);
}

#[tokio::test]
async fn keys_are_made_for_a_team_by_the_host_alone() {
    let app = TestApp::start().await;
    let made = app.post("/e2b/api-keys", r#"{"name":"ci"}"#).await.expect(201);
    let key = made["key"].as_str().unwrap();
    assert!(key.starts_with("e2b_") && key.len() == 44, "{made}");
    assert!(app.app.sandboxes().authenticate(key).is_ok());
    assert_eq!(made["mask"]["prefix"], "e2b_");
    assert_eq!(made["mask"]["maskedValuePrefix"], key[4..10]);
    let id = made["id"].as_str().unwrap();
    let target = format!("/e2b/api-keys/{id}");
    app.ask("PATCH", &target, r#"{"name":"other"}"#).await.expect(204);
    let listed = app.get("/e2b/api-keys").await;
    assert!(!String::from_utf8_lossy(&listed.body).contains(key));
    let listed = listed.expect(200);
    assert_eq!((&listed[0]["id"], &listed[0]["name"]), (&json!(id), &json!("other")));
    // A key makes no keys.
    let remote = app.as_owner("other").await;
    refused(&remote.post("/e2b/api-keys", r#"{"name":"x"}"#).await, 403);
    refused(&remote.get("/e2b/api-keys").await, 403);
    app.ask("DELETE", &target, "").await.expect(204);
    refused(&app.ask("DELETE", &target, "").await, 404);
    assert!(app.app.sandboxes().authenticate(key).is_err());
    refused(&app.post("/e2b/api-keys", "{}").await, 400);
    refused(&app.post("/e2b/api-keys", r#"{"name":""}"#).await, 400);
}

#[tokio::test]
async fn a_team_has_metrics() {
    let app = TestApp::start().await;
    super::create(&app, json!({})).await;
    let measured = app.get("/e2b/teams/default/metrics").await.expect(200);
    let last = measured.as_array().unwrap().last().unwrap();
    assert_eq!(last["concurrentSandboxes"], 1);
    assert!(last["sandboxStartRate"].is_number() && last["timestampUnix"].is_u64());
    let target = "/e2b/teams/default/metrics/max?metric=concurrent_sandboxes";
    assert_eq!(app.get(target).await.expect(200)["value"], 1.0);
    refused(&app.get("/e2b/teams/default/metrics/max?metric=x").await, 400);
    refused(&app.get("/e2b/teams/other/metrics").await, 403);
    // A host caller acts for the team that it names.
    app.as_owner("other").await;
    let request = Request::get("/e2b/teams").header("x-team-id", "other").body(Body::empty());
    let teams = app.send(request.unwrap()).await.expect(200);
    assert_eq!(teams[0]["teamID"], "other");
}
