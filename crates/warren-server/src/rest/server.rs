//! The server itself.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use warren_api::{Code, server as api};

use crate::{
    app::App,
    auth::{Known, MetricsReader},
    convert,
    error::ApiError,
    metrics, openapi,
};

/// Say that the server is there
///
/// With what somebody should see to, such as certificates that could not be renewed.
#[utoipa::path(
    get, path = "/v1/health", tag = "server", security(()),
    responses((status = 200, description = "It is there", body = api::Health)),
)]
pub(crate) async fn get_health(State(app): State<App>) -> Json<api::Health> {
    let warnings = app.certificate_report().map(|it| it.warnings()).unwrap_or_default();
    Json(api::Health { status: "ok".to_owned(), warnings })
}

/// Say whether sandboxes can be made now
///
/// 503 says why not: the database takes no changes, the machine cannot isolate, or the server is
/// about to end.
#[utoipa::path(
    get, path = "/v1/ready", tag = "server", security(()),
    responses((status = 200, description = "They can", body = api::Health)),
)]
pub(crate) async fn get_ready(State(app): State<App>) -> Result<Json<api::Health>, ApiError> {
    match app.ready().await {
        Ok(()) => Ok(Json(api::Health { status: "ok".to_owned(), warnings: Vec::new() })),
        Err(unready) => Err(ApiError::new(Code::Unavailable, unready.to_string())),
    }
}

/// Show what the server counted since its start
///
/// In Prometheus' text format. For the user who runs the server, and for keys of metrics.
#[utoipa::path(
    get, path = "/v1/metrics", tag = "server",
    responses((status = 200, description = "The numbers", body = String)),
)]
pub(crate) async fn get_metrics(
    State(app): State<App>,
    _: MetricsReader,
) -> Result<impl IntoResponse, ApiError> {
    let kind = (header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
    Ok(([kind], metrics::page(&app)))
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
    caller.require_host("end it")?;
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
