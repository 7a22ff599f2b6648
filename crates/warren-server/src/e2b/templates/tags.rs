//! Tags: names of a template's versions.

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use warren_api::Timestamp;
use warren_core::{SandboxError, templates::model::DEFAULT_TAG};

use super::{
    super::{
        Refusal,
        extract::{Body, Segment, Team},
        names,
    },
    found, missing, own_name,
};
use crate::{app::App, convert::timestamp};

/// What is to be tagged, and with what.
#[derive(Debug, Deserialize)]
pub(in crate::e2b) struct Assignment {
    target: String,
    tags: Vec<String>,
}

/// What was tagged.
#[derive(Debug, Serialize)]
pub(in crate::e2b) struct Assigned {
    #[serde(rename = "buildID")]
    build_id: String,
    tags: Vec<String>,
}

/// Which tags are to go.
#[derive(Debug, Deserialize)]
pub(in crate::e2b) struct Removal {
    name: String,
    tags: Vec<String>,
}

/// A tag, and the build that it names.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::e2b) struct Tag {
    tag: String,
    #[serde(rename = "buildID")]
    build_id: String,
    created_at: Timestamp,
}

/// `POST /templates/tags`
pub(in crate::e2b) async fn assign_tags(
    State(app): State<App>,
    Team(caller): Team,
    Body(wanted): Body<Assignment>,
) -> Result<(StatusCode, Json<Assigned>), Refusal> {
    let (name, tag) = names::parts(&wanted.target);
    let name = own_name(&caller, name)?;
    let source = format!("{name}:{}", native(tag.unwrap_or(names::DEFAULT_TAG)));
    let templates = app.sandboxes.templates();
    // Some clients repeat the name before the tag.
    let tags: Vec<_> = wanted.tags.iter().map(|tag| names::parts(tag).1.unwrap_or(tag)).collect();
    if tags.is_empty() {
        return Err(Refusal::bad("tags: expected at least one"));
    }
    let native: Vec<_> = tags.iter().map(|tag| native(tag).to_owned()).collect();
    let none = |error: SandboxError| match (error, tag) {
        (SandboxError::NoTemplate { .. }, Some(tag)) if templates.get(&caller, name).is_ok() => {
            let message = format!("tag '{tag}' does not exist for template '{name}'");
            Refusal::not_found(message)
        }
        (SandboxError::NoTemplate { .. }, _) => missing(&wanted.target),
        (other, _) => other.into(),
    };
    let (_, version) = templates.resolve(&caller, &source).map_err(none)?;
    templates.tag(&caller, &source, &native).await.map_err(none)?;
    let tags = tags.into_iter().map(str::to_owned).collect();
    Ok((StatusCode::CREATED, Json(Assigned { build_id: version.build.to_string(), tags })))
}

/// `DELETE /templates/tags`
pub(in crate::e2b) async fn remove_tags(
    State(app): State<App>,
    Team(caller): Team,
    Body(wanted): Body<Removal>,
) -> Result<StatusCode, Refusal> {
    let name = own_name(&caller, names::parts(&wanted.name).0)?;
    let template = found(&app, &caller, name)?;
    let gone = |tag: &&String| !template.tags.contains_key(native(tag));
    if let Some(tag) = wanted.tags.iter().find(gone) {
        let message = format!("tag '{tag}' does not exist for template '{name}'");
        return Err(Refusal::not_found(message));
    }
    for tag in &wanted.tags {
        match app.sandboxes.templates().untag(&caller, name, native(tag)).await {
            // Somebody else has taken it away meanwhile.
            Ok(_) | Err(SandboxError::NoTemplate { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /templates/{template}/tags`
pub(in crate::e2b) async fn list_tags(
    State(app): State<App>,
    Team(caller): Team,
    Segment(text): Segment,
) -> Result<Json<Vec<Tag>>, Refusal> {
    let template = found(&app, &caller, &text)?;
    let shown = template.tags.iter().map(|(tag, tagged)| Tag {
        tag: theirs(tag).to_owned(),
        build_id: tagged.build.to_string(),
        created_at: timestamp(tagged.at),
    });
    Ok(Json(shown.collect()))
}

/// What the native API calls a tag: the one that goes without saying has another name there.
pub(super) fn native(tag: &str) -> &str {
    if tag == names::DEFAULT_TAG { DEFAULT_TAG } else { tag }
}

fn theirs(tag: &str) -> &str {
    if tag == DEFAULT_TAG { names::DEFAULT_TAG } else { tag }
}
