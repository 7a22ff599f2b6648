//! Doors for fuzz targets: everything that reads a caller's bytes, without what they ask for.

use std::sync::Arc;
use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HeaderValue};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::daemon::Agent;
use crate::daemon::state::Sandbox;
use crate::http::{self, Face, call, rpc};
use crate::users::User;
use crate::{files, filesystem};

/// More than a request takes that nothing is done for.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes under way in each direction.
const PIPE_BYTES: usize = 64 << 10;

/// Serves one connection on which `bytes` come, all at once or in two halves, and then its end.
///
/// # Panics
///
/// When it does not come to an end.
pub fn serve(split: bool, bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return };
    let done =
        runtime.block_on(async { tokio::time::timeout(PATIENCE, converse(split, bytes)).await });
    assert!(done.is_ok(), "the connection does not end");
}

async fn converse(split: bool, bytes: &[u8]) {
    let agent = Arc::new(Agent::that_refuses());
    let (host, guest) = tokio::io::duplex(PIPE_BYTES);
    let dispatch = rpc::service(&agent);
    let (mut answers, mut requests) = tokio::io::split(host);
    let speak = async {
        let half = if split { bytes.len() / 2 } else { bytes.len() };
        let (first, second) = bytes.split_at(half);
        for piece in [first, second] {
            // It may hang up on what it cannot read.
            drop(requests.write_all(piece).await);
            tokio::task::yield_now().await;
        }
        drop(requests.shutdown().await);
    };
    let hear = async {
        let mut buffer = vec![0; PIPE_BYTES];
        while answers.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
    };
    tokio::join!(http::serve_connection(guest, Face::Envd, agent, dispatch), speak, hear);
}

/// The parts of a form that comes in pieces of `size` bytes, with the contents of each in one; and
/// whether it is whole.
pub fn form(bytes: &[u8], size: usize) -> (Vec<String>, Vec<u8>, bool) {
    files::fuzzing::form(bytes, size.max(1))
}

/// Reads `text` in every way in which a part of a request is read.
pub fn texts(text: &str) {
    files::fuzzing::texts(text);
    if let Ok(value) = HeaderValue::from_str(text) {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, value.clone());
        headers.insert("connect-timeout-ms", value.clone());
        headers.insert("keepalive-ping-interval", value);
        let _read = (call::user(&headers), call::timeout(&headers), call::silence(&headers));
    }
    http::fuzz_init(text);
}

/// The absolute path that a user with this home means, in a sandbox with this directory.
#[must_use]
pub fn resolve(path: &str, home: &str, directory: Option<&str>) -> Option<String> {
    let identity = warren_sys::spawn::Identity { uid: 0, gid: 0, groups: vec![] };
    let user = User { name: "user".to_owned(), identity, home: home.to_owned() };
    let default_directory = directory.map(str::to_owned);
    let sandbox = Sandbox { default_directory, ..Sandbox::default() };
    filesystem::path::resolve(path, &user, &sandbox).ok()
}
