//! Secrets: made, changed, listed and removed. No answer holds a value.
//!
//! Names that are made here are in small letters, as these clients expect, and found in any.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use serde::{Deserialize, Serialize};
use warren_api::Timestamp;
use warren_core::{
    Caller, SandboxError,
    secrets::{Place, Secret, SecretValue, WantedSecret},
};

use super::{
    Refusal,
    extract::{Body, Parameters, Segment, Team},
    templates::page,
};
use crate::{app::App, convert::timestamp};

/// How many secrets a page has at most, and where nothing is said.
const PAGE: usize = 100;
/// How the identity of a secret begins.
const PREFIX: &str = "sec_";

/// What is asked for by `POST /secrets`.
#[derive(Deserialize)]
pub(super) struct NewSecret {
    name: String,
    value: String,
    metadata: Option<BTreeMap<String, String>>,
}

/// What is asked for by `POST /secrets/{secret}`.
#[derive(Deserialize)]
pub(super) struct NewValue {
    value: String,
    metadata: Option<BTreeMap<String, String>>,
}

/// A secret without its value.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    #[serde(rename = "secretID")]
    secret_id: String,
    name: String,
    current_version: u64,
    metadata: BTreeMap<String, String>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// `GET /secrets`
pub(super) async fn list_secrets(
    State(app): State<App>,
    Team(caller): Team,
    parameters: Parameters,
) -> Result<(HeaderMap, Json<Vec<Shown>>), Refusal> {
    let limit = parameters.limit(PAGE)?;
    let secrets = app.sandboxes.secrets(&caller);
    let (page, headers) = page(secrets, limit, parameters.get("nextToken"), |it| &it.name);
    Ok((headers, Json(page.into_iter().map(shown).collect())))
}

/// `POST /secrets`
pub(super) async fn create_secret(
    State(app): State<App>,
    Team(caller): Team,
    Body(NewSecret { name, value, metadata }): Body<NewSecret>,
) -> Result<(StatusCode, Json<Shown>), Refusal> {
    let wanted = WantedSecret {
        value: SecretValue::new(value.into_bytes()),
        labels: Some(metadata.unwrap_or_default()),
        place: Place::Free,
    };
    let name = name.to_ascii_lowercase();
    if name.starts_with(PREFIX) {
        return Err(Refusal::bad("name: sec_ is how identities of secrets begin"));
    }
    let made = app.sandboxes.set_secret(&caller, &name, wanted).await.map_err(refused)?;
    Ok((StatusCode::CREATED, Json(shown(made))))
}

/// `GET /secrets/{secret}`
pub(super) async fn get_secret(
    State(app): State<App>,
    Team(caller): Team,
    Segment(text): Segment,
) -> Result<Json<Shown>, Refusal> {
    Ok(Json(shown(find(&app, &caller, &text)?)))
}

/// `POST /secrets/{secret}`
pub(super) async fn update_secret(
    State(app): State<App>,
    Team(caller): Team,
    Segment(text): Segment,
    Body(NewValue { value, metadata }): Body<NewValue>,
) -> Result<Json<Shown>, Refusal> {
    let name = find(&app, &caller, &text)?.name;
    let value = SecretValue::new(value.into_bytes());
    let wanted = WantedSecret { value, labels: metadata, place: Place::Taken };
    Ok(Json(shown(app.sandboxes.set_secret(&caller, &name, wanted).await.map_err(refused)?)))
}

/// `DELETE /secrets/{secret}`
pub(super) async fn delete_secret(
    State(app): State<App>,
    Team(caller): Team,
    Segment(text): Segment,
) -> Result<StatusCode, Refusal> {
    let name = find(&app, &caller, &text)?.name;
    app.sandboxes.remove_secret(&caller, &name).await.map_err(refused)?;
    Ok(StatusCode::NO_CONTENT)
}

/// A secret by its name, or by its identity.
fn find(app: &App, caller: &Caller, text: &str) -> Result<Secret, Refusal> {
    let id = text.strip_prefix(PREFIX).unwrap_or(text);
    let found = app.sandboxes.secret(caller, &named(app, caller, text));
    found.or_else(|_none| app.sandboxes.secret_by(caller, id)).map_err(|_none| none(text))
}

/// The name of a secret that somebody writes so: one of the native API may have large letters.
pub(super) fn named(app: &App, caller: &Caller, text: &str) -> String {
    match app.sandboxes.secret(caller, text) {
        Ok(_) => text.to_owned(),
        Err(_none) => text.to_ascii_lowercase(),
    }
}

fn refused(error: SandboxError) -> Refusal {
    match error {
        SandboxError::Taken { name, .. } => {
            Refusal::conflict(format!("Secret '{name}' already exists"))
        }
        SandboxError::NoSuch { name, .. } => none(&name),
        SandboxError::Invalid { field: "labels", reason } => {
            Refusal::bad(format!("metadata: {reason}"))
        }
        other => other.into(),
    }
}

fn none(name: &str) -> Refusal {
    Refusal::not_found(format!("Secret '{name}' not found"))
}

fn shown(secret: Secret) -> Shown {
    Shown {
        secret_id: format!("{PREFIX}{}", secret.id()),
        name: secret.name,
        current_version: secret.version,
        metadata: secret.labels,
        created_at: timestamp(secret.created_at),
        updated_at: timestamp(secret.updated_at),
    }
}
