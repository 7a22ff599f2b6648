//! How those who are shown a sandbox's identity find the key that proves it: OpenID Connect
//! discovery and a set of JSON web keys, for everybody.

use axum::{Json, extract::State};
use serde_json::{Value, json};

use super::Refusal;
use crate::app::App;

/// `GET /.well-known/openid-configuration`
pub(super) async fn describe(State(app): State<App>) -> Result<Json<Value>, Refusal> {
    let (issuer, _key) = app.sandboxes.identity().ok_or_else(none)?;
    Ok(Json(json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}/.well-known/jwks.json"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "claims_supported": ["iss", "sub", "aud", "iat", "nbf", "exp", "jti", "project", "sandbox_id"],
    })))
}

/// `GET /.well-known/jwks.json`
pub(super) async fn keys(State(app): State<App>) -> Result<Json<Value>, Refusal> {
    let (_issuer, key) = app.sandboxes.identity().ok_or_else(none)?;
    Ok(Json(json!({"keys": [{
        "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig",
        "kid": key.id, "x": key.x, "y": key.y,
    }]})))
}

fn none() -> Refusal {
    Refusal::not_found("this server has no key for identities")
}
