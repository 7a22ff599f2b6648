use axum::body::Body;
use hyper::Request;
use serde_json::{Value, json};

use crate::app::{Answer, TestApp};

async fn exec(app: &TestApp, id: &str, body: Value) -> Answer {
    app.post(&format!("/v1/sandboxes/{id}/exec"), &body.to_string()).await
}

async fn stream(app: &TestApp, id: &str, body: Value) -> Answer {
    let request = Request::post(format!("/v1/sandboxes/{id}/exec"))
        .header("accept", "application/x-ndjson")
        .body(Body::from(body.to_string()))
        .unwrap();
    app.send(request).await
}

#[tokio::test]
async fn a_command_is_waited_for() {
    let app = TestApp::start().await;
    let id = app.create().await;
    let outcome = exec(&app, &id, json!({"command": ["echo", "hi", "there"]})).await.expect(200);
    assert_eq!(outcome["exit_code"], 0);
    assert_eq!(outcome["stdout"], "hi there\n");
    assert_eq!(outcome["stderr"], "");
    assert_eq!(outcome["truncated"], false);
    assert_eq!(outcome["timed_out"], false);
    assert!(outcome.get("stdout_base64").is_none());
    assert!(outcome["exec_id"].as_str().unwrap().starts_with("ex-"));
    let failed = exec(&app, &id, json!({"command": ["fail", "7"]})).await.expect(200);
    assert_eq!(failed["exit_code"], 7);
    assert_eq!(failed["stderr"], "failed\n");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_not_found() {
    let app = TestApp::start().await;
    let id = app.create().await;
    let missing = exec(&app, &id, json!({"command": ["nonsense"]})).await;
    assert_eq!(missing.refused(404, "not_found"), "no program named nonsense");
}

#[tokio::test]
async fn a_command_is_streamed_line_by_line() {
    let app = TestApp::start().await;
    let id = app.create().await;
    let answer = stream(&app, &id, json!({"command": ["echo", "hi"]})).await;
    assert_eq!(answer.headers["content-type"], "application/x-ndjson");
    let lines = answer.lines();
    let kinds: Vec<_> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["start", "stdout", "end"]);
    assert_eq!(lines[1]["data"], "aGkK");
    assert_eq!(lines[1]["offset"], 0);
    assert_eq!(lines[2]["exit_code"], 0);
}

#[tokio::test]
async fn what_it_reads_is_sent_and_ended() {
    let app = TestApp::start().await;
    let id = app.create().await;
    let request = json!({"command": ["cat"], "stdin_data": "AP8K"});
    let outcome = exec(&app, &id, request).await.expect(200);
    assert_eq!(outcome["exit_code"], 0);
    assert_eq!(outcome["stdout_base64"], "AP8K");
}

#[tokio::test]
async fn output_beyond_the_limit_is_cut_off_and_said() {
    let app = TestApp::start().await;
    let id = app.create().await;
    let flood = exec(&app, &id, json!({"command": ["flood", "9000000"]})).await.expect(200);
    assert_eq!(flood["stdout"].as_str().unwrap().len(), 2 << 20);
    assert_eq!(flood["truncated"], true);
    assert_eq!(flood["exit_code"], 0);
}

#[tokio::test]
async fn a_detached_command_is_found_again() {
    let app = TestApp::start().await;
    let id = app.create().await;
    let request = json!({"command": ["cat"], "detach": true});
    let started = exec(&app, &id, request).await.expect(202);
    let exec_id = started["exec_id"].as_str().unwrap();
    let execs = format!("/v1/sandboxes/{id}/exec");
    let listed = app.get(&execs).await.expect(200);
    assert_eq!(listed["execs"][0]["exec_id"], started["exec_id"]);
    assert_eq!(listed["execs"][0]["command"], json!(["cat"]));
    assert!(listed["execs"][0].get("end").is_none());

    let kill = format!("{execs}/{exec_id}/signal");
    app.post(&kill, r#"{"signal":"KILL"}"#).await.expect(204);
    app.post(&kill, r#"{"signal":"KILL"}"#).await.refused(404, "not_found");
    let lines = app.get(&format!("{execs}/{exec_id}/output")).await.lines();
    let end = lines.last().unwrap();
    assert_eq!((&end["type"], &end["exit_code"]), (&json!("end"), &json!(137)));
    assert_eq!(end["signal"], 9);
}

#[tokio::test]
async fn output_is_replayed_from_an_offset() {
    let app = TestApp::start().await;
    let id = app.create().await;
    let done = exec(&app, &id, json!({"command": ["echo", "hello"]})).await.expect(200);
    let exec_id = done["exec_id"].as_str().unwrap();
    let target = format!("/v1/sandboxes/{id}/exec/{exec_id}/output?offset=3");
    let lines = app.get(&target).await.lines();
    assert_eq!((&lines[1]["data"], &lines[1]["offset"]), (&json!("bG8K"), &json!(3)));
    assert_eq!(lines[2]["type"], "end");
    let other = format!("/v1/sandboxes/{id}/exec/ex-aaaaaaaaaaaaaaaa/output");
    app.get(&other).await.refused(404, "not_found");
}

#[tokio::test]
async fn running_out_of_memory_is_told_with_the_limit() {
    let app = TestApp::start().await;
    let id = app.create().await;
    let request = json!({"command": ["sleep"], "detach": true});
    let started = exec(&app, &id, request).await.expect(202);
    let exec_id = started["exec_id"].as_str().unwrap();
    let target = format!("/v1/sandboxes/{id}/exec/{exec_id}");
    let output = app.open(Request::get(format!("{target}/output")).body(Body::empty()).unwrap());
    let output = output.await;
    app.runtime.count_oom_kill(&id.parse().unwrap());
    app.post(&format!("{target}/signal"), r#"{"signal":"9"}"#).await.expect(204);
    let body = http_body_util::BodyExt::collect(output.into_body()).await.unwrap().to_bytes();
    let last = std::str::from_utf8(&body).unwrap().lines().last().unwrap();
    let end: Value = serde_json::from_str(last).unwrap();
    assert_eq!(end["out_of_memory"]["limit_bytes"], 1 << 30);
}

#[tokio::test]
async fn a_stream_tells_when_its_sandbox_is_removed() {
    let app = TestApp::start().await;
    let id = app.create().await;
    let (answer, _) = futures::join!(stream(&app, &id, json!({"command": ["sleep"]})), async {
        let execs = format!("/v1/sandboxes/{id}/exec");
        while app.get(&execs).await.expect(200)["execs"] == json!([]) {
            tokio::task::yield_now().await;
        }
        app.ask("DELETE", &format!("/v1/sandboxes/{id}"), "").await.expect(204);
    });
    let last = answer.lines().pop().unwrap();
    assert_eq!((&last["type"], &last["code"]), (&json!("error"), &json!("aborted")));
}

#[tokio::test]
async fn an_agent_that_lies_is_not_believed() {
    let app = TestApp::start().await;
    let id = app.create().await;
    for lie in ["garbage", "huge", "no-end"] {
        let last = stream(&app, &id, json!({"command": [lie]})).await.lines().pop().unwrap();
        assert_eq!((&last["type"], &last["code"]), (&json!("error"), &json!("unavailable")));
        let waited = exec(&app, &id, json!({"command": [lie]})).await;
        waited.refused(503, "unavailable");
        // The next command has a connection of its own.
        exec(&app, &id, json!({"command": ["echo"]})).await.expect(200);
    }
}

#[tokio::test]
async fn an_agent_that_hangs_up_breaks_its_own_stream_alone() {
    let app = TestApp::start().await;
    let id = app.create().await;
    let other = app.create().await;
    let last = stream(&app, &id, json!({"command": ["hang-up"]})).await.lines().pop().unwrap();
    assert_eq!((&last["type"], &last["code"]), (&json!("error"), &json!("unavailable")));
    exec(&app, &other, json!({"command": ["echo"]})).await.expect(200);
}

#[tokio::test]
async fn a_connection_to_the_agent_is_used_again() {
    let app = TestApp::start().await;
    let id = app.create().await;
    for _ in 0..5 {
        exec(&app, &id, json!({"command": ["echo"]})).await.expect(200);
    }
    // One to each of its sockets, and perhaps one that was opened ahead.
    assert!(app.runtime.agent(&id.parse().unwrap()).unwrap().connections() <= 3);
}
