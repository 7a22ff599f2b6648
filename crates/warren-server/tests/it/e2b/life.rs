//! How long sandboxes live.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use warren_core::fake::{Failure, FakeClock};

use super::{create, detail, missing, refused};
use crate::app::TestApp;

/// 2026-11-22 00:00:00 UTC.
const START: u64 = 1_795_305_600_000;

async fn app() -> (TestApp, Arc<FakeClock>) {
    let clock = Arc::new(FakeClock::at(START));
    (TestApp::at(Arc::clone(&clock)).await, clock)
}

async fn end(app: &TestApp, id: &str) -> Value {
    detail(app, id).await["endAt"].clone()
}

/// Waits until a sandbox is shown in this state; none for one that is not shown.
async fn comes_to(app: &TestApp, id: &str, state: Option<&str>) {
    let came = async {
        loop {
            let answer = app.get(&format!("/e2b/sandboxes/{id}")).await;
            let shown = (answer.status == 200).then(|| answer.json()["state"].clone());
            if shown.as_ref().and_then(Value::as_str) == state {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), came).await.expect("a change of state");
}

#[tokio::test]
async fn a_sandbox_lives_as_long_as_its_version_has_it() {
    let (app, _clock) = app().await;
    let v2 = create(&app, json!({})).await;
    assert_eq!(end(&app, &v2).await, "2026-11-22T00:05:00.000Z");
    let v1 = app.post("/e2b/sandboxes", r#"{"templateID":"base"}"#).await.expect(201);
    let v1 = v1["sandboxID"].as_str().unwrap();
    assert_eq!(end(&app, v1).await, "2026-11-22T00:00:15.000Z");
    assert_eq!(detail(&app, v1).await["lifecycle"]["onTimeout"], "kill");
}

#[tokio::test]
async fn connect_never_shortens_and_timeout_overwrites() {
    let (app, clock) = app().await;
    let id = create(&app, json!({"timeout": 300})).await;
    let connect = async |body: &str| {
        let answer = app.post(&format!("/e2b/v2/sandboxes/{id}/connect"), body).await;
        answer.expect(200)
    };
    let before = end(&app, &id).await;
    clock.advance(Duration::from_secs(10));
    let shorter = connect(r#"{"timeout":5}"#).await;
    assert_eq!(shorter["sandboxID"], id.as_str());
    assert_eq!(end(&app, &id).await, before);
    connect(r#"{"timeout":600}"#).await;
    assert_eq!(end(&app, &id).await, "2026-11-22T00:10:10.000Z");
    connect("{}").await;
    assert_eq!(end(&app, &id).await, "2026-11-22T00:10:10.000Z");
    let set =
        async |path: &str, body: &str| app.post(&format!("/e2b/sandboxes/{id}/{path}"), body).await;
    set("timeout", r#"{"timeout":7}"#).await.expect(204);
    assert_eq!(end(&app, &id).await, "2026-11-22T00:00:17.000Z");
    set("refreshes", r#"{"duration":3}"#).await.expect(204);
    assert_eq!(end(&app, &id).await, "2026-11-22T00:00:17.000Z");
    set("refreshes", r#"{"duration":60}"#).await.expect(204);
    assert_eq!(end(&app, &id).await, "2026-11-22T00:01:10.000Z");
    let message = refused(&set("refreshes", r#"{"duration":3601}"#).await, 400);
    assert_eq!(message, "duration: expected 0 to 3600 seconds");
    refused(&set("timeout", r#"{"timeout":-1}"#).await, 400);
    refused(&set("timeout", "{}").await, 400);
    let message = refused(&set("connect", r#"{"timeout":0}"#).await, 400);
    assert_eq!(message, "Timeout must be greater than 0");
}

#[tokio::test]
async fn a_timeout_of_nothing_is_the_end() {
    let (app, _clock) = app().await;
    let id = create(&app, json!({})).await;
    app.post(&format!("/e2b/sandboxes/{id}/timeout"), r#"{"timeout":0}"#).await.expect(204);
    comes_to(&app, &id, None).await;
    let gone = app.post(&format!("/e2b/sandboxes/{id}/connect"), r#"{"timeout":5}"#).await;
    assert_eq!(refused(&gone, 404), missing(&id));
    assert_eq!(app.get("/e2b/v2/sandboxes").await.expect(200), json!([]));
}

#[tokio::test]
async fn a_sandbox_is_paused_and_connected_to_again() {
    let (app, clock) = app().await;
    let id = create(&app, json!({"timeout": 60})).await;
    let post =
        async |path: &str, body: &str| app.post(&format!("/e2b/sandboxes/{id}/{path}"), body).await;
    let token = post("connect", r#"{"timeout":1}"#).await.expect(200)["envdAccessToken"].clone();
    post("pause", "{}").await.expect(204);
    assert_eq!(detail(&app, &id).await["state"], "paused");
    assert_eq!(refused(&post("pause", "{}").await, 409), format!("Sandbox {id} is already paused"));
    refused(&post("refreshes", "{}").await, 404);
    clock.advance(Duration::from_secs(1000));
    let connected = post("connect", r#"{"timeout":30}"#).await.expect(201);
    assert_eq!(connected["envdAccessToken"], token);
    assert_eq!(end(&app, &id).await, "2026-11-22T00:17:10.000Z");
    assert_eq!(app.runtime.counts().0, 1, "the same guest");
    let running = refused(&post("resume", "{}").await, 409);
    assert_eq!(running, format!("Sandbox {id} is already running"));
    post("pause", "").await.expect(204);
    post("resume", "").await.expect(201);
    assert_eq!(end(&app, &id).await, "2026-11-22T00:16:55.000Z");
}

#[tokio::test]
async fn a_pause_without_memory_boots_anew() {
    let (app, _clock) = app().await;
    let id = create(&app, json!({"envVars": {"KEY": "kept"}})).await;
    let post =
        async |path: &str, body: &str| app.post(&format!("/e2b/sandboxes/{id}/{path}"), body).await;
    post("pause", r#"{"memory":false}"#).await.expect(204);
    assert_eq!(detail(&app, &id).await["state"], "paused");
    let native = app.get(&format!("/v1/sandboxes/{id}")).await.expect(200);
    assert_eq!(native["state"], "stopped");
    refused(&post("pause", "{}").await, 409);
    post("connect", r#"{"timeout":30}"#).await.expect(201);
    let agent = app.runtime.agent(&id.parse().unwrap()).unwrap();
    assert_eq!(agent.initialised().last().unwrap()["env"]["KEY"], "kept");
    // What was frozen can be booted as well.
    post("pause", "{}").await.expect(204);
    post("connect", r#"{"timeout":30,"memory":false}"#).await.expect(201);
    assert_eq!(detail(&app, &id).await["state"], "running");
    // And what is paused is killed with all that is kept.
    post("pause", r#"{"memory":false}"#).await.expect(204);
    app.ask("DELETE", &format!("/e2b/sandboxes/{id}"), "").await.expect(204);
    assert_eq!(app.runtime.guests(), []);
}

#[tokio::test]
async fn a_runtime_that_cannot_freeze_keeps_the_files() {
    let app = TestApp::start().await;
    app.runtime.change_capabilities(|it| it.pause = false);
    let id = create(&app, json!({})).await;
    app.post(&format!("/e2b/sandboxes/{id}/pause"), "{}").await.expect(204);
    let native = app.get(&format!("/v1/sandboxes/{id}")).await.expect(200);
    assert_eq!(native["state"], "stopped");
    app.post(&format!("/e2b/sandboxes/{id}/connect"), "{}").await.expect(201);
}

#[tokio::test]
async fn at_the_end_a_sandbox_is_killed_paused_or_stopped() {
    let (app, _clock) = app().await;
    for (fields, shown, native) in [
        (json!({}), None, None),
        (json!({"autoPause": false}), None, None),
        (json!({"autoPause": true}), Some("paused"), Some("paused")),
        (json!({"autoPause": true, "autoPauseMemory": false}), Some("paused"), Some("stopped")),
    ] {
        let id = create(&app, fields.clone()).await;
        app.post(&format!("/e2b/sandboxes/{id}/timeout"), r#"{"timeout":0}"#).await.expect(204);
        comes_to(&app, &id, shown).await;
        if let Some(native) = native {
            let found = app.get(&format!("/v1/sandboxes/{id}")).await.expect(200);
            assert_eq!(found["state"], native, "{fields}");
            // It goes on for as long as is asked for, and no end is left over.
            app.post(&format!("/e2b/v2/sandboxes/{id}/connect"), "{}").await.expect(201);
            assert_eq!(end(&app, &id).await, "2026-11-22T00:05:00.000Z");
        }
    }
    let both = r#"{"templateID":"base","autoPause":true,"autoPauseMemory":false,"autoResume":{"enabled":true}}"#;
    refused(&app.post("/e2b/v2/sandboxes", both).await, 400);
}

#[tokio::test]
async fn what_a_visitor_wakes_lives_for_five_minutes_at_least() {
    let (app, _clock) = app().await;
    for (timeout, expected) in [(5, "2026-11-22T00:05:00.000Z"), (600, "2026-11-22T00:10:00.000Z")]
    {
        let fields =
            json!({"timeout": timeout, "autoPause": true, "autoResume": {"enabled": true}});
        let id = create(&app, fields).await;
        app.post(&format!("/e2b/sandboxes/{id}/pause"), "{}").await.expect(204);
        let visit = app.app.sandboxes().visit(id.parse().unwrap()).unwrap();
        visit.ready(true, Duration::from_secs(10)).await.unwrap();
        let shown = detail(&app, &id).await;
        assert_eq!((&shown["state"], &shown["endAt"]), (&json!("running"), &json!(expected)));
    }
}

#[tokio::test]
async fn a_visitor_boots_what_could_not_be_frozen_and_not_what_was_not_to_be() {
    let (app, _clock) = app().await;
    let fields = json!({"timeout": 5, "autoPause": true, "autoResume": {"enabled": true}});
    let id = create(&app, fields.clone()).await;
    let visit = app.app.sandboxes().visit(id.parse().unwrap()).unwrap();
    let pause = format!("/e2b/sandboxes/{id}/pause");
    app.post(&pause, r#"{"memory":false}"#).await.expect(204);
    assert_eq!(detail(&app, &id).await["pauseMode"], "filesystem");
    let refused = visit.ready(true, Duration::from_secs(10)).await;
    assert_eq!(refused.map_err(|state| state.name()), Err("stopped"));
    app.runtime.change_capabilities(|it| it.pause = false);
    let refused = visit.ready(false, Duration::from_secs(10)).await;
    assert_eq!(refused.map_err(|state| state.name()), Err("stopped"));
    visit.ready(true, Duration::from_secs(10)).await.unwrap();
    let shown = detail(&app, &id).await;
    assert_eq!(
        (&shown["state"], &shown["endAt"]),
        (&json!("running"), &json!("2026-11-22T00:05:00.000Z"))
    );
    assert_eq!(shown.get("pauseMode"), None);
    // Nobody has said that visitors wake this one.
    let id = create(&app, json!({"autoPause": true})).await;
    app.post(&format!("/e2b/sandboxes/{id}/pause"), "{}").await.expect(204);
    let visit = app.app.sandboxes().visit(id.parse().unwrap()).unwrap();
    assert!(visit.ready(true, Duration::from_secs(10)).await.is_err());
}

#[tokio::test]
async fn what_cannot_be_frozen_at_its_end_keeps_its_files() {
    let (app, _clock) = app().await;
    app.runtime.fail_next(Failure::Pause);
    let id = create(&app, json!({"autoPause": true})).await;
    app.post(&format!("/e2b/sandboxes/{id}/timeout"), r#"{"timeout":0}"#).await.expect(204);
    comes_to(&app, &id, Some("paused")).await;
    app.post(&format!("/e2b/v2/sandboxes/{id}/connect"), "{}").await.expect(201);
}

#[tokio::test]
async fn a_resume_says_what_happens_at_the_end() {
    let (app, _clock) = app().await;
    let id = create(&app, json!({})).await;
    let post =
        async |path: &str, body: &str| app.post(&format!("/e2b/sandboxes/{id}/{path}"), body).await;
    for (body, expected) in
        [(r#"{"autoPause":true}"#, "pause"), ("{}", "pause"), (r#"{"autoPause":false}"#, "kill")]
    {
        post("pause", "{}").await.expect(204);
        assert_eq!(detail(&app, &id).await["pauseMode"], "full");
        post("resume", body).await.expect(201);
        assert_eq!(detail(&app, &id).await["lifecycle"]["onTimeout"], expected, "{body}");
    }
}

#[tokio::test]
async fn a_pause_may_want_an_agent_that_answers() {
    let (app, _clock) = app().await;
    let id = create(&app, json!({})).await;
    let target = format!("/e2b/sandboxes/{id}/pause");
    let strict = r#"{"requireHealthyGuest":true}"#;
    app.post(&target, strict).await.expect(204);
    app.post(&format!("/e2b/sandboxes/{id}/connect"), "{}").await.expect(201);
    assert_eq!(detail(&app, &id).await["state"], "running");
}

#[tokio::test]
async fn of_several_connects_to_a_paused_sandbox_all_succeed() {
    let app = TestApp::start().await;
    let id = create(&app, json!({})).await;
    app.post(&format!("/e2b/sandboxes/{id}/pause"), "{}").await.expect(204);
    let target = format!("/e2b/v2/sandboxes/{id}/connect");
    let (one, two, three) =
        tokio::join!(app.post(&target, "{}"), app.post(&target, "{}"), app.post(&target, "{}"));
    let mut statuses = [one.status, two.status, three.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 201]);
}
