//! Volumes: made, found and removed. Their files are in `content`.

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use warren_core::{Caller, SandboxError, sandboxes::NewVolume, volumes::Volume};

use super::{
    Refusal,
    extract::{Body, Segment, Team},
    grants,
};
use crate::app::App;

pub(super) mod content;

/// What is asked for by `POST /volumes`.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    name: String,
}

/// A volume in a list.
#[derive(Debug, Serialize)]
pub(super) struct Listed {
    #[serde(rename = "volumeID")]
    volume_id: String,
    name: String,
}

/// A volume, and what opens its files.
#[derive(Debug, Serialize)]
pub(super) struct Opened {
    #[serde(flatten)]
    listed: Listed,
    token: String,
}

/// `GET /volumes`
pub(super) async fn list_volumes(State(app): State<App>, Team(caller): Team) -> Json<Vec<Listed>> {
    Json(app.sandboxes.volumes(&caller).iter().map(|volume| listed(volume)).collect())
}

/// `POST /volumes`
pub(super) async fn create_volume(
    State(app): State<App>,
    Team(caller): Team,
    Body(wanted): Body<Wanted>,
) -> Result<(StatusCode, Json<Opened>), Refusal> {
    let wanted = NewVolume { name: wanted.name, size_bytes: None };
    let made = app.sandboxes.create_volume(&caller, wanted).await.map_err(|error| match error {
        SandboxError::Taken { name, .. } => {
            Refusal::bad(format!("Volume with name '{name}' already exists"))
        }
        other => other.into(),
    })?;
    Ok((StatusCode::CREATED, Json(opened(&app, &caller, &made))))
}

/// `GET /volumes/{volume}`
pub(super) async fn get_volume(
    State(app): State<App>,
    Team(caller): Team,
    Segment(name): Segment,
) -> Result<Json<Opened>, Refusal> {
    let found = app.sandboxes.volume(&caller, &name)?;
    Ok(Json(opened(&app, &caller, &found)))
}

/// `DELETE /volumes/{volume}`
pub(super) async fn delete_volume(
    State(app): State<App>,
    Team(caller): Team,
    Segment(name): Segment,
) -> Result<StatusCode, Refusal> {
    app.sandboxes.remove_volume(&caller, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn listed(volume: &Volume) -> Listed {
    Listed { volume_id: volume.id.to_string(), name: volume.name.clone() }
}

fn opened(app: &App, caller: &Caller, volume: &Volume) -> Opened {
    let token = grants::sign(app, grants::VOLUME, caller, volume.id.as_str());
    Opened { listed: listed(volume), token }
}
