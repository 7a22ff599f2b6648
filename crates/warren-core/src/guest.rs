//! The client of the guest agent: HTTP/1.1 over the byte streams that a runtime opens.
//!
//! Everything from the guest is hostile: sizes are bounded, answers have deadlines, and nothing
//! here panics whatever arrives. An agent in the wrong hands can only hurt its own sandbox.
//!
//! A connection has no task of its own. Whoever reads an answer drives the connection that it
//! comes on, in the same task, so a request costs no hop between tasks; a connection whose answer
//! was read to its end waits for the next request.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper::{Request, StatusCode, header};
use warren_proto::{Codec, CodecError, Status, WireMessage, envelope::EnvelopeError};

use crate::{
    error::{GuestRefusal, SandboxError},
    id::SandboxId,
    runtime::{Runtime, RuntimeError, Service},
    sandbox::Setup,
};

pub(crate) mod connection;
pub(crate) mod files;
pub(crate) mod filesystem;
pub(crate) mod messages;
pub(crate) mod process;
mod text;
pub(crate) mod trees;
pub(crate) mod watch;

use connection::{Answer, Body, Connection};

/// How long a call that does not stream may take.
const CALL: Duration = Duration::from_secs(10);

/// How long a new guest's agent may take to answer its initialisation.
const READY: Duration = Duration::from_secs(15);

/// How many idle connections to one guest are kept.
const IDLE: usize = 4;

/// The largest answer of a call that does not stream: a listing of a large directory.
const ANSWER_BYTES: usize = 16 << 20;

/// The longest message of a guest that is passed on.
const MESSAGE_BYTES: usize = 1024;

/// The agent of one guest.
pub(crate) struct Guest {
    id: SandboxId,
    runtime: Arc<dyn Runtime>,
    idle: Mutex<Vec<Idle>>,
}

/// A connection on which nothing is under way.
enum Idle {
    /// Nothing was sent on it yet.
    Fresh(Connection),
    /// Its last answer was read, or all but its last bytes.
    Used(Answer),
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Why a call to the agent failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GuestError {
    /// No stream could be opened.
    #[error("could not reach the agent")]
    Connect(#[source] RuntimeError),
    /// The stream broke, or what came was not HTTP.
    #[error("the conversation with the agent broke")]
    Http(#[source] hyper::Error),
    /// The agent took too long.
    #[error("the agent did not answer within {seconds} seconds", seconds = .0.as_secs())]
    Late(Duration),
    /// The answer is larger than allowed.
    #[error("the agent's answer is larger than {ANSWER_BYTES} bytes")]
    TooLarge,
    /// The answer is not in the protocol.
    #[error("the agent's answer is not in the protocol")]
    Codec(#[source] CodecError),
    /// A stream of the agent is not in the protocol.
    #[error("the agent's stream is not in the protocol")]
    Envelope(#[source] EnvelopeError),
    /// The answer does not say what it must.
    #[error("the agent's answer has no {0}")]
    Missing(&'static str),
    /// The request has a part that HTTP cannot carry.
    #[error("the request cannot be written as HTTP")]
    Request(#[source] hyper::http::Error),
    /// The agent understood and refused.
    #[error("the agent refused")]
    Refused(#[source] Status),
}

impl GuestError {
    /// What this means to a caller of sandbox `id`.
    pub(crate) fn for_caller(self, id: SandboxId) -> SandboxError {
        match self {
            Self::Refused(status) => SandboxError::Guest {
                kind: refusal(status.code),
                message: text::bounded(&status.message, MESSAGE_BYTES),
            },
            Self::Connect(RuntimeError::NotFound { .. }) => SandboxError::not_found(id),
            other => SandboxError::Unresponsive { id, source: Box::new(other) },
        }
    }
}

/// The agent's code as a refusal; what a guest should never say counts as a fault of its agent.
fn refusal(code: warren_proto::Code) -> GuestRefusal {
    use GuestRefusal as R;
    use warren_proto::Code as C;
    match code {
        C::InvalidArgument => R::InvalidArgument,
        C::NotFound => R::NotFound,
        C::AlreadyExists => R::AlreadyExists,
        C::PermissionDenied => R::PermissionDenied,
        C::Unauthenticated => R::UnknownUser,
        C::FailedPrecondition | C::Aborted => R::FailedPrecondition,
        C::ResourceExhausted => R::ResourceExhausted,
        C::OutOfRange => R::OutOfRange,
        C::Unimplemented => R::Unimplemented,
        C::DeadlineExceeded => R::DeadlineExceeded,
        C::Canceled | C::Unknown | C::Internal | C::Unavailable | C::DataLoss => R::Internal,
    }
}

impl Guest {
    pub(crate) fn new(id: SandboxId, runtime: Arc<dyn Runtime>) -> Self {
        Self { id, runtime, idle: Mutex::default() }
    }

    /// Tells the agent whose sandbox it is in. Its answer is the proof that the guest runs.
    pub(crate) async fn initialise(&self, setup: &Setup) -> Result<(), GuestError> {
        let initialised = async {
            let body = serde_json::to_vec(&serde_json::json!({
                "env": setup.env,
                "defaultUser": setup.user,
                "defaultWorkdir": setup.workdir,
                "sandboxId": self.id.as_str(),
            }))
            .unwrap_or_default();
            let request = Request::post("/init")
                .header(header::HOST, "control")
                .header(header::CONTENT_TYPE, "application/json")
                .body(connection::full(body))
                .map_err(GuestError::Request)?;
            // The control socket is hardly used again: no connection to it is kept.
            let connection = self.connect(Service::Control).await?;
            let answer = connection.send(request).await.map_err(|failed| failed.error)?;
            self.expect_success(answer).await.map(drop)
        };
        within(READY, initialised).await
    }

    /// One call with one message each way.
    pub(crate) async fn unary<Q: WireMessage, A: WireMessage>(
        &self,
        path: &'static str,
        user: Option<&str>,
        question: &Q,
    ) -> Result<A, GuestError> {
        within(CALL, self.unhurried(path, user, question)).await
    }

    /// One call that may take as long as it takes.
    pub(crate) async fn unhurried<Q: WireMessage, A: WireMessage>(
        &self,
        path: &'static str,
        user: Option<&str>,
        question: &Q,
    ) -> Result<A, GuestError> {
        let body = Codec::Proto.encode(question).map_err(GuestError::Codec)?;
        let request = rpc(path, user, Codec::Proto.unary_content_type())
            .body(connection::full(body))
            .map_err(GuestError::Request)?;
        let answer = self.expect_success(self.send(request).await?).await?;
        Codec::Proto.decode(&answer).map_err(GuestError::Codec)
    }

    /// Sends a request on an idle connection, or on a new one.
    async fn send(&self, mut request: Request<Body>) -> Result<Answer, GuestError> {
        while let Some(connection) = self.take_idle() {
            match connection.send(request).await {
                Ok(answer) => return Ok(answer),
                // The agent closed the idle connection before it saw the request.
                Err(failed) => match failed.unsent {
                    Some(unsent) => request = *unsent,
                    None => return Err(failed.error),
                },
            }
        }
        let connection = self.connect(Service::Envd).await?;
        connection.send(request).await.map_err(|failed| failed.error)
    }

    /// Reads an answer that does not stream, and keeps its connection.
    ///
    /// # Errors
    ///
    /// [`GuestError::Refused`] unless it is a success.
    async fn expect_success(&self, mut answer: Answer) -> Result<bytes::Bytes, GuestError> {
        let status = answer.status();
        let body = answer.collect(ANSWER_BYTES).await?;
        self.keep(answer);
        if status == StatusCode::OK || status == StatusCode::NO_CONTENT {
            return Ok(body);
        }
        Err(GuestError::Refused(Status::from_unary_body(status.as_u16(), &body)))
    }

    /// Keeps the connection of an answer for the next request, once nothing of it is wanted.
    pub(crate) fn keep(&self, answer: Answer) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if answer.service() == Service::Envd && idle.len() < IDLE {
            idle.push(Idle::Used(answer));
        }
    }

    /// Opens a connection that the first command or file will find ready.
    pub(crate) async fn connect_ahead(&self) {
        // Whoever needs one opens it: a failure here is not worth a word.
        let Ok(connection) = self.connect(Service::Envd).await else { return };
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.is_empty() {
            idle.push(Idle::Fresh(connection));
        }
    }

    /// Closes the connections that nobody uses.
    pub(crate) fn close_idle(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(next) = idle.pop() {
            let free = match next {
                Idle::Fresh(connection) => Some(connection),
                Idle::Used(answer) => answer.into_idle(),
            };
            if free.is_some() {
                return free;
            }
        }
        None
    }

    async fn connect(&self, service: Service) -> Result<Connection, GuestError> {
        let stream = self.runtime.connect(&self.id, service).await.map_err(GuestError::Connect)?;
        Connection::open(stream, service).await.map_err(GuestError::Http)
    }
}

/// A call of the envd protocol, as `user` or as the sandbox's default user.
fn rpc(
    path: &'static str,
    user: Option<&str>,
    content_type: &'static str,
) -> hyper::http::request::Builder {
    let request = Request::post(path)
        .header(header::HOST, "envd")
        .header(header::CONTENT_TYPE, content_type)
        .header("connect-protocol-version", "1");
    match user {
        Some(user) => request.header(header::AUTHORIZATION, text::basic(user)),
        None => request,
    }
}

async fn within<T>(
    length: Duration,
    work: impl Future<Output = Result<T, GuestError>>,
) -> Result<T, GuestError> {
    tokio::time::timeout(length, work).await.unwrap_or(Err(GuestError::Late(length)))
}
