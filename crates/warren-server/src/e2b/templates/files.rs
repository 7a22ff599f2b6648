//! Files that builds copy: a link to send them by, and what takes them in.

use axum::{
    Json,
    extract::{FromRequestParts, Path, Request, State},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use futures::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;

use super::{
    super::{
        ROOT, Refusal,
        extract::{Came, Segment, Team},
        grants,
    },
    found,
};
use crate::{app::App, edge::CameBy, rest::arriving::Arriving};

/// Whether files are there, and where they can be sent.
#[derive(Debug, Serialize)]
pub(in crate::e2b) struct Link {
    present: bool,
    url: String,
}

/// `{template}` and `{hash}` of a path.
#[derive(Debug)]
pub(in crate::e2b) struct OfHash {
    template: String,
    hash: String,
}

impl FromRequestParts<App> for OfHash {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let both = Path::<(String, String)>::from_request_parts(parts, app).await;
        let Path((template, hash)) = both.map_err(|error| Refusal::bad(error.body_text()))?;
        Ok(Self { template, hash })
    }
}

/// `GET /templates/{template}/files/{hash}`
pub(in crate::e2b) async fn get_link(
    State(app): State<App>,
    Team(caller): Team,
    OfHash { template, hash }: OfHash,
    Came(came): Came,
    headers: HeaderMap,
) -> Result<(StatusCode, Json<Link>), Refusal> {
    found(&app, &caller, &template)?;
    if !warren_dockerfile::steps::is_hash(&hash) {
        return Err(Refusal::bad("hash: expected a SHA-256: 64 hexadecimal digits"));
    }
    let present = app.sandboxes.templates().has_files(&caller, &hash).await?;
    let token = grants::sign(&app, grants::UPLOAD, &caller, &hash);
    // The name by which this server was asked is one by which it is reached.
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.ok_or_else(|| Refusal::bad("expected a Host header"))?;
    let scheme = if is_secure(&app, came, host, &headers) { "https" } else { "http" };
    let url = format!("{scheme}://{host}{ROOT}/uploads/{token}");
    Ok((StatusCode::CREATED, Json(Link { present, url })))
}

/// Whether the client came by TLS: to us, or to a proxy before us. Who lies about it gets a link
/// that does not work.
fn is_secure(app: &App, came: Option<CameBy>, host: &str, headers: &HeaderMap) -> bool {
    let domain = &app.config().edge.domain;
    let name = host.split(':').next().unwrap_or_default();
    let below = name.strip_suffix(domain.name()).is_some_and(|rest| rest.ends_with('.'));
    let forwarded = headers.get("x-forwarded-proto").is_some_and(|it| it == "https");
    came.is_some_and(|came| came.tls) || forwarded || (below && domain.secure() == Some(true))
}

/// `PUT /uploads/{token}`: no key is shown here, the link itself is one.
pub(in crate::e2b) async fn upload(
    State(app): State<App>,
    Segment(token): Segment,
    request: Request,
) -> Result<StatusCode, Refusal> {
    let body = Arriving::new(request.into_body(), app.tasks());
    let Some((caller, hash)) = grants::open(&app, grants::UPLOAD, &token) else {
        let message = "this link is not good, or no longer: ask for another one";
        return Err(Refusal::new(StatusCode::FORBIDDEN, message));
    };
    let archive = body.map_err(Into::into).boxed();
    app.sandboxes.templates().upload(&caller, Some(&hash), archive).await?;
    Ok(StatusCode::OK)
}
