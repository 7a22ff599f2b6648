//! Who reaches the ports of a sandbox from outside, and links to them.

use std::time::Duration;

use axum::{
    Extension, Json,
    extract::{Path, State, rejection::PathRejection},
};
use http::StatusCode;
use warren_api::{Timestamp, edge as api, sandbox};
use warren_core::exposure::ExposureChange;

use crate::{
    app::App,
    auth::Known,
    convert,
    edge::{CameBy, PortLink, WantedLink},
    error::ApiError,
    extract::{Body, SandboxPath},
};

/// Say who reaches the ports of a sandbox
///
/// Everybody, at public ports; otherwise those alone who have a token. It holds at once: streams of
/// visitors of a port that is private from now on are cut.
#[utoipa::path(
    put, path = "/v1/sandboxes/{id}/exposure", tag = "ports", params(SandboxPath),
    request_body = api::ChangeExposure,
    responses((status = 200, description = "The sandbox", body = sandbox::Sandbox)),
)]
pub(crate) async fn expose_sandbox(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
    Body(request): Body<api::ChangeExposure>,
) -> Result<Json<sandbox::Sandbox>, ApiError> {
    let change = ExposureChange {
        public: request.public_ports.map(|ports| ports.into_iter().collect()),
        wake: request.auto_resume,
        mask_host: request.mask_request_host,
        ..ExposureChange::default()
    };
    Ok(Json(convert::sandbox(&*app.sandboxes.expose(&caller, &id, change).await?)))
}

/// Make one port of a sandbox public, or private again
#[utoipa::path(
    put, path = "/v1/sandboxes/{id}/ports/{port}", tag = "ports",
    params(SandboxPath, ("port" = u16, Path, description = "The port")),
    request_body = api::PublishPort,
    responses((status = 200, description = "The sandbox", body = sandbox::Sandbox)),
)]
pub(crate) async fn publish_port(
    State(app): State<App>,
    Known(caller): Known,
    path: Result<Path<(String, String)>, PathRejection>,
    Body(request): Body<api::PublishPort>,
) -> Result<Json<sandbox::Sandbox>, ApiError> {
    let (id, port) = port_path(path)?;
    let port = Some((port, request.public));
    let change = ExposureChange { port, ..ExposureChange::default() };
    Ok(Json(convert::sandbox(&*app.sandboxes.expose(&caller, &id, change).await?)))
}

/// Make a link to a port of a sandbox
///
/// The token in it opens that port, or every port where none is named, for as long as is asked for
/// or until tokens of the sandbox are revoked. A public port needs none. On the server's own unix
/// socket the server listens on a loopback address from then on, for ports alone, where it listens
/// on no other.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/links", tag = "ports", params(SandboxPath),
    request_body = api::CreateLink,
    responses((status = 200, description = "The link", body = api::Link)),
)]
pub(crate) async fn create_link(
    State(app): State<App>,
    Known(caller): Known,
    came_by: Option<Extension<Option<CameBy>>>,
    SandboxPath(id): SandboxPath,
    Body(request): Body<api::CreateLink>,
) -> Result<Json<api::Link>, ApiError> {
    if request.port == Some(0) {
        return Err(ApiError::invalid("port", "expected a port number, 1 to 65535"));
    }
    let sandbox = app.sandboxes.get(&caller, &id)?;
    let lasts = request.expires_seconds.map(Duration::from_secs);
    let wanted = WantedLink { port: request.port, lasts };
    let came_by = came_by.and_then(|Extension(came_by)| came_by);
    let made = app.edge().link(&app, (&caller, came_by), &sandbox, wanted)?;
    let PortLink { url, link, token, expires } = made;
    Ok(Json(api::Link {
        sandbox_id: sandbox.id.to_string(),
        public: token.is_none(),
        url,
        link,
        token,
        expires_at: expires.map(|at| Timestamp::from_unix_ms(at.saturating_mul(1000))),
    }))
}

/// Revoke every link and every token of a sandbox
///
/// Cookies that came of them are good for nothing either, and streams of their visitors are cut.
#[utoipa::path(
    delete, path = "/v1/sandboxes/{id}/links", tag = "ports", params(SandboxPath),
    responses((status = 204, description = "None of them opens anything any more")),
)]
pub(crate) async fn revoke_links(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
) -> Result<StatusCode, ApiError> {
    let change = ExposureChange { revoke: true, ..ExposureChange::default() };
    app.sandboxes.expose(&caller, &id, change).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The sandbox and the port that a path names.
pub(super) fn port_path(
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<(String, u16), ApiError> {
    let Path((id, port)) = path.map_err(|error| ApiError::invalid("path", error.body_text()))?;
    let port = port.parse().ok().filter(|port| *port > 0);
    let port =
        port.ok_or_else(|| ApiError::invalid("port", "expected a port number, 1 to 65535"))?;
    Ok((id, port))
}
