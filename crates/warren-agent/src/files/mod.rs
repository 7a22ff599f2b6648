//! Contents of files, over plain HTTP.
//!
//! Bytes move in pieces of [`PIECE_BYTES`]. A thread of the pool is taken for one piece at a time,
//! never while a peer is waited for: a slow client costs memory for two pieces and nothing else.
//!
//! `/files` is E2B's. Ours beside it:
//!
//! | request | answer |
//! |---|---|
//! | `GET /archive?path=&username=` | a tar archive of what is below a directory, or of one file |
//! | `PUT /archive?path=&username=` | unpacks one, plain or compressed with gzip, below a directory |
//! | `GET /glob?path=&pattern=&username=` | `{"paths": [...], "truncated": false}` |
//! | `POST /chmod` with `{"path", "mode", "username"}` | 204 |

mod archive;
mod chmod;
mod compose;
mod date;
mod disposition;
mod download;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod glob;
mod multipart;
mod query;
mod range;
mod sink;
mod upload;

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use warren_proto::{Code, Status};

use crate::daemon::Agent;
use crate::http::arriving::Arriving;
use crate::http::call;
use crate::http::reply::{Body, Refusal};
use query::Query;

/// Bytes read or written at once.
const PIECE_BYTES: usize = 256 << 10;

/// What a file system is when it is `/proc`.
const PROC_MAGIC: u64 = 0x9fa0;

/// Answers `/files` and what stands beside it.
pub(crate) async fn answer(agent: Arc<Agent>, request: Request<Incoming>) -> Response<Body> {
    let request = request.map(Arriving::new);
    let answer = match (request.method(), request.uri().path()) {
        (&(Method::GET | Method::HEAD), "/files") => download::answer(&agent, &request).await,
        (&Method::POST, "/files") => upload::answer(&agent, request).await,
        (&Method::POST, "/files/compose") => compose::answer(&agent, request).await,
        (&Method::GET, "/archive") => archive::export(&agent, &request).await,
        (&Method::PUT, "/archive") => archive::import(&agent, request).await,
        (&Method::GET, "/glob") => glob::answer(&agent, &request).await,
        (&Method::POST, "/chmod") => chmod::answer(&agent, request).await,
        _ => Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "not a method of this path")),
    };
    answer.unwrap_or_else(Into::into)
}

/// Whom a request names: in its query, else in its authorization.
fn user<B>(request: &Request<B>, query: &Query) -> Result<Option<String>, Status> {
    match query.get("username") {
        Some(name) if !name.is_empty() => Ok(Some(name.to_owned())),
        _ => call::user(request.headers()),
    }
}

/// A file operation's error as an answer.
fn refuse(status: Status) -> Refusal {
    let code = match status.code {
        Code::ResourceExhausted => StatusCode::INSUFFICIENT_STORAGE,
        _ => return status.into(),
    };
    Refusal::new(code, status.message)
}

/// Refuses files of `/proc` that are the agent's own: reading them, or worse writing them, is a
/// way past every other rule. Others are read like files, and written by commands alone.
fn refuse_own(file: &std::fs::File, writes: bool, path: &str) -> Result<(), Status> {
    let kind = rustix::fs::fstatfs(file).map(|it| it.f_type.cast_unsigned());
    if kind != Ok(PROC_MAGIC) {
        return Ok(());
    }
    let own = format!("/{}/", std::process::id());
    let real = warren_sys::beneath::path_of(file).unwrap_or_default();
    if writes || real.contains(&own) || real.is_empty() {
        let message = format!("path '{path}' belongs to the system");
        return Err(Status::new(Code::PermissionDenied, message));
    }
    Ok(())
}
