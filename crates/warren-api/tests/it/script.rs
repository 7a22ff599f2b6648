//! A server that plays a script: one entry per connection.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    task::JoinSet,
};
use warren_api::client::{Client, Connect, Connecting, Connection};

/// What the server does with a connection.
pub(crate) enum Scene {
    /// Reads a request and closes without an answer.
    Hangs,
    /// Reads a request and answers each with the next of these.
    Answers(Vec<String>),
}

/// The connector of a client under test, and what the server saw.
#[derive(Clone, Default)]
pub(crate) struct Script {
    scenes: Arc<Mutex<VecDeque<Scene>>>,
    seen: Arc<Mutex<Vec<String>>>,
    tasks: Arc<Mutex<JoinSet<()>>>,
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Script")
    }
}

impl Script {
    pub(crate) fn new(scenes: impl IntoIterator<Item = Scene>) -> Self {
        let script = Self::default();
        script.scenes.lock().unwrap().extend(scenes);
        script
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.clone())
    }

    /// The requests so far, each with its head and body.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

impl Connect for Script {
    fn connect(&self) -> Connecting<'_> {
        let scene = self.scenes.lock().unwrap().pop_front();
        Box::pin(async move {
            let scene = scene.ok_or(std::io::ErrorKind::ConnectionRefused)?;
            let (near, far) = duplex(1 << 16);
            self.tasks.lock().unwrap().spawn(play(scene, far, Arc::clone(&self.seen)));
            Ok(Box::new(near) as Box<dyn Connection>)
        })
    }
}

async fn play(scene: Scene, mut stream: DuplexStream, seen: Arc<Mutex<Vec<String>>>) {
    let answers = match scene {
        Scene::Hangs => vec![String::new()],
        Scene::Answers(answers) => answers,
    };
    for answer in answers {
        let Some(request) = read_request(&mut stream).await else { return };
        seen.lock().unwrap().push(request);
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

/// Reads one request with its body; `None` when the client leaves before its end.
pub(crate) async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut text = String::new();
    loop {
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).await.ok().filter(|read| *read > 0)?;
        text.push_str(std::str::from_utf8(&piece[..read]).unwrap());
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                return Some(text);
            }
        }
    }
}

/// A response with a JSON body.
pub(crate) fn json(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A sandbox as the server would write it.
pub(crate) const SANDBOX: &str = r#"{"id":"sb-aaaaaaaaaaaaaaaa","state":"running","image":"host",
    "profile":"default","network":"open","limits":{"cpu_millis":1000,"memory_bytes":1048576,
    "pids":10,"open_files":20},"labels":{},"user":"user","workdir":"/home/user",
    "created_at":"2026-11-21T10:00:00.000Z","runtime":"namespace","warm":false,"warnings":[]}"#;
