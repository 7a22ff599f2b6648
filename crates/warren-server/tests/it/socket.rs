//! The server on a real unix socket, with the typed client.

use std::{os::unix::fs::MetadataExt, time::Duration};

use serde_json::json;
use tokio::net::UnixListener;
use warren_api::{
    client::{Client, UnixSocket},
    exec::{ExecInput, ExecRequest},
    sandbox::CreateSandbox,
};

use crate::app::TestApp;

struct Served {
    client: Client,
    directory: tempfile::TempDir,
    ended: tokio::task::JoinHandle<()>,
    app: TestApp,
}

impl Served {
    async fn start() -> Self {
        let app = TestApp::start().await;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("api.sock");
        let uid = std::fs::metadata(directory.path()).unwrap().uid();
        let listener = UnixListener::bind(&path).unwrap();
        let served = warren_server::serve(listener, uid, app.app.clone(), std::future::pending());
        let tasks = tokio_util::task::TaskTracker::new();
        let ended = tasks.spawn(async { served.await.unwrap() });
        Self { client: Client::new(UnixSocket(path)), directory, ended, app }
    }

    async fn stop(self) {
        self.client.shutdown().await.unwrap();
        tokio::time::timeout(Duration::from_secs(5), self.ended).await.unwrap().unwrap();
        self.app.app.shut_down().await;
        drop(self.directory);
    }
}

#[tokio::test]
async fn the_client_makes_uses_and_removes_a_sandbox() {
    let served = Served::start().await;
    let sandbox = served.client.create_sandbox(&CreateSandbox::default()).await.unwrap();
    let request = ExecRequest { command: vec!["echo".into(), "hi".into()], ..Default::default() };
    let outcome = served.client.exec(&sandbox.id, &request).await.unwrap();
    assert_eq!((outcome.end.exit_code, outcome.stdout.as_str()), (0, "hi\n"));
    served.client.delete_sandbox(&sandbox.id).await.unwrap();
    served.stop().await;
}

#[tokio::test]
async fn a_conversation_goes_both_ways() {
    use warren_api::client::ExecMessage;
    let served = Served::start().await;
    let sandbox = served.client.create_sandbox(&CreateSandbox::default()).await.unwrap();
    let request = ExecRequest { command: vec!["cat".into()], stdin: true, ..Default::default() };
    let (mut input, mut output) = served.client.exec_socket(&sandbox.id, &request).await.unwrap();
    input.stdin(b"to and fro".as_slice().into()).await.unwrap();
    let mut seen = Vec::new();
    let mut end = None;
    while let Some(message) = output.next().await.unwrap() {
        match message {
            ExecMessage::Output(_, bytes) => {
                seen.extend_from_slice(&bytes);
                input.control(&ExecInput::StdinClose).await.unwrap();
            }
            ExecMessage::Event(event) => end = Some(serde_json::to_value(&event).unwrap()),
        }
    }
    assert_eq!(seen, b"to and fro");
    let end = end.unwrap();
    assert_eq!((&end["type"], &end["exit_code"]), (&json!("end"), &json!(0)));
    served.stop().await;
}

#[tokio::test]
async fn ending_the_server_ends_its_streams_and_leaves_its_sandboxes() {
    let served = Served::start().await;
    let sandbox = served.client.create_sandbox(&CreateSandbox::default()).await.unwrap();
    let mut events = served.client.events(Some(0), None).await.unwrap();
    assert!(events.next().await.unwrap().is_some());
    let runtime = served.app.runtime.clone();
    served.stop().await;
    while let Ok(Some(_)) = events.next().await {}
    assert_eq!(runtime.guests().len(), 1);
    assert_eq!(runtime.guests()[0].to_string(), sandbox.id);
}

#[tokio::test]
async fn ending_the_server_does_not_wait_for_commands() {
    let served = Served::start().await;
    let sandbox = served.client.create_sandbox(&CreateSandbox::default()).await.unwrap();
    let request = ExecRequest { command: vec!["sleep".into()], ..Default::default() };
    let waited = served.client.exec(&sandbox.id, &request);
    let stopped = async {
        let execs = async || served.client.list_execs(&sandbox.id).await.unwrap().execs;
        while execs().await.is_empty() {
            tokio::task::yield_now().await;
        }
        served.client.shutdown().await.unwrap();
    };
    let (waited, ()) = futures::join!(waited, stopped);
    assert_eq!(waited.unwrap_err().code(), warren_api::Code::Unavailable);
    tokio::time::timeout(Duration::from_secs(5), served.ended).await.unwrap().unwrap();
}
