//! The server itself.

use axum::{Json, extract::State, http::StatusCode};
use warren_api::server as api;
use warren_core::SandboxError;

use crate::{app::App, auth::Known, convert, error::ApiError};

/// Say that the server is there
pub(crate) async fn get_health(_: Known) -> Json<api::Health> {
    Json(api::Health { status: "ok".to_owned() })
}

/// Say what the server is and what it can do here
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
