//! Readiness and metrics.

use warren_core::fake::Failure;

use crate::app::TestApp;

#[tokio::test]
async fn a_server_is_ready_until_it_ends_and_says_so_to_anybody() {
    let app = TestApp::start().await;
    assert_eq!(app.as_stranger().get("/v1/ready").await.expect(200)["status"], "ok");
    app.post("/v1/shutdown", "").await.expect(204);
    let reason = app.as_stranger().get("/v1/ready").await.refused(503, "unavailable");
    assert_eq!(reason, "the server is shutting down");
}

#[tokio::test]
async fn a_machine_that_cannot_isolate_is_not_ready() {
    let app = TestApp::start().await;
    app.runtime.fail_next(Failure::Check);
    let reason = app.get("/v1/ready").await.refused(503, "unavailable");
    assert_eq!(reason, "the runtime cannot start sandboxes");
    // Kept for a moment: whoever asks often must not make work.
    app.get("/v1/ready").await.refused(503, "unavailable");
}

#[tokio::test]
async fn a_database_that_is_closed_is_not_ready() {
    let app = TestApp::start().await;
    app.app.sandboxes().shut_down().await;
    let reason = app.get("/v1/ready").await.refused(503, "unavailable");
    assert_eq!(reason, "the server is shutting down");
}

#[tokio::test]
async fn metrics_are_for_the_host_alone() {
    let app = TestApp::start().await;
    app.as_stranger().get("/v1/metrics").await.refused(401, "unauthenticated");
    app.as_owner("remote").await.get("/v1/metrics").await.refused(403, "permission_denied");
}

async fn metrics(app: &TestApp) -> String {
    let answer = app.get("/v1/metrics").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    String::from_utf8(answer.body.to_vec()).unwrap()
}

#[track_caller]
fn says(page: &str, line: &str) {
    assert!(page.lines().any(|it| it == line), "no line {line} in\n{page}");
}

#[tokio::test]
async fn what_happens_is_counted() {
    let app = TestApp::start().await;
    let id = app.create().await;
    app.post(&format!("/v1/sandboxes/{id}/exec"), r#"{"command":["echo"]}"#).await.expect(200);
    app.runtime.fail_next(Failure::Image);
    app.post("/v1/sandboxes", r#"{"image":"dir:/nowhere","warm":false}"#).await.expect(400);
    app.get("/v1/sandboxes/nobodys").await.expect(404);
    app.get("/v1/nothing").await.expect(404);
    app.get("/e2b/nothing").await.expect(404);
    app.ask("BREW", "/e2b/sandboxes", "").await.expect(405);
    app.get(&format!("/e2b/sandboxes/{id}")).await.expect(200);
    let page = metrics(&app).await;
    says(&page, r#"warren_build_info{version="0.0.0-test"} 1"#);
    says(&page, r#"warren_sandboxes{state="running"} 1"#);
    says(&page, "warren_create_duration_seconds_count 1");
    says(&page, r#"warren_create_duration_seconds_bucket{le="+Inf"} 1"#);
    says(&page, r#"warren_create_failures_total{code="invalid_argument"} 1"#);
    says(&page, "warren_execs_started_total 1");
    let created = r#"method="post",route="/v1/sandboxes",status="201""#;
    says(&page, &format!("warren_http_requests_total{{{created}}} 1"));
    let missing = r#"method="get",route="/v1/sandboxes/{id}",status="404""#;
    says(&page, &format!("warren_http_requests_total{{{missing}}} 1"));
    let other = r#"method="other",route="other",status="404""#;
    says(&page, &format!("warren_http_requests_total{{{other}}} 2"));
    let other = r#"method="other",route="other",status="405""#;
    says(&page, &format!("warren_http_requests_total{{{other}}} 1"));
    let e2b = r#"method="get",route="/e2b/sandboxes/{id}",status="200""#;
    says(&page, &format!("warren_http_requests_total{{{e2b}}} 1"));
    says(&page, "warren_store_commit_failures_total 0");
    says(&page, "warren_runtime_warnings 1");
    // No label names a sandbox: who makes many must not make the page long.
    assert!(!page.contains(&id), "{page}");
}

#[tokio::test]
async fn every_line_of_the_page_is_in_the_format() {
    let app = TestApp::start().await;
    app.create().await;
    let page = metrics(&app).await;
    let mut family = "";
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().unwrap();
        } else if !line.starts_with("# HELP ") {
            assert!(line.starts_with(family), "{line} is not of {family}");
            let (_, value) = line.rsplit_once(' ').expect("a name and a value");
            value.parse::<f64>().expect("a number");
        }
    }
    assert!(page.ends_with('\n') && page.contains("process_resident_memory_bytes "));
}

#[tokio::test]
async fn open_streams_are_counted_while_they_are_open() {
    let app = TestApp::start().await;
    let request = hyper::Request::get("/v1/events").body(axum::body::Body::empty()).unwrap();
    let events = app.open(request).await;
    says(&metrics(&app).await, "warren_open_streams 1");
    drop(events);
    says(&metrics(&app).await, "warren_open_streams 0");
}
