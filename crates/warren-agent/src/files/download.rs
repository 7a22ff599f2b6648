//! `GET /files`.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use hyper::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, HeaderValue,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE,
};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use rustix::fs::{FileType as Kind, Mode, OFlags};
use tokio::sync::mpsc;
use warren_proto::{Code, Status};
use warren_sys::beneath;

use super::query::Query;
use super::range::Range;
use super::{PIECE_BYTES, date, disposition, refuse_own, user};
use crate::daemon::Agent;
use crate::filesystem::context::{Context, failed, on_thread};
use crate::filesystem::path;
use crate::http::arriving::Arriving;
use crate::http::reply::{self, Body, BodyError, Refusal};

/// A file that can be sent.
struct Opened {
    context: Context,
    path: String,
    file: File,
    size: u64,
    modified: String,
    tag: String,
}

/// Sends a file, or the part of it that is asked for.
pub(super) async fn answer(
    agent: &Arc<Agent>,
    request: &Request<Arriving>,
) -> Result<Response<Body>, Refusal> {
    let query = Query::parse(request.uri().query());
    let user = user(request, &query)?;
    let wanted = query.get("path").unwrap_or_default().to_owned();
    let opened = on_thread(agent, user, move |context| open(context, &wanted)).await?;
    let headers = request.headers();
    if not_modified(headers, &opened) {
        return Ok(described(StatusCode::NOT_MODIFIED, &opened, reply::full(Bytes::new())));
    }
    let same = text(headers, &IF_RANGE).is_none_or(|it| it == opened.tag || it == opened.modified);
    let range = if same { text(headers, &RANGE) } else { None };
    let is_head = *request.method() == Method::HEAD;
    let (status, first, end) = match Range::parse(range, opened.size) {
        Range::Whole => (StatusCode::OK, 0, opened.size),
        Range::Part { first, end } => (StatusCode::PARTIAL_CONTENT, first, end),
        Range::Unsatisfiable => {
            let empty = reply::full(Bytes::new());
            let mut response = described(StatusCode::RANGE_NOT_SATISFIABLE, &opened, empty);
            insert(response.headers_mut(), CONTENT_RANGE, &format!("bytes */{}", opened.size));
            return Ok(response);
        }
    };
    let content_range = format!("bytes {first}-{}/{}", end.saturating_sub(1), opened.size);
    let mut response = described(status, &opened, reply::full(Bytes::new()));
    if status == StatusCode::PARTIAL_CONTENT {
        insert(response.headers_mut(), CONTENT_RANGE, &content_range);
    }
    // What has no size may still have content: the files of /proc.
    let length = if opened.size == 0 { None } else { Some(end - first) };
    *response.body_mut() = match is_head {
        true => Sized(length.unwrap_or_default()).boxed_unsync(),
        false => content(agent, opened, first, length).await?,
    };
    Ok(response)
}

fn open(context: &Context, wanted: &str) -> Result<Opened, Status> {
    let path = context.path(wanted)?;
    let bad = |code, what: &str| Status::new(code, format!("path '{path}' {what}"));
    let opened = beneath::open(&path, OFlags::RDONLY, Mode::empty());
    let file = File::from(opened.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => bad(Code::NotFound, "does not exist"),
        _ => failed("read", &path)(error),
    })?);
    let stat = rustix::fs::fstat(&file).map_err(|it| failed("read", &path)(it.into()))?;
    match Kind::from_raw_mode(stat.st_mode) {
        Kind::RegularFile => {}
        Kind::Directory => return Err(bad(Code::InvalidArgument, "is a directory")),
        _ => return Err(bad(Code::InvalidArgument, "is not a file")),
    }
    refuse_own(&file, false, &path)?;
    let size = u64::try_from(stat.st_size).unwrap_or_default();
    let (seconds, nanoseconds) = (stat.st_mtime, stat.st_mtime_nsec);
    Ok(Opened {
        context: context.clone(),
        file,
        size,
        modified: date::http_date(seconds),
        tag: format!("\"{seconds:x}-{nanoseconds:x}-{size:x}-{:x}\"", stat.st_ino),
        path,
    })
}

fn not_modified(headers: &HeaderMap, opened: &Opened) -> bool {
    if let Some(tags) = text(headers, &IF_NONE_MATCH) {
        let matches = |it: &str| it == "*" || it.strip_prefix("W/").unwrap_or(it) == opened.tag;
        return tags.split(',').map(str::trim).any(matches);
    }
    text(headers, &IF_MODIFIED_SINCE).is_some_and(|it| it == opened.modified)
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn described(status: StatusCode, opened: &Opened, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    insert(headers, CONTENT_DISPOSITION, &disposition::inline(path::name(&opened.path)));
    insert(headers, LAST_MODIFIED, &opened.modified);
    insert(headers, ETAG, &opened.tag);
    response
}

/// Names of files are escaped before they come here; a value that is still no header is left out.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// The body of a part of a file, `length` bytes from `first` on, or up to the end.
///
/// The first piece is read before the answer begins, so that a file which cannot be read is an
/// error and not a broken answer.
async fn content(
    agent: &Arc<Agent>,
    opened: Opened,
    first: u64,
    length: Option<u64>,
) -> Result<Body, Refusal> {
    let mut reader =
        Reader { agent: Arc::clone(agent), opened: Arc::new(opened), at: first, left: length };
    let start = reader.next().await?;
    if start.is_empty() || reader.left == Some(0) {
        return match reader.left {
            None | Some(0) => Ok(reply::full(start)),
            Some(_) => Err(shrunk().into()),
        };
    }
    let (sender, receiver) = mpsc::channel(1);
    agent.tasks.spawn(async move {
        let mut piece = Ok(start);
        loop {
            let failed = piece.is_err();
            if sender.send(piece).await.is_err() || failed || reader.left == Some(0) {
                return;
            }
            piece = match reader.next().await {
                // The end, where no length was announced.
                Ok(bytes) if bytes.is_empty() && reader.left.is_none() => return,
                // The answer must not look complete.
                Ok(bytes) if bytes.is_empty() => Err(shrunk()),
                piece => piece,
            };
        }
    });
    Ok(Pieces { receiver, left: length }.boxed_unsync())
}

fn shrunk() -> Status {
    Status::new(Code::Aborted, "the file became shorter while it was read")
}

/// Reads a file piece by piece, each on a thread of its own.
struct Reader {
    agent: Arc<Agent>,
    opened: Arc<Opened>,
    at: u64,
    left: Option<u64>,
}

impl Reader {
    /// The next piece; empty at the end.
    async fn next(&mut self) -> Result<Bytes, Status> {
        let left = self.left.map_or(PIECE_BYTES, |it| usize::try_from(it).unwrap_or(usize::MAX));
        let want = left.min(PIECE_BYTES);
        if want == 0 {
            return Ok(Bytes::new());
        }
        let (opened, at) = (Arc::clone(&self.opened), self.at);
        let work = move || {
            let Opened { context, file, path, .. } = &*opened;
            context.act(|| read_at(file, at, want).map_err(failed("read", path)))
        };
        let bytes = self.agent.pool.with_files(work).await?;
        self.at += bytes.len() as u64;
        self.left = self.left.map(|it| it.saturating_sub(bytes.len() as u64));
        Ok(bytes)
    }
}

/// Reads up to `want` bytes, fewer only at the end of the file.
fn read_at(file: &File, at: u64, want: usize) -> std::io::Result<Bytes> {
    let mut buffer = vec![0; want];
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|it| !it.is_empty()) {
        match file.read_at(rest, at + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(filled);
    Ok(buffer.into())
}

/// Pieces as a body, with their total length where it is known.
pub(super) struct Pieces {
    pub(super) receiver: mpsc::Receiver<Result<Bytes, Status>>,
    pub(super) left: Option<u64>,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let piece = std::task::ready!(self.receiver.poll_recv(cx));
        Poll::Ready(piece.map(|it| {
            let bytes = it?;
            self.left = self.left.map(|it| it.saturating_sub(bytes.len() as u64));
            Ok(Frame::data(bytes))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// The length of a body that is not sent.
struct Sized(u64);

impl HttpBody for Sized {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(None)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0)
    }
}
