//! The server itself.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use warren_api::server as api;
use warren_core::SandboxError;

use crate::{app::App, auth::Known, convert, error::ApiError, openapi};

/// Say that the server is there
#[utoipa::path(
    get, path = "/v1/health", tag = "server",
    responses((status = 200, description = "It is there", body = api::Health)),
)]
pub(crate) async fn get_health(_: Known) -> Json<api::Health> {
    Json(api::Health { status: "ok".to_owned() })
}

/// Say what the server is and what it can do here
#[utoipa::path(
    get, path = "/v1/version", tag = "server",
    responses((status = 200, description = "What it is", body = api::Version)),
)]
pub(crate) async fn get_version(State(app): State<App>, _: Known) -> Json<api::Version> {
    let (name, capabilities) = app.sandboxes.runtime();
    Json(api::Version {
        version: app.version().to_owned(),
        api: 1,
        runtime: convert::runtime(name, capabilities),
    })
}

/// End the server
///
/// Its sandboxes live on, and the next server finds them.
#[utoipa::path(
    post, path = "/v1/shutdown", tag = "server",
    responses((status = 204, description = "It ends")),
)]
pub(crate) async fn stop_server(
    State(app): State<App>,
    Known(caller): Known,
) -> Result<StatusCode, ApiError> {
    if !caller.is_host() {
        return Err(SandboxError::Denied { operation: "end it" }.into());
    }
    app.stop();
    Ok(StatusCode::NO_CONTENT)
}

/// Describe this API in OpenAPI 3.1
#[utoipa::path(
    get, path = "/v1/openapi.json", tag = "server", security(()),
    responses((status = 200, description = "An OpenAPI document", body = Object)),
)]
pub(crate) async fn get_openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], openapi::served())
}
