//! Parts of requests, with refusals in our envelope.

use std::time::Duration;

use axum::{
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::request::Parts,
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use warren_api::Code;

use crate::{app::App, error::ApiError};

/// How long a client may take for a body that is not a file.
const BODY_TIME: Duration = Duration::from_secs(60);

/// A JSON body. An empty one reads as `{}`.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        read(request, app.config().body_bytes).await.map(Self)
    }
}

/// The JSON body of a request to run a command, which may bring what the command reads.
#[derive(Debug)]
pub(crate) struct CommandBody<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for CommandBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        read(request, app.command_bytes()).await.map(Self)
    }
}

/// Reads JSON from a caller.
pub(crate) fn json<T: DeserializeOwned>(text: &[u8]) -> Result<T, ApiError> {
    // The reader would take an array for an object, with its fields in order.
    if text.trim_ascii_start().first() == Some(&b'[') {
        return Err(ApiError::invalid("request body", "expected an object"));
    }
    serde_json::from_slice(text).map_err(|error| ApiError::invalid("request body", error))
}

/// Reads a JSON body of at most so many bytes. An empty one reads as `{}`.
pub(crate) async fn read<T: DeserializeOwned>(
    request: Request,
    most: usize,
) -> Result<T, ApiError> {
    let body = Limited::new(request.into_body(), most).collect();
    let bytes = match tokio::time::timeout(BODY_TIME, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let message = format!("the body of this request has at most {most} bytes");
            return Err(ApiError::new(Code::ResourceExhausted, message));
        }
        Ok(Err(error)) => return Err(ApiError::invalid("request body", error)),
        Err(_elapsed) => {
            let message = format!("the request body did not come within {} s", BODY_TIME.as_secs());
            return Err(ApiError::new(Code::DeadlineExceeded, message));
        }
    };
    json(if bytes.is_empty() { b"{}" } else { &bytes })
}

/// The `{id}` of a path: a sandbox's id or name.
#[derive(Debug)]
pub(crate) struct SandboxPath(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for SandboxPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(id) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|error| ApiError::invalid("path", error.body_text()))?;
        Ok(Self(id))
    }
}

/// The one name in a path that is not a sandbox's.
#[derive(Debug)]
pub(crate) struct Named(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        SandboxPath::from_request_parts(parts, state).await.map(|SandboxPath(name)| Self(name))
    }
}

/// The `{id}` and `{exec_id}` of a path.
#[derive(Debug)]
pub(crate) struct ExecPath {
    pub(crate) sandbox: String,
    pub(crate) exec: warren_core::id::ExecId,
}

impl<S: Send + Sync> FromRequestParts<S> for ExecPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path((sandbox, exec)) = Path::<(String, String)>::from_request_parts(parts, state)
            .await
            .map_err(|error| ApiError::invalid("path", error.body_text()))?;
        let exec = exec.parse().map_err(|error| ApiError::invalid("exec_id", error))?;
        Ok(Self { sandbox, exec })
    }
}

/// The parameters of a query, each taken out by name; what is left over is refused.
#[derive(Debug)]
pub(crate) struct Parameters(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map(|Query(pairs)| Self(pairs))
            .map_err(|error| ApiError::invalid("query", error.body_text()))
    }
}

impl Parameters {
    /// Every value of a parameter, in order.
    pub(crate) fn all(&mut self, name: &str) -> Vec<String> {
        let (taken, left) =
            std::mem::take(&mut self.0).into_iter().partition(|(known, _)| known == name);
        self.0 = left;
        let taken: Vec<(String, String)> = taken;
        taken.into_iter().map(|(_, value)| value).collect()
    }

    /// The value of a parameter that is given at most once.
    pub(crate) fn one(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        let mut values = self.all(name);
        match values.len() {
            0 | 1 => Ok(values.pop()),
            _ => Err(ApiError::invalid(name, "given more than once")),
        }
    }

    /// The value of a parameter that must be given.
    pub(crate) fn required(&mut self, name: &str) -> Result<String, ApiError> {
        self.one(name)?.ok_or_else(|| ApiError::invalid(name, "missing from the query"))
    }

    /// A number.
    pub(crate) fn number<T: std::str::FromStr>(
        &mut self,
        name: &str,
    ) -> Result<Option<T>, ApiError> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_not_one| ApiError::invalid(name, "expected a number"))
    }

    /// Whether a parameter says `true`; it does not where absent.
    pub(crate) fn flag(&mut self, name: &str) -> Result<bool, ApiError> {
        Ok(self.choice(name)?.unwrap_or_default())
    }

    /// Whether a parameter says `true` or `false`, where it is there.
    pub(crate) fn choice(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.one(name)?.as_deref() {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(ApiError::invalid(name, "expected true or false")),
        }
    }

    /// Refuses what nobody took.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(ApiError::invalid(name, "not a parameter of this request")),
        }
    }
}
