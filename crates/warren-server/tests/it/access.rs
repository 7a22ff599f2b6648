//! Who is let in over TCP, and as whom. In this process: the sockets are in `tcp`.

use std::net::{IpAddr, Ipv4Addr};

use axum::body::Body;
use hyper::{Request, Response, service::Service as _};
use warren_core::{
    Caller,
    access::{KeyScope, WantedKey},
};
use warren_server::{Access, Config, Face};

use crate::app::{Answer, TestApp};

const AFAR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Somebody who comes over TCP.
#[derive(Debug)]
pub(crate) struct Remote {
    face: Face,
    headers: Vec<(&'static str, String)>,
}

impl TestApp {
    pub(crate) fn over_tcp(&self, access: Access) -> Remote {
        self.over_tcp_from(AFAR, access)
    }

    pub(crate) fn over_tcp_from(&self, address: IpAddr, access: Access) -> Remote {
        let face = Face::new(self.app.clone()).over_tcp(address, access, false);
        Remote { face, headers: vec![("host", "box.example:7423".to_owned())] }
    }

    /// Makes a key and gives it in full.
    pub(crate) async fn key(&self, scope: KeyScope) -> String {
        let wanted = WantedKey { name: "test".to_owned(), scope, lifetime: None };
        let made = self.app.sandboxes().create_key(&Caller::local(), wanted).await;
        made.unwrap().1.expose().to_owned()
    }

    pub(crate) async fn project_key(&self, project: &str) -> String {
        self.key(KeyScope::Project(project.parse().unwrap())).await
    }
}

impl Remote {
    /// The same with one header more, or another value of it.
    pub(crate) fn with(&self, name: &'static str, value: &str) -> Self {
        let mut headers = self.headers.clone();
        headers.retain(|(known, _)| *known != name);
        headers.push((name, value.to_owned()));
        Self { face: self.face.clone(), headers }
    }

    pub(crate) fn with_key(&self, key: &str) -> Self {
        self.with("authorization", &format!("Bearer {key}"))
    }

    pub(crate) async fn ask(&self, method: &str, target: &str, body: &str) -> Answer {
        Answer::read(self.open(method, target, body).await).await
    }

    /// The answer, before its body is read.
    async fn open(&self, method: &str, target: &str, body: &str) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        self.face.call(request).await.unwrap()
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, "").await
    }
}

#[tokio::test]
async fn a_key_in_either_header_and_form_is_let_in() {
    let app = TestApp::start().await;
    let key = app.project_key("default").await;
    let same = key.replace("wrn_", "e2b_");
    let remote = app.over_tcp(Access::Keys);
    remote.with_key(&key).get("/v1/sandboxes").await.expect(200);
    remote.with_key(&same).get("/v1/sandboxes").await.expect(200);
    remote.with("x-api-key", &key).get("/v1/sandboxes").await.expect(200);
    remote.with("x-api-key", &same).get("/v1/sandboxes").await.expect(200);
}

#[tokio::test]
async fn without_a_good_key_nobody_is_let_in() {
    let app = TestApp::start().await;
    let remote = app.over_tcp(Access::Keys);
    let wrong = format!("wrn_{}", "0".repeat(40));
    for (remote, message) in [
        (remote.with("accept", "*/*"), "asks for an API key"),
        (remote.with_key(&wrong), "not known"),
        (remote.with_key("nonsense"), "not an API key"),
        (remote.with("authorization", "Basic eDp5"), "expected `Bearer`"),
        (remote.with_key(&wrong).with("x-api-key", "other"), "different API keys"),
    ] {
        let answer = remote.get("/v1/sandboxes").await;
        let text = answer.refused(401, "unauthenticated");
        assert!(text.contains(message), "{text}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer realm=\"warren\"");
        // What there is and what there is not looks the same from outside.
        remote.get("/v1/nothing").await.refused(401, "unauthenticated");
    }
}

#[tokio::test]
async fn a_few_routes_ask_for_no_key() {
    let app = TestApp::start().await;
    let remote = app.over_tcp(Access::Keys);
    remote.get("/v1/health").await.expect(200);
    remote.get("/v1/ready").await.expect(200);
    remote.get("/v1/openapi.json").await.expect(200);
    remote.with_key("nonsense").get("/v1/health").await.expect(200);
}

#[tokio::test]
async fn a_key_works_in_its_project_and_in_no_other() {
    let app = TestApp::start().await;
    let mine = app.create().await;
    app.as_owner("team").await;
    let remote = app.over_tcp(Access::Keys).with_key(&app.project_key("team").await);
    let made = remote.ask("POST", "/v1/sandboxes", "{}").await.expect(201);
    let listed = remote.get("/v1/sandboxes").await.expect(200);
    assert_eq!(listed["sandboxes"].as_array().unwrap().len(), 1);
    assert_eq!(listed["sandboxes"][0]["id"], made["id"]);
    remote.get(&format!("/v1/sandboxes/{mine}")).await.refused(404, "not_found");
    let named = remote.with("warren-project", "team");
    named.get("/v1/sandboxes").await.expect(200);
    for other in ["default", "nothing", "?"] {
        let answer = remote.with("warren-project", other).get("/v1/sandboxes").await;
        answer.refused(403, "permission_denied");
    }
}

#[tokio::test]
async fn a_host_caller_works_in_any_project() {
    let app = TestApp::start().await;
    let team = app.as_owner("team").await;
    let id = team.create().await;
    app.get(&format!("/v1/sandboxes/{id}")).await.refused(404, "not_found");
    let ask = async |project: &str| {
        let request = Request::get("/v1/sandboxes").header("warren-project", project);
        app.send(request.body(Body::empty()).unwrap()).await
    };
    assert_eq!(ask("team").await.expect(200)["sandboxes"][0]["id"], id.as_str());
    ask("nothing").await.refused(404, "not_found");
    ask("A b").await.refused(400, "invalid_argument");
}

#[tokio::test]
async fn without_keys_the_server_is_for_this_machine_alone() {
    let app = TestApp::start().await;
    let open = app.over_tcp(Access::Open);
    for host in ["localhost:7423", "127.0.0.1:7423", "[::1]:7423"] {
        open.with("host", host).get("/v1/sandboxes").await.expect(200);
    }
    for host in ["evil.example", "127.0.0.1.evil.example", "10.0.0.1"] {
        for target in ["/v1/sandboxes", "/v1/health"] {
            let answer = open.with("host", host).get(target).await;
            answer.refused(403, "permission_denied");
        }
    }
    let local = open.with("host", "localhost");
    local.with_key("nonsense").get("/v1/sandboxes").await.refused(401, "unauthenticated");
    // Whoever is on this machine is not the user who runs the server.
    local.ask("POST", "/v1/shutdown", "").await.refused(403, "permission_denied");
    assert!(!app.app.stopping().is_cancelled());
}

#[tokio::test]
async fn pages_of_strangers_are_refused() {
    let config = Config { origins: vec!["https://console.example".into()], ..Config::default() };
    let app = TestApp::limited(config).await;
    let key = app.project_key("default").await;
    let remote = app.over_tcp(Access::Keys).with_key(&key);
    let from = async |origin: &str, target: &str| remote.with("origin", origin).get(target).await;
    from("http://box.example:7423", "/v1/sandboxes").await.expect(200);
    let id = app.create().await;
    for target in ["/v1/sandboxes", "/v1/health", &format!("/v1/sandboxes/{id}/exec/ws")] {
        from("https://evil.example", target).await.refused(403, "permission_denied");
        from("null", target).await.refused(403, "permission_denied");
    }
    let allowed = from("https://console.example", "/v1/sandboxes").await;
    allowed.expect(200);
    assert_eq!(allowed.headers["access-control-allow-origin"], "https://console.example");
    // A browser asks first, without a key.
    let first = app
        .over_tcp(Access::Keys)
        .with("origin", "https://console.example")
        .with("access-control-request-method", "POST");
    let answer = first.ask("OPTIONS", "/v1/sandboxes", "").await;
    answer.expect(204);
    assert!(answer.headers["access-control-allow-headers"].to_str().unwrap().contains("x-api-key"));
    let evil = first.with("origin", "https://evil.example");
    evil.ask("OPTIONS", "/v1/sandboxes", "").await.refused(403, "permission_denied");
}

#[tokio::test]
async fn many_bad_keys_are_slowed_down_and_good_ones_are_not() {
    let app = TestApp::start().await;
    let key = app.project_key("default").await;
    let remote = app.over_tcp(Access::Keys);
    let mut statuses = Vec::new();
    for _ in 0..40 {
        statuses.push(remote.with_key("nonsense").get("/v1/sandboxes").await.status);
    }
    assert_eq!((statuses[0], statuses[39]), (401, 429), "{statuses:?}");
    let slowed = remote.get("/v1/sandboxes").await;
    slowed.refused(429, "resource_exhausted");
    assert!(slowed.headers.contains_key("retry-after"));
    remote.with_key(&key).get("/v1/sandboxes").await.expect(200);
}

#[tokio::test]
async fn a_key_has_its_rate() {
    let app = TestApp::limited(Config { requests_per_second: 1, ..Config::default() }).await;
    let (one, other) = (app.project_key("default").await, app.project_key("default").await);
    let remote = app.over_tcp(Access::Keys);
    let mut last = None;
    for _ in 0..4 {
        last = Some(remote.with_key(&one).get("/v1/sandboxes").await);
    }
    let last = last.unwrap();
    last.refused(429, "resource_exhausted");
    assert!(last.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    remote.with_key(&other).get("/v1/sandboxes").await.expect(200);
    for _ in 0..10 {
        app.get("/v1/sandboxes").await.expect(200);
    }
}

#[tokio::test]
async fn a_metrics_key_reads_nothing_else() {
    let app = TestApp::start().await;
    let id = app.create().await;
    let key = app.key(KeyScope::Metrics).await;
    let remote = app.over_tcp(Access::Keys).with_key(&key);
    for target in ["/v1/sandboxes", "/v1/version", "/v1/events", &format!("/v1/sandboxes/{id}")] {
        remote.get(target).await.refused(403, "permission_denied");
    }
    remote.ask("POST", "/v1/metrics", "").await.refused(403, "permission_denied");
    assert_eq!(remote.get("/v1/metrics").await.status, 200);
    let project = app.over_tcp(Access::Keys).with_key(&app.project_key("default").await);
    project.get("/v1/metrics").await.refused(403, "permission_denied");
    let open = app.over_tcp(Access::Open).with("host", "localhost");
    assert_eq!(open.get("/v1/metrics").await.status, 200);
}

#[tokio::test]
async fn files_of_the_host_are_no_images_from_afar() {
    let app = TestApp::start().await;
    let remote = app.over_tcp(Access::Keys).with_key(&app.project_key("default").await);
    for image in ["dir:/etc", "tar:/root/secret.tar"] {
        let body = format!(r#"{{"image":"{image}"}}"#);
        let answer = remote.ask("POST", "/v1/sandboxes", &body).await;
        answer.refused(403, "permission_denied");
    }
    assert_eq!(app.runtime.guests(), []);
    let core = warren_core::config::Config { host_images_for_all: true, ..Default::default() };
    let app = TestApp::with(core).await;
    let remote = app.over_tcp(Access::Keys).with_key(&app.project_key("default").await);
    remote.ask("POST", "/v1/sandboxes", r#"{"image":"dir:/srv/root"}"#).await.expect(201);
}

#[tokio::test]
async fn the_streams_of_one_sandbox_are_limited() {
    let app = TestApp::limited(Config { streams_per_sandbox: 2, ..Config::default() }).await;
    let (id, other) = (app.create().await, app.create().await);
    let stream = async |id: &str| {
        let request = Request::post(format!("/v1/sandboxes/{id}/exec"))
            .header("accept", "application/x-ndjson")
            .body(Body::from(r#"{"command":["sleep"]}"#));
        app.open(request.unwrap()).await
    };
    let (first, _second) = (stream(&id).await, stream(&id).await);
    let third = Answer::read(stream(&id).await).await;
    third.refused(429, "resource_exhausted");
    let ws = app.get(&format!("/v1/sandboxes/{id}/exec/ws")).await;
    assert_eq!(ws.status, 400, "it is no conversation at all");
    assert_eq!(stream(&other).await.status(), 200);
    drop(first);
    assert_eq!(stream(&id).await.status(), 200);

    let events = async || app.open(Request::get("/v1/events").body(Body::empty()).unwrap()).await;
    let _open = (events().await, events().await);
    assert_eq!(events().await.status(), 429);
}

#[tokio::test]
async fn bodies_have_a_limit_that_commands_may_pass_with_their_input() {
    let app = TestApp::limited(Config { body_bytes: 1000, ..Config::default() }).await;
    let id = app.create().await;
    let long = "a".repeat(2000);
    let named = app.post("/v1/sandboxes", &format!(r#"{{"name":"{long}"}}"#)).await;
    let message = named.refused(429, "resource_exhausted");
    assert_eq!(message, "the body of this request has at most 1000 bytes");
    let body = format!(r#"{{"command":["echo","{long}"]}}"#);
    app.post(&format!("/v1/sandboxes/{id}/exec"), &body).await.expect(200);
    let body = format!(r#"{{"command":["echo","{}"]}}"#, "a".repeat(16_000));
    let answer = app.post(&format!("/v1/sandboxes/{id}/exec"), &body).await;
    answer.refused(429, "resource_exhausted");
}

#[tokio::test]
async fn the_streams_of_a_key_end_with_it_and_what_it_started_runs_on() {
    let app = TestApp::start().await;
    let id = app.create().await;
    let made = app.post("/v1/keys", r#"{"name":"doomed"}"#).await.expect(201);
    let key = app.over_tcp(Access::Keys).with_key(made["key"].as_str().unwrap());
    let target = format!("/v1/sandboxes/{id}/exec");
    let started = key.ask("POST", &target, r#"{"command":["sleep"],"detach":true}"#).await;
    let exec = started.expect(202)["exec_id"].as_str().unwrap().to_owned();
    // Both wait for what never comes.
    let events = key.open("GET", "/v1/events", "").await;
    let output = key.open("GET", &format!("{target}/{exec}/output"), "").await;
    assert_eq!((events.status().as_u16(), output.status().as_u16()), (200, 200));
    let revoked = format!("/v1/keys/{}", made["id"].as_str().unwrap());
    app.ask("DELETE", &revoked, "").await.expect(204);
    let ended = async { tokio::join!(Answer::read(events), Answer::read(output)) };
    let ended = tokio::time::timeout(std::time::Duration::from_secs(10), ended).await;
    assert!(ended.is_ok(), "both streams end");
    key.get("/v1/sandboxes").await.refused(401, "unauthenticated");
    let running = app.get(&target).await.expect(200);
    assert!(running["execs"][0].get("end").is_none(), "{running}");
}
