//! E2B's control API, over HTTP.

mod access;
mod identity;
mod life;
mod lists;
mod network;
mod nodes;
mod secrets;
mod snapshots;
mod templates;
mod usage;
mod volumes;

use serde_json::{Value, json};

use crate::app::{Answer, TestApp};

/// Asserts that it is an error in E2B's form, and gives what it says.
#[track_caller]
fn refused(answer: &Answer, status: u16) -> String {
    let body = answer.expect(status);
    assert_eq!(body["code"], status, "{body}");
    assert_eq!(answer.headers["content-type"], "application/json");
    body["message"].as_str().expect("a message").to_owned()
}

/// What is said of a sandbox that is not there.
fn missing(id: &str) -> String {
    format!("Sandbox \"{id}\" doesn't exist or you don't have access to it")
}

/// Makes a sandbox of `base` with more fields, and gives its id.
async fn create(app: &TestApp, more: Value) -> String {
    let mut body = json!({"templateID": "base"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let made = app.post("/e2b/v2/sandboxes", &body.to_string()).await.expect(201);
    made["sandboxID"].as_str().expect("an id").to_owned()
}

/// What is told about a sandbox.
async fn detail(app: &TestApp, id: &str) -> Value {
    app.get(&format!("/e2b/sandboxes/{id}")).await.expect(200)
}

#[tokio::test]
async fn both_versions_make_a_sandbox() {
    let app = TestApp::start().await;
    for (target, body) in [
        ("/e2b/v2/sandboxes", r#"{"templateID":"base","metadata":{},"envVars":{}}"#),
        ("/e2b/sandboxes", r#"{"templateID":"base","secure":true,"timeout":300}"#),
    ] {
        let made = app.post(target, body).await.expect(201);
        let id = made["sandboxID"].as_str().unwrap();
        assert!(id.starts_with("sb-"), "{made}");
        assert_eq!(made["templateID"], "base");
        assert_eq!(made["alias"], "base");
        assert_eq!(made["clientID"], "warren");
        assert_eq!(made["envdVersion"], "0.6.13");
        assert_eq!(made["envdAccessToken"].as_str().unwrap().len(), 43);
        assert_eq!(
            (&made["trafficAccessToken"], &made["domain"]),
            (&Value::Null, &json!("localhost"))
        );
        // It is a sandbox like every other.
        let native = app.get(&format!("/v1/sandboxes/{id}")).await.expect(200);
        assert_eq!(native["state"], "running");
        app.ask("DELETE", &format!("/e2b/sandboxes/{id}"), "").await.expect(204);
        let again = app.ask("DELETE", &format!("/e2b/sandboxes/{id}"), "").await;
        assert_eq!(refused(&again, 404), missing(id));
        app.get(&format!("/v1/sandboxes/{id}")).await.refused(404, "not_found");
    }
}

#[tokio::test]
async fn what_is_wanted_reaches_the_sandbox() {
    let app = TestApp::start().await;
    let id = create(
        &app,
        json!({
            "timeout": 60, "autoPause": true, "autoResume": {"enabled": true},
            "metadata": {"a b": "c&d"}, "envVars": {"KEY": "value"}, "unknown": {"is": "ignored"},
            "network": {"maskRequestHost": "localhost:${PORT}", "allowPublicTraffic": false},
            "mcp": {"server": {}},
        }),
    )
    .await;
    let told = app.runtime.agent(&id.parse().unwrap()).unwrap().initialised();
    let env = &told.last().unwrap()["env"];
    assert_eq!(
        (&env["KEY"], &env["E2B_SANDBOX"], &env["E2B_TEMPLATE_ID"]),
        (&json!("value"), &json!("true"), &json!("base"))
    );
    let shown = detail(&app, &id).await;
    assert_eq!(shown["state"], "running");
    assert_eq!(shown["metadata"], json!({"a b": "c&d"}));
    assert_eq!(shown["lifecycle"], json!({"autoResume": true, "onTimeout": "pause"}));
    assert_eq!((&shown["cpuCount"], &shown["memoryMB"]), (&json!(2), &json!(1024)));
    assert_eq!(shown["allowInternetAccess"], true);
    assert_eq!(shown["network"]["allowPublicTraffic"], false);
    assert_eq!(shown["network"]["maskRequestHost"], "localhost:${PORT}");
    let native = app.get(&format!("/v1/sandboxes/{id}")).await.expect(200);
    assert_eq!(shown["startedAt"], native["created_at"]);
    assert_eq!(shown["endAt"], native["expires_at"]);
}

#[tokio::test]
async fn private_ports_have_a_token_and_an_open_agent_has_none() {
    let app = TestApp::start().await;
    let body = r#"{"templateID":"base","network":{"allowPublicTraffic":false}}"#;
    let made = app.post("/e2b/v2/sandboxes", body).await.expect(201);
    let (envd, traffic) = (&made["envdAccessToken"], &made["trafficAccessToken"]);
    assert!(envd.is_string() && traffic.is_string() && envd != traffic, "{made}");
    let target = format!("/e2b/v2/sandboxes/{}/connect", made["sandboxID"].as_str().unwrap());
    let again = app.post(&target, "{}").await.expect(200);
    assert_eq!((&again["envdAccessToken"], &again["trafficAccessToken"]), (envd, traffic));
    let body = r#"{"templateID":"base","secure":false}"#;
    let made = app.post("/e2b/sandboxes", body).await.expect(201);
    assert_eq!(made.get("envdAccessToken"), None);
    let both = r#"{"templateID":"base","secure":false,"network":{"allowPublicTraffic":false}}"#;
    let message = refused(&app.post("/e2b/sandboxes", both).await, 400);
    assert!(message.starts_with("You cannot create a sandbox without public access"), "{message}");
}

#[tokio::test]
async fn a_request_that_cannot_be_right_says_why() {
    let app = TestApp::start().await;
    let check = async |body: &str, status: u16, expected: &str| {
        let answer = app.post("/e2b/v2/sandboxes", body).await;
        assert_eq!(refused(&answer, status), expected, "{body}");
    };
    check("{}", 400, "templateID: expected a template").await;
    check(r#"{"templateID":"no"}"#, 404, "template 'no' not found").await;
    check(r#"{"templateID":"no:v1"}"#, 404, "template 'no:v1' not found").await;
    check(
        r#"{"templateID":"sn-aaaaaaaaaaaaaaaa"}"#,
        404,
        "template 'sn-aaaaaaaaaaaaaaaa' not found",
    )
    .await;
    for timeout in ["0", "-5"] {
        let body = format!(r#"{{"templateID":"base","timeout":{timeout}}}"#);
        check(&body, 400, "Timeout must be greater than 0").await;
    }
    check(
        r#"{"templateID":"base","timeout":999999999999}"#,
        400,
        "timeout: at most ten years; 0 for no limit",
    )
    .await;
    check(
        r#"{"templateID":"base","volumeMounts":[{"name":"v","path":"/v"}]}"#,
        400,
        "invalid mounts:\n\t- volume mount #0: volume 'v' not found",
    )
    .await;
    let iam = r#"{"templateID":"base","iam":{"tokens":{"t":{"audience":"a","tokenType":"jwt"}}}}"#;
    check(iam, 400, "iam.tokens.t.tokenType: expected JWT-SVID").await;
    let broken = refused(&app.post("/e2b/v2/sandboxes", "{").await, 400);
    assert!(broken.starts_with("request body: "), "{broken}");
    assert_eq!(app.runtime.guests(), []);
}

#[tokio::test]
async fn a_repeated_request_gives_the_same_sandbox() {
    let app = TestApp::start().await;
    let send = async |body: &'static str| {
        let request = hyper::Request::post("/e2b/v2/sandboxes").header("Idempotency-Key", "a-1");
        app.send(request.body(axum::body::Body::from(body)).unwrap()).await
    };
    let first = send(r#"{"templateID":"base"}"#).await.expect(201);
    let again = send(r#"{"templateID":"base"}"#).await.expect(201);
    assert_eq!(first, again);
    assert_eq!(app.runtime.guests().len(), 1);
    let other = send(r#"{"templateID":"base","timeout":7}"#).await;
    assert!(refused(&other, 409).contains("idempotency key"));
    assert_eq!(other.json()["error_code"], "idempotency_request_mismatch");
}

#[tokio::test]
async fn a_template_is_named_by_id_name_and_tag() {
    let app = TestApp::start().await;
    let built = app
        .post("/v1/builds", r#"{"name":"tool","dockerfile":"FROM host\n","tags":["latest","v1"]}"#)
        .await;
    let build = built.expect(202);
    let target = format!("/v1/builds/{}", build["id"].as_str().unwrap());
    let ready = async {
        while app.get(&target).await.expect(200)["status"] != "ready" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), ready).await.unwrap();
    let id = app.get("/v1/templates/tool").await.expect(200)["id"].as_str().unwrap().to_owned();
    for name in ["tool", "tool:default", "tool:latest", "tool:v1", "default/tool", &id] {
        let body = json!({"templateID": name}).to_string();
        let made = app.post("/e2b/v2/sandboxes", &body).await.expect(201);
        assert_eq!((&made["templateID"], &made["alias"]), (&json!(id), &json!("tool")), "{name}");
    }
    let body = r#"{"templateID":"tool:v2"}"#;
    let message = refused(&app.post("/e2b/v2/sandboxes", body).await, 404);
    assert_eq!(message, "tag 'v2' does not exist for template 'tool'");
    let listed = app.get(&format!("/e2b/v2/sandboxes?template={id}")).await.expect(200);
    assert_eq!(listed.as_array().unwrap().len(), 6);
    let none = app.get("/e2b/v2/sandboxes?template=other").await.expect(200);
    assert_eq!(none, json!([]));
}

#[tokio::test]
async fn what_a_template_has_waiting_serves_these_clients_too() {
    let app = TestApp::start().await;
    app.runtime.set_port(8080, None);
    let body = json!({
        "name": "t", "dockerfile": "FROM host\n", "warm": 1,
        "start": {"command": ["sleep"], "ready": {"port": 8080}, "timeout_seconds": 5},
    });
    app.post("/v1/builds", &body.to_string()).await.expect(202);
    let waits = async {
        while app.app.sandboxes().parked() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), waits).await.unwrap();
    let made = app.post("/e2b/v2/sandboxes", r#"{"templateID":"t"}"#).await.expect(201);
    let id = made["sandboxID"].as_str().unwrap();
    let native = app.get(&format!("/v1/sandboxes/{id}")).await.expect(200);
    assert_eq!(native["warm"], true);
    assert_eq!(made["alias"], "t");
    let agent = app.runtime.agent(&id.parse().unwrap()).unwrap();
    assert_eq!(agent.initialised().last().unwrap()["env"]["E2B_SANDBOX"], "true");
}

#[tokio::test]
async fn what_is_not_there_is_said_in_the_same_form() {
    let app = TestApp::start().await;
    for (method, target, status) in [
        ("GET", "/e2b/nothing", 404),
        ("GET", "/e2b", 404),
        ("PUT", "/e2b/sandboxes", 405),
        ("GET", "/e2b/sandboxes/x", 404),
        ("GET", "/e2b/sandboxes/sb-aaaaaaaaaaaaaaaa", 404),
        ("POST", "/e2b/sandboxes/sb-aaaaaaaaaaaaaaaa/pause", 404),
        ("POST", "/e2b/sandboxes/sb-aaaaaaaaaaaaaaaa/timeout", 400),
    ] {
        refused(&app.ask(method, target, "").await, status);
    }
    let target = "/e2b/sandboxes/sb-aaaaaaaaaaaaaaaa-00000000";
    assert_eq!(refused(&app.get(target).await, 404), missing("sb-aaaaaaaaaaaaaaaa"));
}
