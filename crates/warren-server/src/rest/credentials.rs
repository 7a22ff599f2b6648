//! What requests of a sandbox are given on their way out.

use axum::{Json, extract::State};
use warren_api::credentials as api;

use crate::{
    app::App,
    auth::Known,
    convert,
    error::ApiError,
    extract::{Body, SandboxPath},
};

/// Show what requests of a sandbox are given, without values
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/credentials", tag = "secrets",
    params(("id" = String, Path, description = "The sandbox's id, or its name")),
    responses((status = 200, description = "What they are given", body = api::GivenCredentials)),
)]
pub(crate) async fn get_credentials(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
) -> Result<Json<api::GivenCredentials>, ApiError> {
    let given = app.sandboxes.credentials(&caller, &id)?;
    Ok(Json(convert::given(&given)))
}

/// Give requests of a running sandbox credentials
///
/// From the next request on, in place of what they are given now; an empty object takes everything
/// back. Programs that read the system's list of authorities trust the sandbox's own one at once;
/// those that need a variable for it have that only where the sandbox was made with credentials.
#[utoipa::path(
    put, path = "/v1/sandboxes/{id}/credentials", tag = "secrets", request_body = api::Credentials,
    params(("id" = String, Path, description = "The sandbox's id, or its name")),
    responses((status = 200, description = "What they are given", body = api::GivenCredentials)),
)]
pub(crate) async fn set_credentials(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
    Body(request): Body<api::Credentials>,
) -> Result<Json<api::GivenCredentials>, ApiError> {
    let mut wanted = convert::credentials(request);
    // Tokens are given with the sandbox, and stay.
    wanted.tokens.clone_from(&app.sandboxes.credentials(&caller, &id)?.tokens);
    app.sandboxes.set_credentials(&caller, &id, wanted).await?;
    let given = app.sandboxes.credentials(&caller, &id)?;
    Ok(Json(convert::given(&given)))
}
