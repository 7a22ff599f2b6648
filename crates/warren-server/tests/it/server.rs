use serde_json::json;

use crate::app::TestApp;

#[tokio::test]
async fn the_server_says_what_it_is() {
    let app = TestApp::start().await;
    assert_eq!(app.get("/v1/health").await.expect(200), json!({"status": "ok"}));
    let version = app.get("/v1/version").await.expect(200);
    assert_eq!(version["version"], "0.0.0-test");
    assert_eq!(version["api"], 1);
    assert_eq!(version["runtime"]["name"], "fake");
    assert_eq!(version["runtime"]["capabilities"]["pause"], true);
}

#[tokio::test]
async fn a_stranger_is_refused_everywhere() {
    let app = TestApp::start().await;
    let id = app.create().await;
    let stranger = app.as_stranger();
    let one = format!("/v1/sandboxes/{id}");
    for (method, target) in [
        ("GET", "/v1/sandboxes".to_owned()),
        ("POST", "/v1/sandboxes".to_owned()),
        ("GET", one.clone()),
        ("DELETE", one.clone()),
        ("POST", format!("{one}/pause")),
        ("POST", format!("{one}/resume")),
        ("GET", format!("{one}/exec")),
        ("POST", format!("{one}/exec")),
        ("GET", format!("{one}/exec/ws")),
        ("GET", format!("{one}/exec/ex-aaaaaaaaaaaaaaaa/output")),
        ("POST", format!("{one}/exec/ex-aaaaaaaaaaaaaaaa/signal")),
        ("GET", format!("{one}/files?path=a")),
        ("PUT", format!("{one}/files?path=a")),
        ("DELETE", format!("{one}/files?path=a")),
        ("GET", format!("{one}/files/stat?path=a")),
        ("GET", format!("{one}/files/list?path=a")),
        ("POST", format!("{one}/files/mkdir?path=a")),
        ("POST", format!("{one}/files/move")),
        ("GET", "/v1/events".to_owned()),
        ("GET", "/v1/version".to_owned()),
        ("POST", "/v1/shutdown".to_owned()),
    ] {
        let answer = stranger.ask(method, &target, "").await;
        assert_eq!(answer.status, 401, "{method} {target}");
        answer.refused(401, "unauthenticated");
    }
    assert!(!app.app.stopping().is_cancelled());
}

#[tokio::test]
async fn only_the_sockets_owner_ends_the_server() {
    let app = TestApp::start().await;
    let remote = app.as_owner("remote").await;
    remote.post("/v1/shutdown", "").await.refused(403, "permission_denied");
    assert!(!app.app.stopping().is_cancelled());
    app.post("/v1/shutdown", "").await.expect(204);
    assert!(app.app.stopping().is_cancelled());
}

#[tokio::test]
async fn what_is_not_there_answers_in_the_same_form() {
    let app = TestApp::start().await;
    for target in ["/", "/v1", "/v1/nothing", "/v2/sandboxes"] {
        app.get(target).await.refused(404, "not_found");
    }
    let patched = app.ask("PATCH", "/v1/sandboxes", "").await;
    patched.refused(405, "unimplemented");
    assert!(patched.headers["allow"].to_str().unwrap().contains("POST"));
}

#[tokio::test]
async fn activity_counts_requests_until_their_bodies_are_sent() {
    let app = TestApp::start().await;
    app.create().await;
    let activity = app.app.activity();
    assert_eq!((activity.living, activity.in_flight), (1, 0));
    let request = hyper::Request::get("/v1/events").body(axum::body::Body::empty()).unwrap();
    let events = app.open(request).await;
    assert_eq!(app.app.activity().in_flight, 1);
    drop(events);
    assert_eq!(app.app.activity().in_flight, 0);
}
