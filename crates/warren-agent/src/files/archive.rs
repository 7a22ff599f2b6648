//! `/archive`: whole trees as tar archives.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use http_body_util::BodyExt as _;
use hyper::body::Bytes;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response, StatusCode};
use rustix::fs::{FileType as Kind, Mode, OFlags};
use serde_json::json;
use tokio::sync::mpsc;
use warren_archive::{Limits, Packer, UnpackError, Unpacked, Unpacker};
use warren_proto::{Code, Status};
use warren_sys::beneath;

use super::download::Pieces;
use super::query::Query;
use super::{PIECE_BYTES, PROC_MAGIC, refuse, user};
use crate::daemon::Agent;
use crate::filesystem::context::{Context, failed, on_thread};
use crate::filesystem::{make, path, remove};
use crate::http::arriving::Arriving;
use crate::http::reply::{self, Body, Refusal};

/// Sends what is below a directory, or one file.
pub(super) async fn export(
    agent: &Arc<Agent>,
    request: &Request<Arriving>,
) -> Result<Response<Body>, Refusal> {
    let query = Query::parse(request.uri().query());
    let user = user(request, &query)?;
    let wanted = query.get("path").unwrap_or_default().to_owned();
    let name = query.get("name").map(str::to_owned);
    let open = move |context: &Context| Export::open(context, &wanted, name.as_deref());
    let opened = on_thread(agent, user, open).await;
    let mut export = opened?;
    let (sender, receiver) = mpsc::channel(1);
    let tasks = Arc::clone(agent);
    agent.tasks.spawn(async move {
        loop {
            let read = tasks.pool.with_files(move || Ok(export.read())).await;
            let (next, piece) = match read {
                Ok((next, read)) => (Some(next), read),
                Err(status) => (None, Err(status)),
            };
            let last = piece.is_err();
            if piece.as_ref().is_ok_and(Bytes::is_empty) || sender.send(piece).await.is_err() {
                return;
            }
            match next {
                Some(next) if !last => export = next,
                _ => return,
            }
        }
    });
    let mut response = Response::new(Pieces { receiver, left: None }.boxed_unsync());
    let kind = HeaderValue::from_static("application/x-tar");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}

/// An archive that is being made.
#[derive(Debug)]
struct Export {
    context: Context,
    packer: Packer,
}

impl Export {
    /// `name` is what a file is called in the archive, where that is not its own name.
    fn open(context: &Context, wanted: &str, name: Option<&str>) -> Result<Self, Status> {
        let path = context.path(wanted)?;
        let opened = beneath::open(&path, OFlags::RDONLY, Mode::empty());
        let opened = opened.map_err(failed("read", &path))?;
        refuse_system(&opened, &path)?;
        let stat = rustix::fs::fstat(&opened).map_err(|it| failed("read", &path)(it.into()))?;
        let packer = match Kind::from_raw_mode(stat.st_mode) {
            Kind::Directory => Packer::directory(opened),
            Kind::RegularFile => {
                let name = name.unwrap_or_else(|| path::name(&path));
                Packer::file(opened.into(), name.as_bytes()).map_err(failed("read", &path))?
            }
            _ => {
                let message = format!("path '{path}' is neither a file nor a directory");
                return Err(Status::new(Code::InvalidArgument, message));
            }
        };
        Ok(Self { context: context.clone(), packer })
    }

    /// The next bytes; none at the end.
    fn read(mut self) -> (Self, Result<Bytes, Status>) {
        let mut piece = Vec::with_capacity(PIECE_BYTES + 4096);
        let context = self.context.clone();
        let read = context.act(|| {
            self.packer
                .read(&mut piece, PIECE_BYTES)
                .map_err(|error| Status::new(Code::Aborted, error.to_string()))
        });
        (self, read.map(|_more| piece.into()))
    }
}

/// Unpacks an archive below a directory, which is made where it is missing.
///
/// An archive that is refused or breaks off takes a directory that was made for it along; in one
/// that was there, what came before stays.
pub(super) async fn import(
    agent: &Arc<Agent>,
    request: Request<Arriving>,
) -> Result<Response<Body>, Refusal> {
    let query = Query::parse(request.uri().query());
    let user = user(&request, &query)?;
    let wanted = query.get("path").unwrap_or_default().to_owned();
    match request.headers().get(CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"" | b"identity" | b"gzip") => {} // gzip is seen in the bytes
        Some(other) => {
            let other = String::from_utf8_lossy(other);
            let message = format!("content encoding '{other}' is not known");
            return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
    }
    let keeps_owners = query.get("owners") == Some("keep");
    let open = move |context: &Context| Opened::new(context, &wanted, keeps_owners);
    let opened = on_thread(agent, user, open).await;
    let mut import = Import { agent: Arc::clone(agent), opened: Some(opened.map_err(refuse)?) };
    let mut body = request.into_body();
    let mut held = Vec::new();
    while let Some(bytes) = body.next().await? {
        held.extend_from_slice(&bytes);
        if held.len() >= PIECE_BYTES {
            import.push(std::mem::take(&mut held)).await.map_err(refuse)?;
        }
    }
    import.push(held).await.map_err(refuse)?;
    let (path, done) = import.finish().await.map_err(refuse)?;
    let Unpacked { entries, bytes, skipped } = done;
    let done = json!({"path": path, "entries": entries, "bytes": bytes, "skipped": skipped});
    Ok(reply::json(StatusCode::OK, &done))
}

/// A directory that is being filled.
#[derive(Debug)]
struct Opened {
    context: Context,
    path: String,
    is_new: bool,
    unpacker: Unpacker,
}

impl Opened {
    fn new(context: &Context, wanted: &str, keeps_owners: bool) -> Result<Self, Status> {
        let path = context.path(wanted)?;
        let is_new = match make::make_directory(&path) {
            Ok(()) => true,
            Err(status) if status.code == Code::AlreadyExists => false,
            Err(status) => return Err(status),
        };
        let directory = beneath::open(&path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
        let directory = directory.map_err(failed("write", &path))?;
        refuse_system(&directory, &path)?;
        let mut unpacker = Unpacker::new(directory, is_new, Limits::default());
        if keeps_owners {
            unpacker = unpacker.keeping_owners();
        }
        Ok(Self { context: context.clone(), path, is_new, unpacker })
    }

    /// Closes what is half done, and removes what was made for it.
    fn undo(self) -> Result<(), Status> {
        let Self { context, path, is_new, unpacker } = self;
        context.act(|| {
            drop(unpacker);
            if is_new { remove::remove(&path) } else { Ok(()) }
        })
    }
}

/// An archive that is coming in. Dropped before its end, it is undone.
struct Import {
    agent: Arc<Agent>,
    opened: Option<Opened>,
}

impl Import {
    /// Unpacks a piece.
    async fn push(&mut self, piece: Vec<u8>) -> Result<(), Status> {
        let Some(mut opened) = self.opened.take() else { return Ok(()) };
        let work = move || {
            let context = opened.context.clone();
            let pushed = context.act(|| opened.unpacker.push(&piece).map_err(status));
            match pushed {
                Ok(()) => Ok(opened),
                Err(status) => {
                    drop(opened.undo()); // the cause is what the caller learns
                    Err(status)
                }
            }
        };
        self.opened = Some(self.agent.pool.with_files(work).await?);
        Ok(())
    }

    /// What was unpacked, and where.
    async fn finish(mut self) -> Result<(String, Unpacked), Status> {
        let Some(opened) = self.opened.take() else {
            return Err(Status::new(Code::Internal, "the archive was given up already"));
        };
        let work = move || {
            let Opened { context, path, is_new, unpacker } = opened;
            let unpacked = context.act(|| {
                let unpacked = unpacker.finish().map_err(status);
                if unpacked.is_err() && is_new {
                    drop(remove::remove(&path)); // the cause is what the caller learns
                }
                unpacked
            });
            unpacked.map(|done| (path, done))
        };
        self.agent.pool.with_files(work).await
    }
}

impl Drop for Import {
    fn drop(&mut self) {
        let Some(opened) = self.opened.take() else { return };
        let pool = self.agent.pool.clone();
        self.agent.tasks.spawn(async move {
            drop(pool.with_files(move || opened.undo()).await); // the sender has gone
        });
    }
}

/// What `/proc` holds is not files, and some of it is this process.
fn refuse_system(opened: &OwnedFd, path: &str) -> Result<(), Status> {
    let kind = rustix::fs::fstatfs(opened).map(|it| it.f_type.cast_unsigned());
    if kind == Ok(PROC_MAGIC) {
        let message = format!("path '{path}' belongs to the system");
        return Err(Status::new(Code::PermissionDenied, message));
    }
    Ok(())
}

fn status(error: UnpackError) -> Status {
    match error {
        UnpackError::Io { operation, name, source } => failed(operation, &name)(source),
        other => Status::new(Code::InvalidArgument, other.to_string()),
    }
}
