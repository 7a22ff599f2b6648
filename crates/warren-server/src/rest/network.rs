//! What a sandbox may reach.

use axum::{Json, extract::State};
use warren_api::network as api;
use warren_core::{runtime::Traffic, sandbox::Sandbox};

use crate::{
    app::App,
    auth::Known,
    convert::network as convert,
    error::ApiError,
    extract::{Body, SandboxPath},
};

/// Show what a sandbox may reach, and what went over its network
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/network", tag = "network", params(SandboxPath),
    responses((status = 200, description = "What it may reach", body = api::SandboxNetwork)),
)]
pub(crate) async fn get_network(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
) -> Result<Json<api::SandboxNetwork>, ApiError> {
    let (sandbox, traffic) = app.sandboxes.network(&caller, &id).await?;
    Ok(shown(&sandbox, traffic))
}

/// Change what a sandbox may reach
///
/// While it runs: connections that are still allowed go on, others are cut.
#[utoipa::path(
    put, path = "/v1/sandboxes/{id}/network", tag = "network", params(SandboxPath),
    request_body = api::SetNetwork,
    responses((status = 200, description = "It is so from now on", body = api::SandboxNetwork)),
)]
pub(crate) async fn set_network(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
    Body(request): Body<api::SetNetwork>,
) -> Result<Json<api::SandboxNetwork>, ApiError> {
    let network = convert::wanted(request.network)?;
    let sandbox = app.sandboxes.set_network(&caller, &id, network).await?;
    let (_, traffic) = app.sandboxes.network(&caller, &id).await?;
    Ok(shown(&sandbox, traffic))
}

fn shown(sandbox: &Sandbox, traffic: Option<Traffic>) -> Json<api::SandboxNetwork> {
    Json(api::SandboxNetwork {
        network: convert::shown(&sandbox.spec.network),
        traffic: traffic.map(convert::traffic),
    })
}

/// Explain why a sandbox reaches something, or does not
///
/// Nothing is sent anywhere.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/network/explain", tag = "network", params(SandboxPath),
    request_body = api::ExplainNetwork,
    responses((status = 200, description = "Why", body = api::NetworkExplanation)),
)]
pub(crate) async fn explain_network(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
    Body(request): Body<api::ExplainNetwork>,
) -> Result<Json<api::NetworkExplanation>, ApiError> {
    let question = convert::question(&request)?;
    let (sandbox, explained) = app.sandboxes.explain(&caller, &id, &question).await?;
    Ok(Json(convert::explanation(&sandbox.spec.network, &explained)))
}

/// Show what a sandbox reached, and rules that allow just that
///
/// Of a sandbox whose rules are for learning or a dry run.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/network/learned", tag = "network", params(SandboxPath),
    responses((status = 200, description = "What it reached", body = api::LearnedNetwork)),
)]
pub(crate) async fn learned_network(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
) -> Result<Json<api::LearnedNetwork>, ApiError> {
    let learned = app.sandboxes.learned(&caller, &id).await?;
    Ok(Json(convert::learned(&learned)))
}
