use std::time::Duration;

use axum::body::Body;
use hyper::Request;
use serde_json::json;
use warren_core::{
    config::Config,
    fake::Failure,
    quota::Quota,
    runtime::{Exit, ExitReason},
};

use crate::app::TestApp;

#[tokio::test]
async fn a_sandbox_is_made_with_the_servers_defaults() {
    let app = TestApp::start().await;
    let made = app.post("/v1/sandboxes", "").await.expect(201);
    assert_eq!(made["state"], "running");
    assert_eq!(made["image"], "host");
    assert_eq!(made["profile"], "default");
    assert_eq!(made["network"], "open");
    assert_eq!(made["user"], "user");
    assert_eq!(made["workdir"], "/home/user");
    assert_eq!(made["runtime"], "fake");
    assert_eq!(made["warm"], false);
    assert_eq!(made["labels"], json!({}));
    assert_eq!(made["warnings"], json!(["nothing is isolated: this runtime is a fake"]));
    assert!(made["expires_at"].is_string());
    let steps: Vec<_> =
        made["timing"]["steps"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert_eq!(steps, ["fake", "agent", "store"]);

    let id = made["id"].as_str().unwrap();
    let shown = app.get(&format!("/v1/sandboxes/{id}")).await.expect(200);
    assert_eq!(shown["id"], made["id"]);
    assert!(shown.get("timing").is_none());
}

#[tokio::test]
async fn what_is_wanted_reaches_the_sandbox_and_its_agent() {
    let app = TestApp::start().await;
    let wanted = json!({
        "image": "dir:/srv/root", "name": "mine", "labels": {"a": "b"}, "env": {"KEY": "secret"},
        "user": "root", "workdir": "/srv", "cpu_millis": 500, "memory_bytes": 67108864,
        "pids": 32, "open_files": 128, "lifetime_seconds": 0, "on_deadline": "pause",
        "profile": "strict", "network": "none", "hostname": "box", "warm": false,
    });
    let made = app.post("/v1/sandboxes", &wanted.to_string()).await;
    let text = String::from_utf8_lossy(&made.body).into_owned();
    let made = made.expect(201);
    assert_eq!(made["image"], "dir:/srv/root");
    assert_eq!(made["limits"]["memory_bytes"], 67108864);
    assert_eq!(made["profile"], "strict");
    assert!(made.get("expires_at").is_none());
    assert!(!text.contains("secret"), "an environment is in no answer");

    let id = made["id"].as_str().unwrap().parse().unwrap();
    let told = app.runtime.agent(&id).unwrap().initialised();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["env"]["KEY"], "secret");
    assert_eq!(told[0]["defaultUser"], "root");
    assert_eq!(told[0]["sandboxId"], made["id"]);
    assert_eq!(app.get("/v1/sandboxes/mine").await.expect(200)["id"], made["id"]);
}

#[tokio::test]
async fn a_name_is_unique_among_the_living() {
    let app = TestApp::start().await;
    app.post("/v1/sandboxes", r#"{"name":"a"}"#).await.expect(201);
    let again = app.post("/v1/sandboxes", r#"{"name":"a"}"#).await;
    assert_eq!(again.refused(409, "already_exists"), "a sandbox named a exists");
    app.ask("DELETE", "/v1/sandboxes/a", "").await.expect(204);
    app.post("/v1/sandboxes", r#"{"name":"a"}"#).await.expect(201);
}

#[tokio::test]
async fn removing_one_twice_is_not_found() {
    let app = TestApp::start().await;
    let target = format!("/v1/sandboxes/{}", app.create().await);
    app.ask("DELETE", &target, "").await.expect(204);
    app.ask("DELETE", &target, "").await.refused(404, "not_found");
    app.get(&target).await.refused(404, "not_found");
    assert_eq!(app.runtime.guests(), []);
    assert_eq!(app.app.activity().living, 0);
}

#[tokio::test]
async fn pausing_and_resuming_change_the_state() {
    let app = TestApp::start().await;
    let id = app.create().await;
    let target = format!("/v1/sandboxes/{id}");
    let paused = app.post(&format!("{target}/pause"), "").await.expect(200);
    assert_eq!(paused["state"], "paused");
    assert!(paused.get("expires_at").is_none(), "its lifetime stands still");
    let again = app.post(&format!("{target}/pause"), "").await;
    again.refused(400, "failed_precondition");
    let exec = app.post(&format!("{target}/exec"), r#"{"command":["echo"]}"#).await;
    assert_eq!(
        exec.refused(400, "failed_precondition"),
        format!("sandbox {id} is paused, not running")
    );
    let resumed = app.post(&format!("{target}/resume"), "").await.expect(200);
    assert_eq!(resumed["state"], "running");
    assert!(resumed["expires_at"].is_string());
}

#[tokio::test]
async fn a_runtime_that_cannot_pause_says_so_before_it_is_asked() {
    let app = TestApp::start().await;
    app.runtime.change_capabilities(|it| it.pause = false);
    let id = app.create().await;
    let paused = app.post(&format!("/v1/sandboxes/{id}/pause"), "").await;
    assert_eq!(paused.refused(501, "unimplemented"), "this runtime cannot pause here");
}

#[tokio::test]
async fn a_failed_pause_leaves_it_running() {
    let app = TestApp::start().await;
    let id = app.create().await;
    app.runtime.fail_next(Failure::Pause);
    let message = app.post(&format!("/v1/sandboxes/{id}/pause"), "").await.refused(500, "internal");
    assert!(!message.contains("scripted"), "the cause is for the log");
    assert_eq!(app.get(&format!("/v1/sandboxes/{id}")).await.expect(200)["state"], "running");
}

#[tokio::test]
async fn what_cannot_be_made_leaves_nothing() {
    let app = TestApp::start().await;
    for (failure, status, code) in [
        (Failure::Create, 500, "internal"),
        (Failure::Image, 400, "invalid_argument"),
        (Failure::Initialise, 503, "unavailable"),
    ] {
        app.runtime.fail_next(failure);
        app.post("/v1/sandboxes", r#"{"name":"a"}"#).await.refused(status, code);
        assert_eq!(app.runtime.guests(), [], "{failure:?}");
        assert_eq!(app.get("/v1/sandboxes").await.expect(200)["sandboxes"], json!([]));
    }
    app.post("/v1/sandboxes", r#"{"name":"a"}"#).await.expect(201);
}

#[tokio::test]
async fn the_quota_is_a_limit() {
    let quota = Quota { sandboxes: 1, memory_bytes: None };
    let app = TestApp::with(Config { quota, ..Config::default() }).await;
    let id = app.create().await;
    let more = app.post("/v1/sandboxes", "{}").await;
    assert_eq!(
        more.refused(429, "resource_exhausted"),
        "the server's limit of 1 sandboxes is reached"
    );
    app.ask("DELETE", &format!("/v1/sandboxes/{id}"), "").await.expect(204);
    app.create().await;
}

#[tokio::test]
async fn a_repeated_request_answers_with_the_first_sandbox() {
    let app = TestApp::start().await;
    let send = async |key: &str, body: &str| {
        let request = Request::post("/v1/sandboxes").header("idempotency-key", key);
        app.send(request.body(Body::from(body.to_owned())).unwrap()).await
    };
    let (first, second) = futures::join!(send("k1", "{}"), send("k1", "{}"));
    assert_eq!(first.expect(201)["id"], second.expect(201)["id"]);
    let other = send("k2", "{}").await.expect(201);
    assert_ne!(first.json()["id"], other["id"]);
    send("k1", r#"{"pids":64}"#).await.refused(400, "failed_precondition");
    send("a b", "{}").await.refused(400, "invalid_argument");
    app.runtime.fail_next(Failure::Create);
    send("k3", "{}").await.refused(500, "internal");
    send("k3", "{}").await.expect(201);
}

#[tokio::test]
async fn one_that_ended_by_itself_says_how() {
    let app = TestApp::start().await;
    let id = app.create().await;
    let exit = Exit { reason: ExitReason::OutOfMemory, oom_kills: 1 };
    app.runtime.exit(&id.parse().unwrap(), exit);
    let target = format!("/v1/sandboxes/{id}");
    let shown = wait_for(&app, &target, "stopped").await;
    assert_eq!(shown["end"]["reason"], "out_of_memory");
    assert!(shown["ended_at"].is_string());
    assert_eq!(shown["startable"], true);
    let ended = app.get("/v1/sandboxes?state=stopped").await.expect(200);
    assert_eq!(ended["sandboxes"][0]["id"], shown["id"]);
    app.ask("DELETE", &target, "").await.expect(204);
    app.get(&target).await.refused(404, "not_found");
}

#[tokio::test]
async fn its_lifetime_ends_it() {
    let app = TestApp::start().await;
    let made = app.post("/v1/sandboxes", r#"{"lifetime_seconds":1}"#).await.expect(201);
    let target = format!("/v1/sandboxes/{}", made["id"].as_str().unwrap());
    let shown = wait_for(&app, &target, "stopped").await;
    assert_eq!(shown["end"]["reason"], "timeout");
    assert_eq!(app.runtime.guests(), []);
}

#[tokio::test]
async fn a_list_is_filtered_and_paged() {
    let app = TestApp::start().await;
    for label in ["x", "x", "y"] {
        let body = json!({"labels": {"kind": label}, "name": format!("n-{label}")});
        let body = if label == "y" { body } else { json!({"labels": {"kind": label}}) };
        app.post("/v1/sandboxes", &body.to_string()).await.expect(201);
    }
    let count = async |query: &str| {
        let list = app.get(&format!("/v1/sandboxes{query}")).await.expect(200);
        list["sandboxes"].as_array().unwrap().len()
    };
    assert_eq!(count("").await, 3);
    assert_eq!(count("?label=kind=x").await, 2);
    assert_eq!(count("?label=kind=x&label=kind=y").await, 1);
    assert_eq!(count("?name=n-y").await, 1);
    assert_eq!(count("?state=paused").await, 0);
    assert_eq!(count("?state=paused&state=running").await, 3);

    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = app.get(&format!("/v1/sandboxes?limit=2{cursor}")).await.expect(200);
        seen.extend(page["sandboxes"].as_array().unwrap().iter().map(|it| it["id"].clone()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 3);
    seen.dedup();
    assert_eq!(seen.len(), 3);
}

#[tokio::test]
async fn somebody_elses_is_not_found() {
    let app = TestApp::start().await;
    let id = app.create().await;
    let other = app.as_owner("other").await;
    for (method, path) in [
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/pause"),
        ("POST", "/resume"),
        ("GET", "/exec"),
        ("GET", "/files?path=a"),
    ] {
        let answer = other.ask(method, &format!("/v1/sandboxes/{id}{path}"), "").await;
        answer.refused(404, "not_found");
    }
    assert_eq!(other.get("/v1/sandboxes").await.expect(200)["sandboxes"], json!([]));
}

#[tokio::test]
async fn a_request_that_is_dropped_is_finished_all_the_same() {
    let app = TestApp::start().await;
    let gate = app.runtime.close_gate();
    let request = app.post("/v1/sandboxes", r#"{"name":"late"}"#);
    assert!(tokio::time::timeout(Duration::from_millis(20), request).await.is_err());
    assert_eq!(app.get("/v1/sandboxes/late").await.expect(200)["state"], "creating");
    gate.notify_one();
    wait_for(&app, "/v1/sandboxes/late", "running").await;
}

/// Asks until the sandbox is in a state, and gives it then.
async fn wait_for(app: &TestApp, target: &str, state: &str) -> serde_json::Value {
    let reached = async {
        loop {
            let shown = app.get(target).await.expect(200);
            if shown["state"] == state {
                return shown;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), reached).await.expect("reached in time")
}

#[tokio::test]
async fn a_sandbox_is_stopped_started_and_extended() {
    let app = TestApp::start().await;
    let id = app.create().await;
    let stopped = app.post(&format!("/v1/sandboxes/{id}/stop"), "{}").await.expect(200);
    assert_eq!(stopped["state"], "stopped");
    assert_eq!(stopped["startable"], true);
    assert_eq!(stopped["end"]["reason"], "stopped");
    let listed = app.get("/v1/sandboxes").await.expect(200);
    assert_eq!(listed["sandboxes"][0]["id"], id.as_str());
    let twice = app.post(&format!("/v1/sandboxes/{id}/stop"), "{}").await;
    assert!(twice.refused(400, "failed_precondition").contains("cannot be stopped"));
    let metrics = app.get(&format!("/v1/sandboxes/{id}/metrics")).await;
    assert!(metrics.refused(400, "failed_precondition").contains("not running"));

    let started = app.post(&format!("/v1/sandboxes/{id}/start"), "{}").await.expect(200);
    assert_eq!(started["state"], "running");
    assert_eq!(started["startable"], false);
    assert!(started["timing"]["total_us"].as_u64().is_some_and(|us| us > 0), "{started}");
    let target = format!("/v1/sandboxes/{id}/extend");
    let extended = app.post(&target, r#"{"lifetime_seconds":0}"#).await.expect(200);
    assert!(extended.get("expires_at").is_none(), "{extended}");
    app.post(&target, "{}").await.refused(400, "invalid_argument");
    app.post(&target, r#"{"lifetime_seconds":-1}"#).await.refused(400, "invalid_argument");
    let metrics = app.get(&format!("/v1/sandboxes/{id}/metrics")).await.expect(200);
    assert_eq!(metrics["oom_kills"], 0);
    assert_eq!(metrics["limits"], extended["limits"]);
}

#[tokio::test]
async fn a_port_needs_a_number_an_upgrade_and_a_runtime_that_can() {
    let app = TestApp::start().await;
    let id = app.create().await;
    for port in ["0", "65536", "http"] {
        let answer = app.get(&format!("/v1/sandboxes/{id}/ports/{port}")).await;
        assert!(answer.refused(400, "invalid_argument").contains("1 to 65535"));
    }
    let answer = app.get(&format!("/v1/sandboxes/{id}/ports/80")).await;
    assert!(answer.refused(400, "invalid_argument").contains("Upgrade: tcp"));
    app.runtime.set_port(8080, None);
    let listed = app.get(&format!("/v1/sandboxes/{id}/ports")).await.expect(200);
    assert_eq!(listed["ports"][0]["port"], 8080);
}

#[tokio::test]
async fn rules_of_a_network_are_shown_changed_and_explained() {
    let app = TestApp::start().await;
    let rules = r#"{"network":{"rules":[{"action":"allow","to":"*.a.example:443"}]}}"#;
    let made = app.post("/v1/sandboxes", rules).await.expect(201);
    assert_eq!(made["network"]["otherwise"], "deny");
    let network = format!("/v1/sandboxes/{}/network", made["id"].as_str().unwrap());

    let explain = format!("{network}/explain");
    let explained = app.post(&explain, r#"{"host":"x.a.example","port":443}"#).await.expect(200);
    assert_eq!(explained["allowed"], true);
    assert_eq!(explained["index"], 0);
    let explained = app.post(&explain, r#"{"host":"10.0.0.1"}"#).await.expect(200);
    assert_eq!(explained["message"], "no sandbox reaches private addresses");

    let set = app.ask("PUT", &network, r#"{"network":"off"}"#).await.expect(200);
    assert_eq!(set["network"], "none");
    let shown = app.get(&network).await.expect(200);
    assert_eq!(shown["traffic"]["denied"], 0);

    for (body, said) in [
        (r#"{"network":"wide"}"#, "`open`, `none` or an object"),
        (r#"{"network":{"rules":[{"action":"allow","to":"http://x"}]}}"#, "not URLs"),
        (r#"{"network":{"allow":["x"]}}"#, "`allow`"),
    ] {
        let message = app.ask("PUT", &network, body).await.refused(400, "invalid_argument");
        assert!(message.contains(said), "{message}");
    }
}
