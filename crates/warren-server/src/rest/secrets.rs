//! Secrets: set, listed, removed. No answer holds a value.

use axum::{Json, extract::State, http::StatusCode};
use warren_api::secret as api;
use warren_core::secrets::{Secret, SecretValue, WantedSecret};

use crate::{
    app::App,
    auth::Known,
    convert,
    error::ApiError,
    extract::{Body, Named},
};

/// List secrets, by name, without their values
#[utoipa::path(
    get, path = "/v1/secrets", tag = "secrets",
    responses((status = 200, description = "The caller's secrets", body = api::SecretList)),
)]
pub(crate) async fn list_secrets(
    State(app): State<App>,
    Known(caller): Known,
) -> Result<Json<api::SecretList>, ApiError> {
    let secrets = app.sandboxes.secrets(&caller).into_iter().map(shown).collect();
    Ok(Json(api::SecretList { secrets }))
}

/// Set the value of a secret
///
/// It is made where there is none of this name, and on the disk, encrypted, when the answer comes.
/// Nobody can read it back.
#[utoipa::path(
    put, path = "/v1/secrets/{name}", tag = "secrets", request_body = api::SetSecret,
    params(("name" = String, Path, description = "The secret's name")),
    responses((status = 200, description = "The secret", body = api::Secret)),
)]
pub(crate) async fn set_secret(
    State(app): State<App>,
    Known(caller): Known,
    Named(name): Named,
    Body(request): Body<api::SetSecret>,
) -> Result<Json<api::Secret>, ApiError> {
    let value = SecretValue::new(request.value.into_bytes());
    let set = app.sandboxes.set_secret(&caller, &name, WantedSecret::value(value)).await?;
    Ok(Json(shown(set)))
}

/// Show a secret without its value
#[utoipa::path(
    get, path = "/v1/secrets/{name}", tag = "secrets",
    params(("name" = String, Path, description = "The secret's name")),
    responses((status = 200, description = "The secret", body = api::Secret)),
)]
pub(crate) async fn get_secret(
    State(app): State<App>,
    Known(caller): Known,
    Named(name): Named,
) -> Result<Json<api::Secret>, ApiError> {
    Ok(Json(shown(app.sandboxes.secret(&caller, &name)?)))
}

/// Remove a secret
///
/// Sandboxes that are given it are given it no more.
#[utoipa::path(
    delete, path = "/v1/secrets/{name}", tag = "secrets",
    params(("name" = String, Path, description = "The secret's name")),
    responses((status = 204, description = "Nothing of it is left")),
)]
pub(crate) async fn delete_secret(
    State(app): State<App>,
    Known(caller): Known,
    Named(name): Named,
) -> Result<StatusCode, ApiError> {
    app.sandboxes.remove_secret(&caller, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn shown(secret: Secret) -> api::Secret {
    api::Secret {
        name: secret.name,
        version: secret.version,
        usable: secret.usable,
        created_at: convert::timestamp(secret.created_at),
        updated_at: convert::timestamp(secret.updated_at),
    }
}
