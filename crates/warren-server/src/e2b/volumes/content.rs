//! Files of a volume, for who has its token. Failures are of another form here: the code is text.

use std::io;

use axum::{
    Json,
    body::Body as ResponseBody,
    extract::{FromRequestParts, Path, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use futures::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use tokio_util::io::{ReaderStream, StreamReader};
use warren_api::Timestamp;
use warren_core::{
    Caller, SandboxError,
    error::GuestRefusal,
    sandboxes::{FileKind, InVolume},
    volumes::{Ownership, VolumeEntry},
};

use super::super::{
    Refusal,
    extract::{Body, Parameters},
    grants,
};
use crate::{app::App, convert::timestamp, rest::arriving::Arriving};

/// How much of a file is read at once, in bytes.
const PIECE_BYTES: usize = 256 << 10;

/// A failure.
#[derive(Debug)]
pub(in crate::e2b) struct Failure(Refusal);

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl From<SandboxError> for Failure {
    fn from(error: SandboxError) -> Self {
        match error {
            // A path that leads through something else is not what was expected there.
            SandboxError::Guest { kind: GuestRefusal::FailedPrecondition, message } => {
                Self(Refusal::conflict(message))
            }
            SandboxError::Guest { kind: GuestRefusal::ResourceExhausted, message } => {
                Self(Refusal::new(StatusCode::INSUFFICIENT_STORAGE, message))
            }
            other => Self(other.into()),
        }
    }
}

/// What a failure looks like.
#[derive(Serialize)]
struct Told<'a> {
    code: &'a str,
    message: &'a str,
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self(refusal) = self;
        let status = refusal.status();
        let told = Told { code: status.as_str(), message: refusal.message() };
        (status, Json(told)).into_response()
    }
}

/// A path of a volume, whose token was shown.
#[derive(Debug)]
pub(in crate::e2b) struct Place {
    caller: Caller,
    volume: String,
    path: String,
    parameters: Parameters,
}

impl FromRequestParts<App> for Place {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let volume = Path::<String>::from_request_parts(parts, app).await;
        let Path(volume) = volume.map_err(|error| Refusal::bad(error.body_text()))?;
        let shown = parts.headers.get(header::AUTHORIZATION).and_then(|it| it.to_str().ok());
        let token = shown
            .and_then(|it| it.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let opened = token.and_then(|(_, token)| grants::open(app, grants::VOLUME, token.trim()));
        let Some((caller, _)) = opened.filter(|(_, opened)| *opened == volume) else {
            let message = "expected the volume's own token: `Authorization: Bearer TOKEN`";
            return Err(Refusal::new(StatusCode::UNAUTHORIZED, message).into());
        };
        let parameters = Parameters::from_request_parts(parts, app).await?;
        let path = parameters.get("path").ok_or_else(|| Refusal::bad("path: expected one"))?;
        Ok(Self { caller, volume, path: path.to_owned(), parameters })
    }
}

impl Place {
    fn at(&self) -> InVolume<'_> {
        InVolume { volume: &self.volume, path: &self.path }
    }

    /// The directory that this is in.
    fn above(&self) -> InVolume<'_> {
        let path = self.path.trim_end_matches('/');
        let above = path.rsplit_once('/').map_or("/", |(above, _)| above);
        InVolume { volume: &self.volume, path: if above.is_empty() { "/" } else { above } }
    }

    fn owned(&self) -> Result<Ownership, Refusal> {
        let number = |name| self.parameters.number(name);
        Ok(Ownership { mode: number("mode")?, uid: number("uid")?, gid: number("gid")? })
    }

    fn forced(&self) -> bool {
        self.parameters.get("force") == Some("true")
    }

    /// Refuses what is there already.
    async fn check_free(&self, app: &App) -> Result<(), Failure> {
        match app.sandboxes.stat_in_volume(&self.caller, self.at()).await {
            Ok(_) => {
                let message = format!("{}: it is there already", self.path);
                Err(Refusal::conflict(message).into())
            }
            Err(SandboxError::Guest { kind: GuestRefusal::NotFound, .. }) => Ok(()),
            Err(other) => Err(other.into()),
        }
    }

    /// Refuses a place in a directory that is not there.
    async fn check_above(&self, app: &App) -> Result<(), Failure> {
        let above = app.sandboxes.list_in_volume(&self.caller, self.above(), 1).await;
        Ok(above.map(drop)?)
    }
}

/// What is at a path.
#[derive(Debug, Serialize)]
pub(in crate::e2b) struct Stat {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    path: String,
    size: u64,
    mode: u32,
    uid: u32,
    gid: u32,
    atime: Timestamp,
    mtime: Timestamp,
    ctime: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

/// What is to be changed.
#[derive(Debug, Deserialize)]
pub(in crate::e2b) struct Change {
    uid: Option<u32>,
    gid: Option<u32>,
    mode: Option<u32>,
}

/// `GET /volumecontent/{volume}/path`
pub(in crate::e2b) async fn stat(
    State(app): State<App>,
    place: Place,
) -> Result<Json<Stat>, Failure> {
    Ok(Json(shown(app.sandboxes.stat_in_volume(&place.caller, place.at()).await?)))
}

/// `PATCH /volumecontent/{volume}/path`
pub(in crate::e2b) async fn change(
    State(app): State<App>,
    place: Place,
    body: Result<Body<Change>, Refusal>,
) -> Result<Json<Stat>, Failure> {
    let Body(Change { uid, gid, mode }) = body?;
    let owned = Ownership { mode, uid, gid };
    Ok(Json(shown(app.sandboxes.change_in_volume(&place.caller, place.at(), owned).await?)))
}

/// `DELETE /volumecontent/{volume}/path`
pub(in crate::e2b) async fn remove(
    State(app): State<App>,
    place: Place,
) -> Result<StatusCode, Failure> {
    app.sandboxes.remove_in_volume(&place.caller, place.at()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /volumecontent/{volume}/dir`
pub(in crate::e2b) async fn list(
    State(app): State<App>,
    place: Place,
) -> Result<Json<Vec<Stat>>, Failure> {
    let depth = place.parameters.number("depth")?.unwrap_or(1);
    let entries = app.sandboxes.list_in_volume(&place.caller, place.at(), depth).await?;
    Ok(Json(entries.into_iter().map(shown).collect()))
}

/// `POST /volumecontent/{volume}/dir`
pub(in crate::e2b) async fn make_directory(
    State(app): State<App>,
    place: Place,
) -> Result<(StatusCode, Json<Stat>), Failure> {
    let owned = place.owned()?;
    if !place.forced() {
        place.check_free(&app).await?;
        place.check_above(&app).await?;
    }
    let made = app.sandboxes.make_directory_in_volume(&place.caller, place.at(), owned).await?;
    Ok((StatusCode::CREATED, Json(shown(made))))
}

/// `GET /volumecontent/{volume}/file`
pub(in crate::e2b) async fn read(
    State(app): State<App>,
    place: Place,
) -> Result<Response, Failure> {
    let contents = app.sandboxes.read_in_volume(&place.caller, place.at(), None).await?;
    let mut headers = HeaderMap::new();
    let octets = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, octets);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(contents.length));
    let body = ReaderStream::with_capacity(contents.bytes, PIECE_BYTES);
    Ok((headers, ResponseBody::from_stream(body)).into_response())
}

/// `PUT /volumecontent/{volume}/file`
pub(in crate::e2b) async fn write(
    State(app): State<App>,
    place: Place,
    request: Request,
) -> Result<(StatusCode, Json<Stat>), Failure> {
    // Read on though it be refused, so that who still sends gets to know why.
    let body = Arriving::new(request.into_body(), app.tasks());
    let owned = place.owned()?;
    if !place.forced() {
        place.check_free(&app).await?;
    }
    place.check_above(&app).await?;
    let contents = Box::new(StreamReader::new(Box::pin(body.map_err(io::Error::other))));
    app.sandboxes.write_in_volume(&place.caller, place.at(), owned, contents).await?;
    let written = app.sandboxes.stat_in_volume(&place.caller, place.at()).await?;
    Ok((StatusCode::CREATED, Json(shown(written))))
}

fn shown(entry: VolumeEntry) -> Stat {
    let VolumeEntry { info, uid, gid, accessed_at, changed_at } = entry;
    Stat {
        name: info.name,
        kind: match info.kind {
            FileKind::File => "file",
            FileKind::Directory => "directory",
            FileKind::Symlink => "symlink",
            FileKind::Other => "unknown",
        },
        path: info.path,
        size: info.size,
        mode: info.mode,
        uid,
        gid,
        atime: timestamp(accessed_at),
        mtime: timestamp(info.modified_at.unwrap_or(changed_at)),
        ctime: timestamp(changed_at),
        target: info.symlink_target,
    }
}
