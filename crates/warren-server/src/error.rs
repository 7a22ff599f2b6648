//! Failures as responses. The one place that builds an error body.

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use warren_api::{Code, ErrorBody};
use warren_core::{SandboxError, error::GuestRefusal, images::ImageError};

/// A failure on its way to the caller.
#[derive(Debug)]
pub(crate) struct ApiError {
    body: Box<ErrorBody>,
    /// When it is worth asking again.
    retry_after: Option<Duration>,
}

impl ApiError {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { body: Box::new(ErrorBody::new(code, message)), retry_after: None }
    }

    /// A part of the request that can never be right.
    pub(crate) fn invalid(what: &str, reason: impl std::fmt::Display) -> Self {
        Self::new(Code::InvalidArgument, format!("{what}: {reason}"))
    }

    pub(crate) fn code(&self) -> Code {
        self.body.code
    }

    /// What it is, what it says, and when it is worth asking again.
    pub(crate) fn into_parts(self) -> (Code, String, Option<Duration>) {
        (self.body.code, self.body.message, self.retry_after)
    }

    /// The failure as a part of a stream.
    pub(crate) fn into_body(self) -> ErrorBody {
        *self.body
    }

    /// The same failure, for those who are to wait.
    pub(crate) fn retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }
}

impl From<SandboxError> for ApiError {
    fn from(error: SandboxError) -> Self {
        let code = code(&error);
        if code == Code::Internal {
            let cause = &error as &dyn std::error::Error;
            tracing::error!(error = cause, "request failed: {error}{}", causes(cause));
            // The cause is for the log.
            return Self::new(code, "internal error; the server's log has the cause");
        }
        if let SandboxError::Unresponsive { .. } = &error {
            let cause = &error as &dyn std::error::Error;
            tracing::warn!(error = cause, "{error}{}", causes(cause));
        }
        Self::new(code, error.to_string())
    }
}

/// What an error means to the caller. Without a wildcard: a new variant must choose.
fn code(error: &SandboxError) -> Code {
    use SandboxError as E;
    match error {
        E::NotFound { .. }
        | E::NoSuch { .. }
        | E::NoSuchExec { .. }
        | E::NoTemplate { .. }
        | E::NoBuild { .. }
        | E::NoSuchProject { .. }
        | E::NoSuchKey { .. } => Code::NotFound,
        E::NameTaken { .. } | E::Taken { .. } | E::ProjectExists { .. } => Code::AlreadyExists,
        E::Invalid { .. } => Code::InvalidArgument,
        E::Refused(_)
        | E::NotRunning { .. }
        | E::KeyReused
        | E::BuildFailed { .. }
        | E::NotReady { .. }
        | E::InUse { .. }
        | E::ProjectInUse { .. } => Code::FailedPrecondition,
        E::Ended { .. } | E::KeyFailed => Code::Aborted,
        E::Limit { .. } | E::Exhausted { .. } => Code::ResourceExhausted,
        E::Unsupported { .. } => Code::Unimplemented,
        E::Guest { kind, .. } => guest_code(*kind),
        E::PortClosed { .. } | E::Unresponsive { .. } | E::ShuttingDown => Code::Unavailable,
        E::Denied { .. } | E::OtherProject => Code::PermissionDenied,
        E::Image(error) => image_code(error),
        E::Store { .. } | E::Runtime { .. } | E::Broken(_) => Code::Internal,
    }
}

fn image_code(error: &ImageError) -> Code {
    use ImageError as I;
    match error {
        I::NotFound { .. } | I::NotInRegistry { .. } => Code::NotFound,
        I::Unreachable { .. } | I::Failing { .. } => Code::Unavailable,
        I::RegistryNotAllowed { .. } => Code::PermissionDenied,
        I::Unusable { .. } | I::InUse { .. } => Code::FailedPrecondition,
        I::TooLarge { .. } | I::AboveSetting { .. } | I::DiskFull => Code::ResourceExhausted,
        I::Host { .. } => Code::Internal,
    }
}

fn guest_code(refusal: GuestRefusal) -> Code {
    use GuestRefusal as R;
    match refusal {
        // The user is a part of the request: the caller itself is known.
        R::InvalidArgument | R::UnknownUser => Code::InvalidArgument,
        R::NotFound => Code::NotFound,
        R::AlreadyExists => Code::AlreadyExists,
        R::PermissionDenied => Code::PermissionDenied,
        R::FailedPrecondition => Code::FailedPrecondition,
        R::ResourceExhausted => Code::ResourceExhausted,
        R::OutOfRange => Code::OutOfRange,
        R::Unimplemented => Code::Unimplemented,
        R::DeadlineExceeded => Code::DeadlineExceeded,
        // The guest's failure is not ours.
        R::Internal => Code::Unavailable,
    }
}

/// The chain behind an error, for one line of the log.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = String::new();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let code = self.body.code;
        let status =
            StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.body)).into_response();
        let headers = response.headers_mut();
        if code == Code::Unauthenticated {
            let how = HeaderValue::from_static("Bearer realm=\"warren\"");
            headers.insert(header::WWW_AUTHENTICATE, how);
        }
        if let Some(wait) = self.retry_after {
            // In whole seconds, and never too early.
            let seconds = wait.as_secs() + 1;
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Answers a path that is none of ours.
pub(crate) async fn no_such_route(uri: Uri) -> ApiError {
    ApiError::new(Code::NotFound, format!("there is nothing at {}", uri.path()))
}

/// Answers a method that a path of ours does not have.
pub(crate) async fn no_such_method(method: Method, uri: Uri) -> Response {
    let message = format!("{} cannot be asked with {method}", uri.path());
    let body = ApiError::new(Code::Unimplemented, message).into_body();
    (StatusCode::METHOD_NOT_ALLOWED, Json(body)).into_response()
}
