//! Templates: what sandboxes are made from, by name.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use warren_api::template as api;

use crate::{
    app::App,
    auth::Known,
    convert,
    error::ApiError,
    extract::{Body, Named},
};

/// List templates, by name
///
/// Those of the caller's project.
#[utoipa::path(
    get, path = "/v1/templates", tag = "templates",
    responses((status = 200, description = "Every template", body = api::TemplateList)),
)]
pub(crate) async fn list_templates(
    State(app): State<App>,
    Known(caller): Known,
) -> Result<Json<api::TemplateList>, ApiError> {
    let templates = app.sandboxes.templates().list(&caller);
    let templates = templates.iter().map(|it| convert::template(it)).collect();
    Ok(Json(api::TemplateList { templates }))
}

/// Get a template
///
/// By its id or name; another project's public one as `PROJECT/NAME`, with `%2F` for the slash.
#[utoipa::path(
    get, path = "/v1/templates/{template}", tag = "templates",
    params(("template" = String, Path, description = "Its id or name")),
    responses((status = 200, description = "The template", body = api::Template)),
)]
pub(crate) async fn get_template(
    State(app): State<App>,
    Known(caller): Known,
    Named(name): Named,
) -> Result<Json<api::Template>, ApiError> {
    let template = app.sandboxes.templates().get(&caller, &name)?;
    Ok(Json(convert::template(&template)))
}

/// Change a template
#[utoipa::path(
    patch, path = "/v1/templates/{template}", tag = "templates",
    params(("template" = String, Path, description = "Its id or name")),
    request_body = api::UpdateTemplate,
    responses((status = 200, description = "The template", body = api::Template)),
)]
pub(crate) async fn update_template(
    State(app): State<App>,
    Known(caller): Known,
    Named(name): Named,
    Body(change): Body<api::UpdateTemplate>,
) -> Result<Json<api::Template>, ApiError> {
    let templates = app.sandboxes.templates();
    let changed = templates.update(&caller, &name, change.public, change.warm).await?;
    Ok(Json(convert::template(&changed)))
}

/// Remove a template
///
/// With its versions and builds; builds that run are ended. Sandboxes made from it go on.
#[utoipa::path(
    delete, path = "/v1/templates/{template}", tag = "templates",
    params(("template" = String, Path, description = "Its id or name")),
    responses((status = 204, description = "It is gone")),
)]
pub(crate) async fn delete_template(
    State(app): State<App>,
    Known(caller): Known,
    Named(name): Named,
) -> Result<StatusCode, ApiError> {
    app.sandboxes.templates().delete(&caller, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Tag a version of a template
///
/// The version that `NAME:TAG` in the path names; `latest` where there is no tag. Tags that other
/// versions have go over to it.
#[utoipa::path(
    post, path = "/v1/templates/{template}/tags", tag = "templates",
    params(("template" = String, Path, description = "Its id or name, perhaps with `:TAG`")),
    request_body = api::TagTemplate,
    responses((status = 200, description = "The template", body = api::Template)),
)]
pub(crate) async fn tag_template(
    State(app): State<App>,
    Known(caller): Known,
    Named(name): Named,
    Body(request): Body<api::TagTemplate>,
) -> Result<Json<api::Template>, ApiError> {
    let tagged = app.sandboxes.templates().tag(&caller, &name, &request.tags).await?;
    Ok(Json(convert::template(&tagged)))
}

/// Take a tag away
///
/// Of versions without a tag, the two newest are kept.
#[utoipa::path(
    delete, path = "/v1/templates/{template}/tags/{tag}", tag = "templates",
    params(
        ("template" = String, Path, description = "Its id or name"),
        ("tag" = String, Path, description = "The tag"),
    ),
    responses((status = 200, description = "The template", body = api::Template)),
)]
pub(crate) async fn untag_template(
    State(app): State<App>,
    Known(caller): Known,
    Path((name, tag)): Path<(String, String)>,
) -> Result<Json<api::Template>, ApiError> {
    let changed = app.sandboxes.templates().untag(&caller, &name, &tag).await?;
    Ok(Json(convert::template(&changed)))
}

/// List the builds of a template, the newest first
///
/// The last ten.
#[utoipa::path(
    get, path = "/v1/templates/{template}/builds", tag = "templates",
    params(("template" = String, Path, description = "Its id or name")),
    responses((status = 200, description = "Its builds", body = api::BuildList)),
)]
pub(crate) async fn list_builds(
    State(app): State<App>,
    Known(caller): Known,
    Named(name): Named,
) -> Result<Json<api::BuildList>, ApiError> {
    let builds = app.sandboxes.templates().builds(&caller, &name)?;
    Ok(Json(api::BuildList { builds: builds.iter().map(|it| convert::build(it)).collect() }))
}
