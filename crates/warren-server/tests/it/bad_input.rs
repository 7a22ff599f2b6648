use crate::app::TestApp;

#[tokio::test]
async fn bad_input_is_refused_by_name() {
    let app = TestApp::start().await;
    let id = app.create().await;
    let exec_id = "ex-aaaaaaaaaaaaaaaa";
    let table: &[(&str, &str, &str, &str)] = &[
        ("POST", "/v1/sandboxes", "{", "request body"),
        ("POST", "/v1/sandboxes", "[]", "request body"),
        ("POST", "/v1/sandboxes", r#"{"memory":1}"#, "`memory`"),
        ("POST", "/v1/sandboxes", r#"{"memory_bytes":"1"}"#, "request body"),
        ("POST", "/v1/sandboxes", r#"{"memory_bytes":1}"#, "memory_bytes"),
        ("POST", "/v1/sandboxes", r#"{"cpu_millis":-1}"#, "request body"),
        ("POST", "/v1/sandboxes", r#"{"cpu_millis":1}"#, "cpu_millis"),
        ("POST", "/v1/sandboxes", r#"{"pids":1}"#, "pids"),
        ("POST", "/v1/sandboxes", r#"{"open_files":1}"#, "open_files"),
        ("POST", "/v1/sandboxes", r#"{"name":"A"}"#, "name"),
        ("POST", "/v1/sandboxes", r#"{"image":""}"#, "image"),
        ("POST", "/v1/sandboxes", r#"{"image":"dir:relative"}"#, "image"),
        ("POST", "/v1/sandboxes", r#"{"user":"a b"}"#, "user"),
        ("POST", "/v1/sandboxes", r#"{"workdir":"here"}"#, "workdir"),
        ("POST", "/v1/sandboxes", r#"{"env":{"":"x"}}"#, "env"),
        ("POST", "/v1/sandboxes", r#"{"labels":{"":"x"}}"#, "labels"),
        ("POST", "/v1/sandboxes", r#"{"hostname":"-"}"#, "hostname"),
        ("POST", "/v1/sandboxes", r#"{"profile":"loose"}"#, "loose"),
        ("POST", "/v1/sandboxes", r#"{"network":"some"}"#, "some"),
        ("POST", "/v1/sandboxes", r#"{"on_deadline":"?"}"#, "?"),
        ("POST", "/v1/sandboxes", r#"{"lifetime_seconds":99999999999}"#, "lifetime_seconds"),
        ("GET", "/v1/sandboxes?state=parked", "", "state"),
        ("GET", "/v1/sandboxes?label=x", "", "label"),
        ("GET", "/v1/sandboxes?limit=0", "", "limit"),
        ("GET", "/v1/sandboxes?limit=x", "", "limit"),
        ("GET", "/v1/sandboxes?limit=1&limit=2", "", "limit"),
        ("GET", "/v1/sandboxes?cursor=x", "", "cursor"),
        ("GET", "/v1/sandboxes?colour=red", "", "colour"),
        ("POST", "/exec", "{}", "command"),
        ("POST", "/exec", r#"{"command":[]}"#, "command"),
        ("POST", "/exec", r#"{"command":[""]}"#, "command"),
        ("POST", "/exec", r#"{"command":"ls"}"#, "request body"),
        ("POST", "/exec", r#"{"command":["a\u0000"]}"#, "command"),
        ("POST", "/exec", r#"{"command":["a"],"cwd":"/"}"#, "`cwd`"),
        ("POST", "/exec", r#"{"command":["a"],"user":"a b"}"#, "user"),
        ("POST", "/exec", r#"{"command":["a"],"env":{"A=":""}}"#, "env"),
        ("POST", "/exec", r#"{"command":["a"],"tty":{"cols":0,"rows":1}}"#, "tty"),
        ("POST", "/exec", r#"{"command":["a"],"stdin":true}"#, "stdin"),
        ("POST", "/exec", r#"{"command":["a"],"stdin_data":"?"}"#, "base64"),
        ("GET", "/exec/ws", "", "upgrade"),
        ("GET", "/exec/nonsense/output", "", "exec_id"),
        ("GET", "/exec/EXEC/output?offset=-1", "", "offset"),
        ("POST", "/exec/EXEC/signal", r#"{"signal":"NOPE"}"#, "signal"),
        ("POST", "/exec/EXEC/signal", r#"{"signal":9}"#, "request body"),
        ("GET", "/files", "", "path"),
        ("GET", "/files?path=", "", "path"),
        ("GET", "/files?path=a&path=b", "", "path"),
        ("GET", "/files?path=a%00", "", "path"),
        ("GET", "/files?path=a&user=x%20y", "", "user"),
        ("PUT", "/files?path=a&mode=9", "", "mode"),
        ("GET", "/files/stat", "", "path"),
        ("GET", "/files/list?path=a&depth=0", "", "depth"),
        ("GET", "/files/list?path=a&deep=1", "", "deep"),
        ("POST", "/files/mkdir", "", "path"),
        ("POST", "/files/move", r#"{"from":"a"}"#, "`to`"),
        ("POST", "/files/move", r#"{"from":"a","to":""}"#, "to"),
        ("DELETE", "/files", "", "path"),
        ("GET", "/v1/events?after=x", "", "after"),
        ("GET", "/v1/events?since=1", "", "since"),
    ];
    for (method, target, body, named) in table {
        let target = match target.starts_with("/v1") {
            true => (*target).to_owned(),
            false => format!("/v1/sandboxes/{id}{}", target.replace("EXEC", exec_id)),
        };
        let answer = app.ask(method, &target, body).await;
        assert_eq!(answer.status, 400, "{method} {target} {body}");
        let message = answer.refused(400, "invalid_argument");
        assert!(message.contains(named), "{method} {target} {body}: {message}");
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let app = TestApp::start().await;
    let body = format!(r#"{{"name":"{}"}}"#, "a".repeat(17 << 20));
    app.post("/v1/sandboxes", &body).await.refused(429, "resource_exhausted");
}

#[tokio::test]
async fn unknown_sandboxes_are_not_found() {
    let app = TestApp::start().await;
    for id in ["sb-aaaaaaaaaaaaaaaa", "no-such-name", "%2e%2e", "A%20B"] {
        app.get(&format!("/v1/sandboxes/{id}")).await.refused(404, "not_found");
    }
}
