//! What a client of the broker is answered.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Response, StatusCode, header};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use tokio::task::JoinSet;
use warren_http::Held;

/// An answer: a sentence of ours, or the remote's, which holds the connection to it.
pub(super) type Answer = Response<Either<Full<Bytes>, Held<Incoming, JoinSet<()>>>>;

/// What of an answer's headers is passed on.
const PASSED: [HeaderName; 5] = [
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CACHE_CONTROL,
    header::EXPIRES,
    header::PRAGMA,
];

/// Why a request was not answered by the remote.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The client has no right to it; its owner is told.
    Denied {
        /// The path it asked for.
        repository: String,
        /// Why, as a sentence.
        reason: String,
    },
    /// It could not be done.
    Failed {
        /// What is answered.
        status: StatusCode,
        /// Why, as a sentence.
        reason: String,
    },
}

impl Refusal {
    /// The way to the remote failed.
    pub(super) fn failed(reason: impl Into<String>) -> Self {
        Self::Failed { status: StatusCode::BAD_GATEWAY, reason: reason.into() }
    }
}

/// A sentence for whoever reads what git says.
pub(super) fn refusal(status: StatusCode, reason: &str) -> Answer {
    let body = Either::Left(Full::new(Bytes::from(format!("{reason}\n"))));
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let text = http::HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, text);
    answer
}

/// The remote's answer, as it is passed on.
pub(super) fn passed_on(
    response: Response<Incoming>,
    connection: JoinSet<()>,
) -> Result<Answer, Refusal> {
    let (head, body) = response.into_parts();
    let failed = |status, reason: &str| Err(Refusal::Failed { status, reason: reason.to_owned() });
    match head.status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => failed(
            StatusCode::FORBIDDEN,
            "the remote does not take the credential of this session, or wants one",
        ),
        StatusCode::NOT_FOUND => failed(
            StatusCode::NOT_FOUND,
            "the remote has no such repository, or does not show it to this session's credential",
        ),
        status if status.is_redirection() => failed(
            StatusCode::BAD_GATEWAY,
            "the remote has the repository at another address: give the session that one",
        ),
        status => {
            let mut headers = HeaderMap::new();
            for name in PASSED {
                if let Some(value) = head.headers.get(&name) {
                    headers.insert(name, value.clone());
                }
            }
            let mut answer = Response::new(Either::Right(Held::new(body, connection)));
            *answer.status_mut() = status;
            *answer.headers_mut() = headers;
            Ok(answer)
        }
    }
}
