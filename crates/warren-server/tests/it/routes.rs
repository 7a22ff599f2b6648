//! Every route with every kind of caller. A route without a row fails.

use std::{
    cell::Cell,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use warren_core::{
    Caller,
    access::{KeyScope, WantedKey},
    fake::FakeClock,
};
use warren_server::{Access, routes::ROUTES};

use crate::{
    access::Remote,
    app::{Answer, TestApp},
};

/// Whose a route is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    /// Everybody, without a key.
    All,
    /// Whoever has a key; what is not the caller's is not there.
    Owners,
    /// The host alone.
    Host,
    /// The host and keys for metrics.
    Metrics,
}

/// What is asked of a route.
#[derive(Clone, Copy, Debug)]
struct Row {
    /// `METHOD /path`, as in the table of routes.
    route: &'static str,
    whose: For,
    /// A query and a body that can be understood.
    good: (&'static str, &'static str),
    /// Some that cannot; none where the route takes neither.
    bad: Option<(&'static str, &'static str)>,
}

const fn row(
    route: &'static str,
    whose: For,
    good: (&'static str, &'static str),
    bad: Option<(&'static str, &'static str)>,
) -> Row {
    Row { route, whose, good, bad }
}

const PLAIN: (&str, &str) = ("", "");
const NO_QUERY: Option<(&str, &str)> = Some(("?no-such=1", ""));
const NO_BODY: Option<(&str, &str)> = Some(("", "{\"no_such\":1}"));
const AT_PATH: (&str, &str) = ("?path=/a", "");
const ECHO: (&str, &str) = ("", r#"{"command":["echo"]}"#);

#[rustfmt::skip]
const TABLE: &[Row] = &[
    row("get /v1/sandboxes", For::Owners, PLAIN, NO_QUERY),
    row("post /v1/sandboxes", For::Owners, PLAIN, NO_BODY),
    row("get /v1/sandboxes/{id}", For::Owners, PLAIN, None),
    row("delete /v1/sandboxes/{id}", For::Owners, PLAIN, None),
    row("post /v1/sandboxes/{id}/pause", For::Owners, PLAIN, None),
    row("post /v1/sandboxes/{id}/resume", For::Owners, PLAIN, None),
    row("post /v1/sandboxes/{id}/stop", For::Owners, PLAIN, None),
    row("post /v1/sandboxes/{id}/start", For::Owners, PLAIN, None),
    row("post /v1/sandboxes/{id}/extend", For::Owners, ("", r#"{"lifetime_seconds":60}"#), NO_BODY),
    row("get /v1/sandboxes/{id}/network", For::Owners, PLAIN, None),
    row("put /v1/sandboxes/{id}/network", For::Owners, ("", r#"{"network":"none"}"#), NO_BODY),
    row("post /v1/sandboxes/{id}/network/explain", For::Owners, ("", r#"{"host":"a.example"}"#), NO_BODY),
    row("get /v1/sandboxes/{id}/network/learned", For::Owners, PLAIN, None),
    row("post /v1/sandboxes/{id}/snapshots", For::Owners, PLAIN, NO_BODY),
    row("post /v1/sandboxes/{id}/fork", For::Owners, PLAIN, NO_BODY),
    row("post /v1/sandboxes/{id}/rollback", For::Owners, ("", r#"{"snapshot":"s"}"#), NO_BODY),
    row("post /v1/sandboxes/{id}/keep", For::Owners, PLAIN, None),
    row("get /v1/snapshots", For::Owners, PLAIN, NO_QUERY),
    row("put /v1/snapshots", For::Owners, PLAIN, NO_QUERY),
    row("post /v1/snapshots", For::Owners, ("", r#"{"reference":"x"}"#), NO_BODY),
    row("get /v1/snapshots/{id}/archive", For::Owners, PLAIN, None),
    row("post /v1/snapshots/{id}/push", For::Host, ("", r#"{"target":"x"}"#), NO_BODY),
    row("get /v1/diff", For::Owners, ("?to={id}", ""), NO_QUERY),
    row("get /v1/snapshots/{id}", For::Owners, PLAIN, None),
    row("patch /v1/snapshots/{id}", For::Owners, PLAIN, NO_BODY),
    row("delete /v1/snapshots/{id}", For::Owners, PLAIN, None),
    row("get /v1/sandboxes/{id}/metrics", For::Owners, PLAIN, None),
    row("get /v1/sandboxes/{id}/ports", For::Owners, PLAIN, None),
    row("get /v1/sandboxes/{id}/ports/{port}", For::Owners, PLAIN, Some(PLAIN)),
    row("put /v1/sandboxes/{id}/ports/{port}", For::Owners, ("", r#"{"public":true}"#), NO_BODY),
    row("get /v1/sandboxes/{id}/listeners/{port}", For::Owners, PLAIN, None),
    row("get /v1/sandboxes/{id}/listeners/{port}/{connection}", For::Owners, PLAIN, Some(PLAIN)),
    row("put /v1/sandboxes/{id}/exposure", For::Owners, PLAIN, NO_BODY),
    row("post /v1/sandboxes/{id}/links", For::Owners, PLAIN, NO_BODY),
    row("delete /v1/sandboxes/{id}/links", For::Owners, PLAIN, None),
    row("get /v1/sandboxes/{id}/exec", For::Owners, PLAIN, None),
    row("post /v1/sandboxes/{id}/exec", For::Owners, ECHO, NO_BODY),
    row("get /v1/sandboxes/{id}/exec/ws", For::Owners, PLAIN, Some(PLAIN)),
    row("get /v1/sandboxes/{id}/exec/{exec_id}/output", For::Owners, PLAIN, NO_QUERY),
    row("post /v1/sandboxes/{id}/exec/{exec_id}/signal", For::Owners, ("", r#"{"signal":"TERM"}"#), NO_BODY),
    row("get /v1/sandboxes/{id}/files", For::Owners, AT_PATH, NO_QUERY),
    row("put /v1/sandboxes/{id}/files", For::Owners, AT_PATH, NO_QUERY),
    row("delete /v1/sandboxes/{id}/files", For::Owners, AT_PATH, NO_QUERY),
    row("get /v1/sandboxes/{id}/files/stat", For::Owners, AT_PATH, NO_QUERY),
    row("get /v1/sandboxes/{id}/files/list", For::Owners, AT_PATH, NO_QUERY),
    row("post /v1/sandboxes/{id}/files/mkdir", For::Owners, AT_PATH, NO_QUERY),
    row("post /v1/sandboxes/{id}/files/move", For::Owners, ("", r#"{"from":"/a","to":"/b"}"#), NO_BODY),
    row("post /v1/sandboxes/{id}/files/chmod", For::Owners, ("", r#"{"path":"/a","mode":"0644"}"#), NO_BODY),
    row("get /v1/sandboxes/{id}/files/glob", For::Owners, ("?path=/a&pattern=*", ""), NO_QUERY),
    row("get /v1/sandboxes/{id}/files/archive", For::Owners, AT_PATH, NO_QUERY),
    row("put /v1/sandboxes/{id}/files/archive", For::Owners, AT_PATH, NO_QUERY),
    row("get /v1/sandboxes/{id}/files/watch", For::Owners, AT_PATH, NO_QUERY),
    row("get /v1/sandboxes/{id}/logs", For::Owners, PLAIN, NO_QUERY),
    row("get /v1/images", For::Owners, PLAIN, None),
    row("get /v1/images/{name}", For::Owners, PLAIN, None),
    row("post /v1/images/pull", For::Owners, ("", r#"{"reference":"x"}"#), NO_BODY),
    row("post /v1/images/push", For::Host, ("", r#"{"image":"x"}"#), NO_BODY),
    row("post /v1/images/import", For::Host, ("", r#"{"docker":"x"}"#), NO_BODY),
    row("put /v1/images/archive", For::Host, PLAIN, NO_QUERY),
    row("post /v1/images/tag", For::Host, ("", r#"{"image":"x","tag":"y"}"#), NO_BODY),
    row("post /v1/images/prune", For::Host, PLAIN, NO_BODY),
    row("delete /v1/images/{name}", For::Host, PLAIN, None),
    row("get /v1/images/{name}/archive", For::Host, PLAIN, NO_QUERY),
    row("get /v1/templates", For::Owners, PLAIN, None),
    row("get /v1/templates/{template}", For::Owners, PLAIN, None),
    row("patch /v1/templates/{template}", For::Owners, PLAIN, NO_BODY),
    row("delete /v1/templates/{template}", For::Owners, PLAIN, None),
    row("post /v1/templates/{template}/tags", For::Owners, ("", r#"{"tags":["x"]}"#), NO_BODY),
    row("delete /v1/templates/{template}/tags/{tag}", For::Owners, PLAIN, None),
    row("get /v1/templates/{template}/builds", For::Owners, PLAIN, None),
    row("post /v1/builds", For::Owners, ("", r#"{"name":"t","dockerfile":"FROM host"}"#), NO_BODY),
    row("get /v1/builds/{build}", For::Owners, PLAIN, None),
    row("post /v1/builds/{build}/cancel", For::Owners, PLAIN, None),
    row("get /v1/builds/{build}/logs", For::Owners, PLAIN, NO_QUERY),
    row("put /v1/build-files", For::Owners, PLAIN, NO_QUERY),
    row("delete /v1/build-cache", For::Owners, PLAIN, None),
    row("get /v1/domains", For::Owners, PLAIN, None),
    row("get /v1/domains/{name}", For::Owners, PLAIN, None),
    row("put /v1/domains/{name}", For::Owners, ("", r#"{"sandbox":"x","port":80}"#), NO_BODY),
    row("post /v1/domains/{name}/verify", For::Owners, PLAIN, None),
    row("delete /v1/domains/{name}", For::Owners, PLAIN, None),
    row("get /v1/sandboxes/{id}/credentials", For::Owners, PLAIN, None),
    row("put /v1/sandboxes/{id}/credentials", For::Owners, ("", "{}"), NO_BODY),
    row("get /v1/secrets", For::Owners, PLAIN, None),
    row("get /v1/secrets/{name}", For::Owners, PLAIN, None),
    row("put /v1/secrets/{name}", For::Owners, ("", r#"{"value":"x"}"#), NO_BODY),
    row("delete /v1/secrets/{name}", For::Owners, PLAIN, None),
    row("get /v1/volumes", For::Owners, PLAIN, None),
    row("post /v1/volumes", For::Owners, ("", r#"{"name":"new"}"#), NO_BODY),
    row("get /v1/volumes/{name}", For::Owners, PLAIN, None),
    row("delete /v1/volumes/{name}", For::Owners, PLAIN, None),
    row("post /v1/volumes/{name}/resize", For::Owners, ("", "{}"), NO_BODY),
    row("post /v1/volumes/{name}/snapshot", For::Owners, ("", r#"{"name":"copy"}"#), NO_BODY),
    row("post /v1/volumes/{name}/clone", For::Owners, ("", r#"{"name":"copy"}"#), NO_BODY),
    row("get /v1/volumes/{name}/files", For::Owners, AT_PATH, NO_QUERY),
    row("put /v1/volumes/{name}/files", For::Owners, AT_PATH, NO_QUERY),
    row("delete /v1/volumes/{name}/files", For::Owners, AT_PATH, NO_QUERY),
    row("get /v1/volumes/{name}/files/stat", For::Owners, AT_PATH, NO_QUERY),
    row("get /v1/volumes/{name}/files/list", For::Owners, AT_PATH, NO_QUERY),
    row("post /v1/volumes/{name}/files/mkdir", For::Owners, AT_PATH, NO_QUERY),
    row("get /v1/git/sessions", For::Owners, PLAIN, None),
    row("get /v1/git/rescues", For::Owners, PLAIN, None),
    row("get /v1/git/rescues/{id}", For::Owners, PLAIN, None),
    row("delete /v1/git/rescues/{id}", For::Owners, PLAIN, None),
    row("get /v1/sandboxes/{id}/git", For::Owners, PLAIN, None),
    row("get /v1/sandboxes/{id}/git/diff", For::Owners, PLAIN, None),
    row("post /v1/sandboxes/{id}/git/commit", For::Owners, ("", "{}"), NO_BODY),
    row("post /v1/sandboxes/{id}/git/push", For::Owners, PLAIN, None),
    row("post /v1/sandboxes/{id}/git/pull", For::Owners, PLAIN, None),
    row("get /v1/sandboxes/{id}/git/log", For::Owners, PLAIN, NO_QUERY),
    row("get /v1/sandboxes/{id}/git/branches", For::Owners, PLAIN, None),
    row("get /v1/events", For::Owners, PLAIN, NO_QUERY),
    row("get /v1/keys", For::Host, PLAIN, None),
    row("post /v1/keys", For::Host, ("", r#"{"name":"k"}"#), NO_BODY),
    row("delete /v1/keys/{id}", For::Host, PLAIN, None),
    row("get /v1/projects", For::Host, PLAIN, None),
    row("post /v1/projects", For::Host, ("", r#"{"name":"new"}"#), NO_BODY),
    row("get /v1/projects/{name}", For::Host, PLAIN, None),
    row("delete /v1/projects/{name}", For::Host, PLAIN, None),
    row("put /v1/projects/{name}/quota", For::Host, ("", r#"{"sandboxes":1}"#), NO_BODY),
    row("get /v1/backup", For::Host, PLAIN, None),
    row("get /v1/health", For::All, PLAIN, None),
    row("get /v1/ready", For::All, PLAIN, None),
    row("get /v1/metrics", For::Metrics, PLAIN, None),
    row("get /v1/version", For::Owners, PLAIN, None),
    row("post /v1/shutdown", For::Host, PLAIN, None),
    row("get /v1/openapi.json", For::All, PLAIN, None),
];

impl Row {
    fn method(&self) -> String {
        self.route.split_once(' ').unwrap().0.to_uppercase()
    }

    /// Its path, of a sandbox, key or project of this name.
    fn target(&self, id: &str, query: &str) -> String {
        let path = self.route.split_once(' ').unwrap().1;
        let path = path.replace("{exec_id}", "ex-aaaaaaaaaaaaaaaa").replace("{port}", "80");
        let path = path.replace("{connection}", "1");
        let path = path.replace("{template}", id).replace("{tag}", "x").replace("{build}", id);
        format!("{path}{query}").replace("{id}", id).replace("{name}", id)
    }

    /// Whether it is about one thing, which may be missing or somebody else's.
    fn is_about_one(&self) -> bool {
        self.route.contains('{') || self.good.0.contains('{')
    }

    /// Whether it makes what it names where that is not there.
    fn makes(&self) -> bool {
        self.route == "put /v1/secrets/{name}"
    }

    /// Whether it only speaks to those who ask for another protocol.
    fn converses(&self) -> bool {
        self.bad == Some(PLAIN)
    }
}

/// The server, one sandbox in it, and callers from afar.
struct World {
    app: TestApp,
    sandbox: String,
    /// How many came: each from an address of its own, so that none pays for another's failures.
    came: Cell<u32>,
}

impl World {
    fn remote(&self) -> Remote {
        self.came.set(self.came.get() + 1);
        let address = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + self.came.get()));
        self.app.over_tcp_from(address, Access::Keys)
    }

    async fn ask(&self, row: &Row, key: Option<&str>) -> Answer {
        let remote = self.remote();
        let remote = key.map_or_else(|| remote.with("accept", "*/*"), |key| remote.with_key(key));
        let target = row.target(&self.sandbox, row.good.0);
        remote.ask(&row.method(), &target, row.good.1).await
    }
}

#[test]
fn every_route_has_a_row_and_every_row_a_route() {
    let routes: Vec<_> =
        ROUTES.iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    let rows: Vec<_> = TABLE.iter().map(|row| row.route).collect();
    let missing: Vec<_> = routes.iter().filter(|it| !rows.contains(&it.as_str())).collect();
    assert!(missing.is_empty(), "say in this table who may ask for {missing:?}");
    let extra: Vec<_> =
        rows.iter().filter(|it| !routes.iter().any(|route| route == **it)).collect();
    assert!(extra.is_empty(), "there are no routes {extra:?}");
}

#[tokio::test]
async fn every_route_knows_its_callers() {
    let clock = Arc::new(FakeClock::at(1_700_000_000_000));
    let app = TestApp::at(Arc::clone(&clock)).await;
    let sandbox = app.create().await;
    app.as_owner("other").await;
    let (other, metrics) = (app.project_key("other").await, app.key(KeyScope::Metrics).await);
    let wrong = format!("wrn_{}", "0".repeat(40));
    let (revoked, expired) = unusable(&app, &clock).await;
    let world = World { app, sandbox, came: Cell::new(0) };
    for row in TABLE {
        let route = row.route;
        for (kind, key) in [
            ("no key", None),
            ("a wrong key", Some(&wrong)),
            ("a revoked key", Some(&revoked)),
            ("an expired key", Some(&expired)),
        ] {
            let status = world.ask(row, key.map(String::as_str)).await.status;
            let expected = if row.whose == For::All { 200 } else { 401 };
            assert_eq!(status, expected, "{route} with {kind}");
        }
        let status = world.ask(row, Some(&metrics)).await.status;
        let expected = if matches!(row.whose, For::All | For::Metrics) { 200 } else { 403 };
        assert_eq!(status, expected, "{route} with a key for metrics");

        let status = if route == "get /v1/events" {
            200 // its answer has no end: `events` tests what is in it
        } else {
            world.ask(row, Some(&other)).await.status
        };
        match row.whose {
            For::Host | For::Metrics => assert_eq!(status, 403, "{route} with a project's key"),
            For::Owners if row.converses() => assert_eq!(status, 400, "{route} without an upgrade"),
            For::Owners if route == "put /v1/snapshots" => {
                assert_eq!(status, 501, "{route}: the runtime of this test imports nothing");
            }
            For::Owners if row.makes() => {
                assert_eq!(status, 501, "{route}: this test's server has no key for secrets");
            }
            For::Owners if row.is_about_one() => {
                assert_eq!(status, 404, "{route} with another project's key");
            }
            For::All | For::Owners => assert!(status < 300, "{route}: {status}"),
        }
    }
    // Nobody of them did anything to it.
    let shown = world.app.get(&format!("/v1/sandboxes/{}", world.sandbox)).await.expect(200);
    assert_eq!(shown["state"], "running");
}

/// A key that was revoked and one whose time is over.
async fn unusable(app: &TestApp, clock: &FakeClock) -> (String, String) {
    let (core, host) = (app.app.sandboxes(), Caller::local());
    let wanted = |lifetime| WantedKey {
        name: "k".to_owned(),
        scope: KeyScope::Project("default".parse().unwrap()),
        lifetime,
    };
    let (key, revoked) = core.create_key(&host, wanted(None)).await.unwrap();
    core.revoke_key(&host, key.id.as_str()).await.unwrap();
    let soon = wanted(Some(Duration::from_secs(1)));
    let (_, expired) = core.create_key(&host, soon).await.unwrap();
    clock.advance(Duration::from_secs(1));
    (revoked.expose().to_owned(), expired.expose().to_owned())
}

#[tokio::test]
async fn every_route_refuses_what_it_cannot_understand() {
    let app = TestApp::start().await;
    let id = app.create().await;
    for row in TABLE {
        let Some((query, body)) = row.bad else { continue };
        let id = if row.route.contains("{name}") { "default" } else { &id };
        // A query that is bad has all else that is needed.
        let query = match row.good.0.is_empty() {
            false => format!("{}&{}", row.good.0, query.trim_start_matches('?')),
            true => query.to_owned(),
        };
        let answer = app.ask(&row.method(), &row.target(id, &query), body).await;
        assert_eq!(answer.status, 400, "{}: {:?}", row.route, answer.body);
        answer.refused(400, "invalid_argument");
    }
}

#[tokio::test]
async fn every_route_says_what_is_missing() {
    let app = TestApp::start().await;
    for row in TABLE.iter().filter(|row| row.is_about_one() && !row.converses() && !row.makes()) {
        for id in ["sb-aaaaaaaaaaaaaaaa", "key-aaaaaaaaaaaaaaaa", "nobodys", "%2e%2e"] {
            let answer = app.ask(&row.method(), &row.target(id, row.good.0), row.good.1).await;
            assert_eq!(answer.status, 404, "{} of {id}: {:?}", row.route, answer.body);
            answer.refused(404, "not_found");
        }
    }
}

#[tokio::test]
async fn keys_and_projects_are_administered_over_the_socket() {
    let app = TestApp::start().await;
    let project = r#"{"name":"team","quota":{"sandboxes":1}}"#;
    let made = app.post("/v1/projects", project).await.expect(201);
    assert_eq!((&made["name"], &made["quota"]["sandboxes"]), (&"team".into(), &1.into()));
    app.post("/v1/projects", project).await.refused(409, "already_exists");
    let wanted = r#"{"name":"ci","project":"team","expires_in_seconds":3600}"#;
    let new = app.post("/v1/keys", wanted).await.expect(201);
    let key = new["key"].as_str().unwrap();
    assert!(key.starts_with(new["prefix"].as_str().unwrap()) && new["expires_at"].is_string());

    let remote = app.over_tcp(Access::Keys).with_key(key);
    remote.ask("POST", "/v1/sandboxes", "{}").await.expect(201);
    let full = remote.ask("POST", "/v1/sandboxes", "{}").await;
    assert_eq!(
        full.refused(429, "resource_exhausted"),
        "the project's limit of 1 sandboxes is reached"
    );
    let quota = app.ask("PUT", "/v1/projects/team/quota", "{}").await.expect(200);
    assert_eq!(quota["quota"], serde_json::json!({}));
    remote.ask("POST", "/v1/sandboxes", "{}").await.expect(201);

    let listed = app.get("/v1/keys").await;
    assert!(!String::from_utf8_lossy(&listed.body).contains(key), "a key is shown once");
    let id = listed.expect(200)["keys"][0]["id"].as_str().unwrap().to_owned();
    let shown = app.get("/v1/projects/team").await.expect(200);
    assert_eq!((&shown["sandboxes"], &shown["keys"]), (&2.into(), &1.into()));
    let busy = app.ask("DELETE", "/v1/projects/team", "").await;
    busy.refused(400, "failed_precondition");
    app.ask("DELETE", &format!("/v1/keys/{id}"), "").await.expect(204);
    remote.get("/v1/sandboxes").await.refused(401, "unauthenticated");
    app.post("/v1/keys", r#"{"name":"m","kind":"metrics","project":"team"}"#)
        .await
        .refused(400, "invalid_argument");
    app.post("/v1/keys", r#"{"name":"m","project":"nothing"}"#).await.refused(404, "not_found");
    let names = app.get("/v1/projects").await.expect(200);
    assert_eq!(names["projects"].as_array().unwrap().len(), 2);
}
