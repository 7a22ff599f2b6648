//! When a request is sent again by itself, and when it must not be.

use warren_api::{
    Code,
    client::ClientError,
    exec::ExecRequest,
    sandbox::{CreateSandbox, State},
};

use crate::script::{SANDBOX, Scene, Script, json};

#[tokio::test]
async fn a_creation_without_an_answer_is_repeated_under_the_same_key() {
    let script = Script::new([Scene::Hangs, Scene::Answers(vec![json("201 Created", SANDBOX)])]);
    let sandbox = script.client().create_sandbox(&CreateSandbox::default()).await.unwrap();
    assert_eq!(sandbox.state, State::Running);
    let keys: Vec<String> = script
        .seen()
        .iter()
        .filter_map(|request| {
            request.lines().find(|line| line.starts_with("idempotency-key: ")).map(str::to_owned)
        })
        .collect();
    assert_eq!(keys.len(), 2, "{:?}", script.seen());
    assert_eq!(keys[0], keys[1]);
}

#[tokio::test]
async fn a_command_without_an_answer_is_not_repeated() {
    let script = Script::new([Scene::Hangs, Scene::Answers(vec![json("200 OK", "{}")])]);
    let request = ExecRequest { command: vec!["true".into()], ..ExecRequest::default() };
    let error = script.client().exec("sb-aaaaaaaaaaaaaaaa", &request).await.unwrap_err();
    assert!(matches!(error, ClientError::Transport { .. }), "{error}");
    assert_eq!(script.seen().len(), 1);
}

#[tokio::test]
async fn a_broken_answer_is_not_asked_for_again() {
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_owned();
    let script = Script::new([Scene::Answers(vec![half])]);
    let error = script.client().get_sandbox("x").await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert_eq!(script.seen().len(), 1);
}

#[tokio::test]
async fn one_connection_carries_several_requests() {
    let answers = vec![json("200 OK", SANDBOX), json("200 OK", SANDBOX)];
    let script = Script::new([Scene::Answers(answers)]);
    let client = script.client();
    client.get_sandbox("a").await.unwrap();
    client.get_sandbox("b").await.unwrap();
    assert!(script.seen()[1].starts_with("GET /v1/sandboxes/b HTTP/1.1"));
}

#[tokio::test]
async fn a_refusal_keeps_its_code_and_its_sentence() {
    let body = r#"{"code":"not_found","message":"no sandbox named x"}"#;
    let script = Script::new([Scene::Answers(vec![json("404 Not Found", body)])]);
    let error = script.client().get_sandbox("x").await.unwrap_err();
    assert_eq!((error.code(), error.to_string().as_str()), (Code::NotFound, "no sandbox named x"));
}

#[tokio::test]
async fn nobody_there_is_said_so() {
    let error = Script::new([]).client().health().await.unwrap_err();
    assert_eq!(error.to_string(), "could not reach the server");
}
