//! Failures as these clients read them: `{"code": STATUS, "message": "..."}`.

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::Value;
use warren_core::SandboxError;

use crate::error::ApiError;

/// What tells a client whether the same request may succeed later: without it, they ask again on
/// every 429 and 503.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("should-retry");

/// A failure on its way to a client.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    message: String,
    /// What it is, for machines, where these clients have a word for it.
    name: Option<&'static str>,
    again: Again,
}

/// Whether the same request may succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    /// As the status has it.
    Usual,
    /// Not before something else has changed.
    No,
    /// After so long.
    After(Duration),
}

#[derive(Serialize)]
struct Body<'a> {
    code: u16,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<&'static str>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), name: None, again: Again::Usual }
    }

    /// A request that can never be right.
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// Something is not in a state in which this can be done.
    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// There is no such sandbox, in the very words that clients know.
    pub(crate) fn no_sandbox(id: impl std::fmt::Display) -> Self {
        let message = format!("Sandbox \"{id}\" doesn't exist or you don't have access to it");
        Self::not_found(message)
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// What is said.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    pub(super) fn never_again(self) -> Self {
        Self { again: Again::No, ..self }
    }

    fn named(self, name: &'static str) -> Self {
        Self { name: Some(name), ..self }
    }

    /// The failure as a part of another answer.
    pub(super) fn into_value(self) -> Value {
        serde_json::to_value(self.body()).unwrap_or_default()
    }

    fn body(&self) -> Body<'_> {
        Body { code: self.status.as_u16(), message: &self.message, error_code: self.name }
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        let (code, message, wait) = error.into_parts();
        let status = StatusCode::from_u16(code.http_status());
        let again = wait.map_or(Again::Usual, Again::After);
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { again, ..Self::new(status, message) }
    }
}

impl From<SandboxError> for Refusal {
    fn from(error: SandboxError) -> Self {
        use SandboxError as E;
        match error {
            E::NotFound { name } => Self::no_sandbox(name),
            E::Ended { id, .. } => Self::no_sandbox(id),
            E::NoTemplate { name } => Self::not_found(format!("template '{name}' not found")),
            E::KeyReused => Self::conflict(error.to_string()).named("idempotency_request_mismatch"),
            E::Refused(_) | E::NotRunning { .. } | E::InUse { .. } => {
                Self::conflict(error.to_string())
            }
            E::Invalid { field, reason } => Self::bad(format!("{}: {reason}", their_name(field))),
            // A place is free when something is removed, and not when some time has passed.
            E::Limit { .. } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, error.to_string()).never_again()
            }
            E::Exhausted { .. } => Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
                .never_again()
                .named("sandbox_capacity_unavailable"),
            error => ApiError::from(error).into(),
        }
    }
}

/// What these clients call a field of ours.
fn their_name(field: &'static str) -> &'static str {
    match field {
        "lifetime_seconds" => "timeout",
        "labels" => "metadata",
        "env" => "envVars",
        "credentials" => "network.rules",
        "tokens" => "iam.tokens",
        "mask_request_host" => "network.maskRequestHost",
        "volumes" => "volumeMounts",
        other => other,
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        let again = self.again;
        let headers = response.headers_mut();
        match again {
            Again::Usual => {}
            Again::No => drop(headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"))),
            Again::After(wait) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
            }
        }
        response
    }
}

/// Answers a path of this API that there is none at.
pub(super) async fn no_such_route(uri: Uri) -> Refusal {
    Refusal::not_found(format!("there is nothing at {}", uri.path()))
}

/// Answers a method that a path of this API does not have.
pub(super) async fn no_such_method(method: Method, uri: Uri) -> Refusal {
    let message = format!("{} cannot be asked with {method}", uri.path());
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, message)
}
