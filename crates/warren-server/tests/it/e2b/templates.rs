//! Templates in E2B's API: announced, built, tagged, listed, changed and removed.

use std::time::Duration;

use serde_json::{Value, json};
use warren_core::Caller;
use warren_server::Access;

use crate::{access::Remote, app::TestApp};

const HASH: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// Announces a build: the ids of its template and its own.
async fn announce(app: &TestApp, wanted: Value) -> (String, String) {
    let made = app.post("/e2b/v3/templates", &wanted.to_string()).await.expect(202);
    let text = |field: &str| made[field].as_str().unwrap().to_owned();
    (text("templateID"), text("buildID"))
}

/// Starts a build and waits for its end; how it stands then.
async fn build(app: &TestApp, (template, build): &(String, String), wanted: Value) -> Value {
    let path = format!("/e2b/v2/templates/{template}/builds/{build}");
    let started = app.post(&path, &wanted.to_string()).await;
    assert_eq!((started.status, started.body.len()), (202, 0), "{:?}", started.body);
    finish(app, build).await;
    app.get(&format!("/e2b/templates/{template}/builds/{build}/status")).await.expect(200)
}

async fn finish(app: &TestApp, build: &str) {
    let templates = app.app.sandboxes().templates();
    let id = build.parse().unwrap();
    let mut follower = templates.follow_build(&Caller::local(), id, 0).unwrap();
    let read = async { while follower.next().await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(10), read).await.expect("the build ends");
}

/// Builds something that is there at once.
async fn built(app: &TestApp, name: &str) -> (String, String) {
    let ids = announce(app, json!({"name": name})).await;
    let status = build(app, &ids, json!({"fromImage": "host", "steps": []})).await;
    assert_eq!(status["status"], "ready", "{status}");
    ids
}

async fn remote(app: &TestApp) -> Remote {
    let key = app.project_key("default").await.replace("wrn_", "e2b_");
    app.over_tcp(Access::Keys).with("x-api-key", &key)
}

#[tokio::test]
async fn a_build_is_announced_under_its_name() {
    let app = TestApp::start().await;
    let wanted = json!({"name": "web:v1", "tags": ["extra"], "cpuCount": 1, "memoryMB": 512});
    let made = app.post("/e2b/v3/templates", &wanted.to_string()).await.expect(202);
    let expected = json!({
        "templateID": made["templateID"],
        "buildID": made["buildID"],
        "public": false,
        "names": ["default/web"],
        "aliases": ["web"],
        "tags": ["v1", "extra"],
    });
    assert_eq!(made, expected);
    assert_eq!(made["buildID"].as_str().unwrap().len(), 36);
    let again = app.post("/e2b/v3/templates", r#"{"alias":"default/web"}"#).await.expect(202);
    assert_eq!(again["templateID"], made["templateID"]);
    assert_ne!(again["buildID"], made["buildID"]);
    assert_eq!(again["tags"], json!(["default"]));
    let listed = app.get("/e2b/templates").await.expect(200);
    assert_eq!(listed[0]["buildStatus"], "waiting");
    let detail = app.get("/e2b/templates/web?limit=1").await.expect(200);
    assert_eq!(detail["builds"].as_array().unwrap().len(), 1);
    assert_eq!(detail["builds"][0]["cpuCount"], 2, "what was announced last");
    for (bad, message) in [
        (json!({}), "name: expected a template's name"),
        (json!({"name": "A b"}), "name: expected [a-z0-9][a-z0-9_-]{0,62}"),
        (json!({"name": "other/web"}), "namespace 'other' does not match your team 'default'"),
        (json!({"name": "web", "cpuCount": 0}), "cpuCount: expected 1 or more"),
        (json!({"name": "web:a b"}), "tags: expected [A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"),
    ] {
        let refused = app.post("/e2b/v3/templates", &bad.to_string()).await.expect(400);
        assert_eq!(refused, json!({"code": 400, "message": message}), "{bad}");
    }
}

#[tokio::test]
async fn files_are_sent_by_a_link_and_copied() {
    let app = TestApp::start().await;
    let remote = remote(&app).await;
    let ids = announce(&app, json!({"name": "web", "cpuCount": 1, "memoryMB": 512})).await;
    let link_path = format!("/e2b/templates/{}/files/{HASH}", ids.0);
    let link = remote.get(&link_path).await.expect(201);
    assert_eq!(link["present"], false);
    let url = link["url"].as_str().unwrap();
    let path = url.strip_prefix("http://box.example:7423").unwrap();
    assert!(path.starts_with("/e2b/uploads/wup_"), "{path}");
    // Nobody shows a key here.
    let stranger = app.over_tcp(Access::Keys);
    let sent = stranger.ask("PUT", path, "a.txt=content\n").await;
    assert_eq!((sent.status, sent.body.len()), (200, 0), "{:?}", sent.body);
    assert_eq!(remote.get(&link_path).await.expect(201)["present"], true);
    let forged = path.replace(HASH, &"b".repeat(64));
    let refused = stranger.ask("PUT", &forged, "a.txt=other\n").await.expect(403);
    let message = "this link is not good, or no longer: ask for another one";
    assert_eq!(refused, json!({"code": 403, "message": message}));

    let steps = json!([
        {"type": "COPY", "args": ["a.txt", "/data/", "root", ""], "filesHash": HASH,
         "forceUpload": true, "resolveSymlinks": null},
        {"type": "ENV", "args": ["A", "b c"]},
    ]);
    let status = build(&app, &ids, json!({"fromImage": "e2bdev/base", "steps": steps})).await;
    assert_eq!(status["status"], "ready", "{status}");
    let (logs, entries) = (&status["logs"], status["logEntries"].as_array().unwrap());
    assert_eq!(logs.as_array().unwrap().len(), entries.len());
    let said = entries.iter().any(|it| it["message"] == "web:latest is ready");
    assert!(said && entries.iter().all(|it| it["level"].is_string()), "{entries:?}");
    assert!(status.get("reason").is_none());
    // Past the end there is nothing, and still both lists.
    let past = format!("/e2b/templates/web/builds/{}/status?logsOffset={}", ids.1, entries.len());
    let past = app.get(&past).await.expect(200);
    assert_eq!((&past["logs"], &past["logEntries"]), (&json!([]), &json!([])));
    assert_eq!(past["status"], "ready");

    let made = app.post("/v1/sandboxes", r#"{"template":"web"}"#).await.expect(201);
    let agent = app.runtime.agent(&made["id"].as_str().unwrap().parse().unwrap()).unwrap();
    assert_eq!(agent.archive("/data").unwrap(), "a.txt=content\n");
    assert_eq!((&made["user"], &made["workdir"]), (&"user".into(), &"/home/user".into()));
    assert_eq!((&made["limits"]["cpu_millis"]), &json!(1000));
    assert_eq!(agent.initialised()[0]["env"]["A"], "b c");
}

#[tokio::test]
async fn a_build_that_fails_says_which_line_is_to_blame() {
    let app = TestApp::start().await;
    let ids = announce(&app, json!({"name": "t"})).await;
    let steps = json!([
        {"type": "ENV", "args": ["A", "1"]},
        {"type": "RUN", "args": ["make all", ""]},
    ]);
    let status = build(&app, &ids, json!({"fromImage": "host", "steps": steps})).await;
    let reason = json!({
        "message": "failed to run command 'make all': no program named /bin/sh",
        "step": "2",
        "logEntries": [],
    });
    assert_eq!((&status["status"], &status["reason"]), (&json!("error"), &reason));
    let logs = format!("/e2b/templates/{}/builds/{}/logs", ids.0, ids.1);
    let errors = app.get(&format!("{logs}?level=error&direction=backward")).await.expect(200);
    assert_eq!(errors["logs"][0]["message"], "no program named /bin/sh", "{errors}");
    assert_eq!(errors["logs"].as_array().unwrap().len(), 1);
    assert_eq!(app.get(&format!("{logs}?limit=2")).await.expect(200)["logs"][1]["level"], "info");
    app.get(&format!("{logs}?level=loud")).await.expect(400);
    // It was started before.
    let path = format!("/e2b/v2/templates/{}/builds/{}", ids.0, ids.1);
    app.post(&path, r#"{"fromImage":"host"}"#).await.expect(400);

    // What is started is tried before there is a version.
    let ids = announce(&app, json!({"name": "t"})).await;
    let wanted = json!({"fromImage": "host", "startCmd": "serve", "readyCmd": "true"});
    let status = build(&app, &ids, wanted).await;
    assert_eq!(
        (&status["status"], &status["reason"]["step"]),
        (&json!("error"), &json!("finalize"))
    );
    let message = status["reason"]["message"].as_str().unwrap();
    assert!(message.contains("no program named /bin/bash"), "{message}");
    let made = app.post("/v1/sandboxes", r#"{"template":"t"}"#).await;
    made.refused(404, "not_found");
}

#[tokio::test]
async fn what_cannot_be_built_is_refused_with_the_step() {
    let app = TestApp::start().await;
    let (template, build) = announce(&app, json!({"name": "t"})).await;
    let path = format!("/e2b/v2/templates/{template}/builds/{build}");
    for (bad, message) in [
        (
            json!({"fromImage": "a", "fromTemplate": "b"}),
            "expected either `fromImage` or `fromTemplate`",
        ),
        (
            json!({"fromImage": "host", "steps": [{"type": "ADD"}]}),
            "step 1: there is no step `ADD`: expected RUN, COPY, ENV, WORKDIR or USER",
        ),
        (
            json!({"fromImage": "host", "steps": [{"type": "WORKDIR", "args": [""]}]}),
            "step 1: WORKDIR needs a path",
        ),
    ] {
        let refused = app.post(&path, &bad.to_string()).await.expect(400);
        assert_eq!(refused, json!({"code": 400, "message": message}), "{bad}");
    }
    let registry = json!({"fromImage": "debian", "fromImageRegistry": {"type": "aws"}});
    let refused = app.post(&path, &registry.to_string()).await.expect(400);
    assert!(refused["message"].as_str().unwrap().starts_with("fromImageRegistry: "), "{refused}");
    let none = json!({"fromTemplate": "none"});
    let refused = app.post(&path, &none.to_string()).await.expect(404);
    assert_eq!(refused["message"], "template 'none' not found");
    let other = announce(&app, json!({"name": "other"})).await.0;
    let elsewhere = format!("/e2b/v2/templates/{other}/builds/{build}");
    let refused = app.post(&elsewhere, r#"{"fromImage":"host"}"#).await.expect(404);
    assert_eq!(refused, json!({"code": 404, "message": format!("build '{build}' not found")}));
}

#[tokio::test]
async fn tags_name_builds_and_go_over_to_others() {
    let app = TestApp::start().await;
    let (template, first) = built(&app, "web").await;
    let assigned = app.post("/e2b/templates/tags", r#"{"target":"web","tags":["v1","web:prod"]}"#);
    let assigned = assigned.await.expect(201);
    assert_eq!(assigned, json!({"buildID": first, "tags": ["v1", "prod"]}));
    let (_, second) = built(&app, "web").await;
    let tags = app.get("/e2b/templates/web/tags").await.expect(200);
    let named: Vec<_> =
        tags.as_array().unwrap().iter().map(|it| (&it["tag"], &it["buildID"])).collect();
    let expected = [("default", &second), ("prod", &first), ("v1", &first)];
    assert_eq!(named.len(), 3);
    for (tag, build) in expected {
        assert!(named.contains(&(&json!(tag), &json!(build))), "{tags}");
    }
    let moved = app.post("/e2b/templates/tags", r#"{"target":"web:v1","tags":["default"]}"#).await;
    assert_eq!(moved.expect(201)["buildID"], json!(first));
    let listed = app.get("/e2b/templates").await.expect(200);
    assert_eq!(
        (&listed[0]["templateID"], &listed[0]["buildID"]),
        (&json!(template), &json!(first))
    );
    let gone = app.ask("DELETE", "/e2b/templates/tags", r#"{"name":"web","tags":["v1"]}"#).await;
    assert_eq!((gone.status, gone.body.len()), (204, 0));
    let again = app.ask("DELETE", "/e2b/templates/tags", r#"{"name":"web","tags":["v1"]}"#).await;
    let message = "tag 'v1' does not exist for template 'web'";
    assert_eq!(again.expect(404), json!({"code": 404, "message": message}));
    let wrong = app.post("/e2b/templates/tags", r#"{"target":"web:v1","tags":["x"]}"#).await;
    assert_eq!(wrong.expect(404)["message"], message);
    let none = app.post("/e2b/templates/tags", r#"{"target":"none","tags":["x"]}"#).await;
    assert_eq!(none.expect(404)["message"], "template 'none' not found");
    app.post("/e2b/templates/tags", r#"{"target":"web","tags":[]}"#).await.expect(400);
}

#[tokio::test]
async fn templates_are_listed_found_changed_and_removed() {
    let app = TestApp::start().await;
    let (template, build) = built(&app, "b").await;
    built(&app, "a").await;
    let listed = app.get("/e2b/templates?teamID=default").await.expect(200);
    let one = &listed[1];
    let expected = json!({
        "templateID": template, "buildID": build, "cpuCount": 2, "memoryMB": 1024,
        "diskSizeMB": 0, "public": false, "aliases": ["b"], "names": ["default/b"],
        "createdAt": one["createdAt"], "updatedAt": one["updatedAt"], "createdBy": null,
        "lastSpawnedAt": null, "spawnCount": 0, "buildCount": 1, "envdVersion": "0.6.13",
        "buildStatus": "ready",
    });
    assert_eq!(one, &expected);
    let page = app.get("/e2b/v2/templates?limit=1").await;
    assert_eq!(page.headers["x-next-token"], "a");
    assert_eq!(page.expect(200)[0]["names"], json!(["default/a"]));
    let rest = app.get("/e2b/v2/templates?limit=1&nextToken=a").await;
    assert!(!rest.headers.contains_key("x-next-token"));
    assert_eq!(rest.expect(200)[0]["templateID"], json!(template));

    for alias in ["b", "default%2Fb", "b:default", template.as_str()] {
        let found = app.get(&format!("/e2b/templates/aliases/{alias}")).await.expect(200);
        assert_eq!(found, json!({"templateID": template, "public": false}), "{alias}");
    }
    let none = app.get("/e2b/templates/aliases/none").await.expect(404);
    assert_eq!(none, json!({"code": 404, "message": "template 'none' not found"}));
    let changed = app.ask("PATCH", "/e2b/v2/templates/b", r#"{"public":true}"#).await.expect(200);
    assert_eq!(changed, json!({"names": ["default/b"]}));
    let other = app.as_owner("other").await;
    let theirs = other.get("/e2b/templates/default%2Fb").await.expect(200);
    assert_eq!((&theirs["public"], &theirs["builds"]), (&json!(true), &json!([])));
    assert_eq!(other.get("/e2b/templates").await.expect(200), json!([]));
    other.ask("DELETE", "/e2b/templates/default%2Fb", "").await.expect(404);
    other.ask("PATCH", "/e2b/v2/templates/default%2Fb", r#"{"public":false}"#).await.expect(404);
    let quiet = app.ask("PATCH", "/e2b/templates/b", r#"{"public":false}"#).await;
    assert_eq!((quiet.status, quiet.body.len()), (200, 0));
    other.get("/e2b/templates/default%2Fb").await.expect(404);

    let gone = app.ask("DELETE", &format!("/e2b/templates/{template}"), "").await;
    assert_eq!((gone.status, gone.body.len()), (204, 0));
    let again = app.ask("DELETE", "/e2b/templates/b", "").await.expect(404);
    assert_eq!(again, json!({"code": 404, "message": "template 'b' not found"}));
}
