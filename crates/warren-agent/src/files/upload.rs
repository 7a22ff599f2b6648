//! `POST /files`.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::Arc;

use flate2::write::MultiGzDecoder;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};
use hyper::{HeaderMap, Request, Response, StatusCode};
use serde_json::Value;

use super::multipart::{Form, FormError, Item};
use super::query::Query;
use super::sink::Sink;
use super::{refuse, user};
use crate::daemon::Agent;
use crate::filesystem::metadata;
use crate::http::arriving::Arriving;
use crate::http::reply::{self, Body, Refusal};

/// Headers that become values kept with the file.
const METADATA_HEADER: &str = "x-metadata-";
/// Compressed bytes taken at once: what they may grow to is a thousand times as much.
const GZIP_STEP: usize = 1 << 10;
/// Files of one form.
const MOST_FILES: usize = 1024;

/// Writes the files of a request, and answers with what was written.
pub(super) async fn answer(
    agent: &Arc<Agent>,
    request: Request<Arriving>,
) -> Result<Response<Body>, Refusal> {
    let query = Query::parse(request.uri().query());
    let user = user(&request, &query)?;
    let metadata = metadata_of(request.headers());
    metadata::check(&metadata)?;
    let mode = query.get("mode").map(mode).transpose()?;
    let upload = Upload { agent, user, path: query.get("path").map(str::to_owned), metadata, mode };
    let kind = text(request.headers(), CONTENT_TYPE.as_str()).to_owned();
    let body = Content::new(request)?;
    let entries = match kind.split(';').next().map(str::trim) {
        Some("multipart/form-data") => upload.form(&kind, body).await?,
        Some("application/octet-stream") => vec![upload.raw(body).await?],
        _ => {
            let message =
                "the content type is neither multipart/form-data nor application/octet-stream";
            return Err(Refusal::bad_request(message));
        }
    };
    Ok(reply::json(StatusCode::OK, &Value::Array(entries)))
}

/// Reads permission bits in octal.
pub(super) fn mode(text: &str) -> Result<u32, Refusal> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| Refusal::bad_request("the mode is not octal"))
}

/// Whose files, and where they go.
struct Upload<'a> {
    agent: &'a Arc<Agent>,
    user: Option<String>,
    path: Option<String>,
    metadata: BTreeMap<String, String>,
    /// Permission bits of a raw upload; what the umask leaves where absent. Warren's own.
    mode: Option<u32>,
}

impl Upload<'_> {
    /// The body is the content.
    async fn raw(&self, mut body: Content) -> Result<Value, Refusal> {
        let path = self.path.as_deref().filter(|it| !it.is_empty());
        let path = path.ok_or_else(|| Refusal::bad_request("the query has no path"))?;
        let mut sink = self.open(path).await?;
        while let Some(bytes) = body.next().await? {
            sink.push(&bytes).await.map_err(refuse)?;
        }
        if let Some(mode) = self.mode {
            sink.set_mode(mode).await.map_err(refuse)?;
        }
        sink.finish().await.map_err(refuse)
    }

    /// The body is a form; its parts named `file` are files, other parts are nobody's.
    async fn form(&self, kind: &str, mut body: Content) -> Result<Vec<Value>, Refusal> {
        let bad = |error: FormError| Refusal::bad_request(error.to_string());
        let mut form = Form::new(kind).map_err(bad)?;
        let (mut entries, mut seen) = (Vec::new(), BTreeSet::new());
        let mut open: Option<Sink> = None;
        while let Some(bytes) = body.next().await? {
            for item in form.push(&bytes).map_err(bad)? {
                match item {
                    Item::Part(part) if part.name.as_deref() == Some("file") => {
                        let sink = self.part(part.filename, &mut seen).await?;
                        open = Some(sink);
                    }
                    Item::Part(_) => {}
                    Item::Data(bytes) => {
                        if let Some(sink) = &mut open {
                            sink.push(&bytes).await.map_err(refuse)?;
                        }
                    }
                    Item::End => {
                        if let Some(sink) = open.take() {
                            entries.push(sink.finish().await.map_err(refuse)?);
                        }
                    }
                }
            }
        }
        form.finish().map_err(bad)?;
        Ok(entries)
    }

    /// Opens a part's file: at the query's path, or at the part's own.
    async fn part(
        &self,
        filename: Option<String>,
        seen: &mut BTreeSet<String>,
    ) -> Result<Sink, Refusal> {
        let path = self.path.clone().filter(|it| !it.is_empty()).or(filename);
        let path = path.filter(|it| !it.is_empty());
        let path = path.ok_or_else(|| Refusal::bad_request("a file has neither path nor name"))?;
        // Looked at before it is opened, so that the second file does not empty the first.
        if seen.len() >= MOST_FILES {
            return Err(Refusal::bad_request(format!("more than {MOST_FILES} files")));
        }
        if !seen.insert(path.clone()) {
            return Err(twice(&path));
        }
        let sink = self.open(&path).await?;
        if sink.path() != path && !seen.insert(sink.path().to_owned()) {
            return Err(twice(sink.path()));
        }
        Ok(sink)
    }

    async fn open(&self, path: &str) -> Result<Sink, Refusal> {
        Sink::open(self.agent, self.user.clone(), path, &self.metadata).await.map_err(refuse)
    }
}

fn twice(path: &str) -> Refusal {
    Refusal::bad_request(format!("you cannot upload multiple files to the same path '{path}'"))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or_default()
}

fn metadata_of(headers: &HeaderMap) -> BTreeMap<String, String> {
    let values = headers.iter().filter_map(|(name, value)| {
        let key = name.as_str().strip_prefix(METADATA_HEADER)?;
        Some((key.to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
    });
    values.collect()
}

/// A request's body, decompressed where it says so.
struct Content {
    body: Arriving,
    gzip: Option<MultiGzDecoder<Vec<u8>>>,
    /// Compressed bytes that have not been looked at.
    packed: hyper::body::Bytes,
}

impl Content {
    fn new(request: Request<Arriving>) -> Result<Self, Refusal> {
        let gzip = match text(request.headers(), CONTENT_ENCODING.as_str()) {
            "" | "identity" => None,
            encoding if encoding.eq_ignore_ascii_case("gzip") => {
                Some(MultiGzDecoder::new(Vec::new()))
            }
            other => {
                let message = format!("content encoding '{other}' is not known");
                return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
            }
        };
        Ok(Self { body: request.into_body(), gzip, packed: hyper::body::Bytes::new() })
    }

    /// The next piece, or `None` at the end.
    async fn next(&mut self) -> Result<Option<hyper::body::Bytes>, Refusal> {
        let Some(gzip) = &mut self.gzip else {
            return self.body.next().await;
        };
        let bad = |it: std::io::Error| Refusal::bad_request(format!("decompress the body: {it}"));
        loop {
            if self.packed.is_empty() {
                match self.body.next().await? {
                    Some(bytes) => self.packed = bytes,
                    None => {
                        gzip.try_finish().map_err(bad)?;
                        let rest = std::mem::take(gzip.get_mut());
                        return Ok((!rest.is_empty()).then(|| rest.into()));
                    }
                }
            }
            let step = self.packed.split_to(GZIP_STEP.min(self.packed.len()));
            gzip.write_all(&step).map_err(bad)?;
            let unpacked = std::mem::take(gzip.get_mut());
            if !unpacked.is_empty() {
                return Ok(Some(unpacked.into()));
            }
        }
    }
}
