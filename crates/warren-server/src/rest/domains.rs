//! Names of somebody's own that lead to a port of a sandbox.

use axum::{Json, extract::State, http::StatusCode};
use warren_api::domain as api;
use warren_core::{
    clock::Timestamp,
    domains::{Domain, PROOF_LABEL},
    sandboxes::NewDomain,
};

use crate::{
    app::App,
    auth::Known,
    convert,
    error::ApiError,
    extract::{Body, Named},
};

/// List domains, by name
#[utoipa::path(
    get, path = "/v1/domains", tag = "domains",
    responses((status = 200, description = "The caller's domains", body = api::DomainList)),
)]
pub(crate) async fn list_domains(
    State(app): State<App>,
    Known(caller): Known,
) -> Result<Json<api::DomainList>, ApiError> {
    let domains = app.sandboxes.domains(&caller).iter().map(|it| shown(&app, it)).collect();
    Ok(Json(api::DomainList { domains }))
}

/// Let a domain lead to a port of a sandbox
///
/// A new one is served once it was verified: the answer says which record shows that it is the
/// caller's. One that was verified leads elsewhere at once.
#[utoipa::path(
    put, path = "/v1/domains/{name}", tag = "domains", request_body = api::SetDomain,
    params(("name" = String, Path, description = "The domain, such as `app.example.com`")),
    responses((status = 200, description = "The domain", body = api::Domain)),
)]
pub(crate) async fn set_domain(
    State(app): State<App>,
    Known(caller): Known,
    Named(name): Named,
    Body(request): Body<api::SetDomain>,
) -> Result<Json<api::Domain>, ApiError> {
    let wanted = NewDomain {
        name,
        sandbox: request.sandbox,
        port: request.port,
        public: request.public,
        unchecked: request.unchecked,
    };
    Ok(Json(shown(&app, &*app.sandboxes.add_domain(&caller, wanted).await?)))
}

/// Show a domain
#[utoipa::path(
    get, path = "/v1/domains/{name}", tag = "domains",
    params(("name" = String, Path, description = "The domain")),
    responses((status = 200, description = "The domain", body = api::Domain)),
)]
pub(crate) async fn get_domain(
    State(app): State<App>,
    Known(caller): Known,
    Named(name): Named,
) -> Result<Json<api::Domain>, ApiError> {
    Ok(Json(shown(&app, &*app.sandboxes.domain_of(&caller, &name)?)))
}

/// Look whether a domain is shown to be the caller's
///
/// By the TXT record that it was answered with, or by a CNAME to the sandbox's own name. From then
/// on it is served. Until the name service says so, the answer is `failed_precondition`.
#[utoipa::path(
    post, path = "/v1/domains/{name}/verify", tag = "domains",
    params(("name" = String, Path, description = "The domain")),
    responses((status = 200, description = "The domain, which is served", body = api::Domain)),
)]
pub(crate) async fn verify_domain(
    State(app): State<App>,
    Known(caller): Known,
    Named(name): Named,
) -> Result<Json<api::Domain>, ApiError> {
    Ok(Json(shown(&app, &*app.sandboxes.verify_domain(&caller, &name).await?)))
}

/// Remove a domain
///
/// It leads nowhere from now on.
#[utoipa::path(
    delete, path = "/v1/domains/{name}", tag = "domains",
    params(("name" = String, Path, description = "The domain")),
    responses((status = 204, description = "It leads nowhere")),
)]
pub(crate) async fn delete_domain(
    State(app): State<App>,
    Known(caller): Known,
    Named(name): Named,
) -> Result<StatusCode, ApiError> {
    app.sandboxes.remove_domain(&caller, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn shown(app: &App, domain: &Domain) -> api::Domain {
    // The certificate of somebody else's claim to the same name is nobody's business.
    let report = app.certificate_report().filter(|_| domain.verified);
    let certificate = report.as_ref().and_then(|it| it.of(&domain.name));
    let time = |seconds: u64| convert::timestamp(Timestamp::from_millis(seconds * 1000));
    api::Domain {
        name: domain.name.clone(),
        sandbox: domain.sandbox.to_string(),
        port: domain.port,
        public: domain.public,
        verified: domain.verified,
        record_name: format!("{PROOF_LABEL}.{}", domain.name),
        record_text: domain.proof.to_string(),
        certificate: certificate.map(|it| api::DomainCertificate {
            expires_at: it.until.map(time),
            failure: it.failure.clone(),
        }),
        created_at: convert::timestamp(domain.created_at),
    }
}
