//! The two Connect services. The protocol (codecs, envelopes, errors, content types) is
//! `connectrpc`'s; this file is the table of methods and what they share.

use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use connectrpc::dispatcher::{RequestStream, StreamingResult, UnaryResult};
use connectrpc::{
    CodecFormat, ConnectError, ConnectRpcService, Dispatcher, EncodedBody, EncodedStream,
    ErrorCode, Limits, MethodDescriptor, Payload, RequestContext, Response,
};
use futures_core::Stream;
use hyper::HeaderMap;
use hyper::body::Bytes;
use warren_proto::{Code, Codec, Status, WireMessage};

use super::call;
use crate::daemon::Agent;
use crate::filesystem::service as filesystem;
use crate::process::service as process;

/// Bytes of one request, or of one message of a stream of them.
const MESSAGE_BYTES: usize = 4 << 20;

/// Serves both services; cheap to clone.
pub(crate) type Service = ConnectRpcService<Methods>;

/// The service for a connection.
pub(crate) fn service(agent: &Arc<Agent>) -> Service {
    let limits = Limits::default()
        .with_max_request_body_size(MESSAGE_BYTES)
        .with_max_message_size(MESSAGE_BYTES);
    ConnectRpcService::new(Methods(Arc::clone(agent))).with_limits(limits)
}

/// What every method gets beside its request.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) agent: Arc<Agent>,
    /// Whom to act as; `None`: the default.
    pub(crate) user: Option<String>,
    /// The time that the caller gives it.
    pub(crate) timeout: Option<Duration>,
    /// Silence on a stream before a sign of life.
    pub(crate) silence: Duration,
}

impl Call {
    fn new(agent: &Arc<Agent>, headers: &HeaderMap) -> Result<Self, Status> {
        Ok(Self {
            agent: Arc::clone(agent),
            user: call::user(headers)?,
            timeout: call::timeout(headers),
            silence: call::silence(headers),
        })
    }
}

/// The table of methods.
#[derive(Debug)]
pub(crate) struct Methods(Arc<Agent>);

impl Dispatcher for Methods {
    fn lookup(&self, path: &str) -> Option<MethodDescriptor> {
        Some(match path {
            "process.Process/Start"
            | "process.Process/Connect"
            | "filesystem.Filesystem/WatchDir" => MethodDescriptor::server_streaming(),
            "process.Process/StreamInput" => MethodDescriptor::client_streaming(),
            "process.Process/List"
            | "process.Process/Update"
            | "process.Process/SendInput"
            | "process.Process/SendSignal"
            | "process.Process/CloseStdin"
            | "filesystem.Filesystem/Stat"
            | "filesystem.Filesystem/MakeDir"
            | "filesystem.Filesystem/Move"
            | "filesystem.Filesystem/ListDir"
            | "filesystem.Filesystem/Remove"
            | "filesystem.Filesystem/CreateWatcher"
            | "filesystem.Filesystem/GetWatcherEvents"
            | "filesystem.Filesystem/RemoveWatcher" => MethodDescriptor::unary(false),
            _ => return None,
        })
    }

    fn call_unary(
        &self,
        path: &str,
        context: RequestContext,
        request: Payload,
        format: CodecFormat,
    ) -> UnaryResult {
        let raw = Raw::new(&self.0, &context, request.bytes().clone(), format);
        match path {
            "process.Process/List" => unary(raw, process::list),
            "process.Process/Update" => unary(raw, process::update),
            "process.Process/SendInput" => unary(raw, process::send_input),
            "process.Process/SendSignal" => unary(raw, process::send_signal),
            "process.Process/CloseStdin" => unary(raw, process::close_stdin),
            "filesystem.Filesystem/Stat" => unary(raw, filesystem::stat),
            "filesystem.Filesystem/MakeDir" => unary(raw, filesystem::make_directory),
            "filesystem.Filesystem/Move" => unary(raw, filesystem::rename),
            "filesystem.Filesystem/ListDir" => unary(raw, filesystem::list_directory),
            "filesystem.Filesystem/Remove" => unary(raw, filesystem::remove),
            "filesystem.Filesystem/CreateWatcher" => unary(raw, filesystem::create_watcher),
            "filesystem.Filesystem/GetWatcherEvents" => unary(raw, filesystem::get_watcher_events),
            "filesystem.Filesystem/RemoveWatcher" => unary(raw, filesystem::remove_watcher),
            path => Box::pin(std::future::ready(Err(no_method(path)))),
        }
    }

    fn call_server_streaming(
        &self,
        path: &str,
        context: RequestContext,
        request: Bytes,
        format: CodecFormat,
    ) -> StreamingResult {
        let raw = Raw::new(&self.0, &context, request, format);
        match path {
            "process.Process/Start" => streaming(raw, process::start),
            "process.Process/Connect" => streaming(raw, process::connect),
            "filesystem.Filesystem/WatchDir" => streaming(raw, filesystem::watch_directory),
            path => Box::pin(std::future::ready(Err(no_method(path)))),
        }
    }

    fn call_client_streaming(
        &self,
        path: &str,
        context: RequestContext,
        requests: RequestStream,
        format: CodecFormat,
    ) -> UnaryResult {
        let raw = Raw::new(&self.0, &context, Bytes::new(), format);
        match path {
            "process.Process/StreamInput" => Box::pin(async move {
                let codec = raw.codec;
                let requests = Requests { inner: requests, codec, message: PhantomData };
                let response = process::stream_input(raw.call?, requests).await;
                encode(codec, &response.map_err(error)?).map(Response::new)
            }),
            path => Box::pin(std::future::ready(Err(no_method(path)))),
        }
    }

    fn call_bidi_streaming(
        &self,
        path: &str,
        _context: RequestContext,
        _requests: RequestStream,
        _format: CodecFormat,
    ) -> StreamingResult {
        Box::pin(std::future::ready(Err(no_method(path))))
    }
}

/// A request before it is decoded.
struct Raw {
    call: Result<Call, ConnectError>,
    bytes: Bytes,
    codec: Codec,
}

impl Raw {
    fn new(
        agent: &Arc<Agent>,
        context: &RequestContext,
        bytes: Bytes,
        format: CodecFormat,
    ) -> Self {
        let codec = if format == CodecFormat::Json { Codec::Json } else { Codec::Proto };
        Self { call: Call::new(agent, context.headers()).map_err(error), bytes, codec }
    }

    fn decode<M: WireMessage>(self) -> Result<(Call, M, Codec), ConnectError> {
        let request = decode(self.codec, &self.bytes)?;
        Ok((self.call?, request, self.codec))
    }
}

fn unary<Req, Res, Fut>(raw: Raw, method: fn(Call, Req) -> Fut) -> UnaryResult
where
    Req: WireMessage + Send + 'static,
    Res: WireMessage + Send + 'static,
    Fut: Future<Output = Result<Res, Status>> + Send + 'static,
{
    Box::pin(async move {
        let (call, request, codec) = raw.decode()?;
        let response = method(call, request).await.map_err(error)?;
        encode(codec, &response).map(Response::new)
    })
}

fn streaming<Req, Res, S, Fut>(raw: Raw, method: fn(Call, Req) -> Fut) -> StreamingResult
where
    Req: WireMessage + Send + 'static,
    Res: WireMessage + Send + 'static,
    S: Stream<Item = Result<Res, Status>> + Send + 'static,
    Fut: Future<Output = Result<S, Status>> + Send + 'static,
{
    Box::pin(async move {
        let (call, request, codec) = raw.decode()?;
        let stream = method(call, request).await.map_err(error)?;
        let encoded: EncodedStream = Box::pin(Encoded { stream: Box::pin(stream), codec });
        Ok(Response::new(encoded))
    })
}

/// Messages that a caller streams.
pub(crate) struct Requests<M> {
    inner: RequestStream,
    codec: Codec,
    message: PhantomData<fn() -> M>,
}

impl<M: WireMessage> Requests<M> {
    /// The next one, or `None` when the caller is done.
    ///
    /// # Errors
    ///
    /// When it cannot be decoded, or the request breaks off.
    pub(crate) async fn next(&mut self) -> Result<Option<M>, Status> {
        let next = std::future::poll_fn(|cx| self.inner.as_mut().poll_next(cx)).await;
        let Some(bytes) = next else { return Ok(None) };
        let bytes = bytes.map_err(|it| Status::new(Code::InvalidArgument, it.to_string()))?;
        let bad = |it: &dyn std::error::Error| Status::new(Code::InvalidArgument, chain(it));
        self.codec.decode(&bytes).map(Some).map_err(|it| bad(&it))
    }
}

/// A stream of messages as a stream of bytes.
struct Encoded<S> {
    stream: std::pin::Pin<Box<S>>,
    codec: Codec,
}

impl<M, S> Stream for Encoded<S>
where
    M: WireMessage,
    S: Stream<Item = Result<M, Status>>,
{
    type Item = Result<EncodedBody, ConnectError>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        let codec = self.codec;
        let next = std::task::ready!(self.stream.as_mut().poll_next(cx));
        let encoded = next.map(|it| it.map_err(error).and_then(|it| encode(codec, &it)));
        std::task::Poll::Ready(encoded)
    }
}

fn decode<M: WireMessage>(codec: Codec, bytes: &[u8]) -> Result<M, ConnectError> {
    codec.decode(bytes).map_err(|it| ConnectError::invalid_argument(chain(&it)))
}

fn encode<M: WireMessage>(codec: Codec, message: &M) -> Result<EncodedBody, ConnectError> {
    let encoded = codec.encode(message);
    encoded.map(EncodedBody::from).map_err(|it| ConnectError::internal(chain(&it)))
}

/// An error and its causes in one line: the caller has no log to look them up in.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

fn no_method(path: &str) -> ConnectError {
    ConnectError::unimplemented(format!("no method {path}"))
}

fn error(status: Status) -> ConnectError {
    let code = match status.code {
        Code::Canceled => ErrorCode::Canceled,
        Code::Unknown => ErrorCode::Unknown,
        Code::InvalidArgument => ErrorCode::InvalidArgument,
        Code::DeadlineExceeded => ErrorCode::DeadlineExceeded,
        Code::NotFound => ErrorCode::NotFound,
        Code::AlreadyExists => ErrorCode::AlreadyExists,
        Code::PermissionDenied => ErrorCode::PermissionDenied,
        Code::ResourceExhausted => ErrorCode::ResourceExhausted,
        Code::FailedPrecondition => ErrorCode::FailedPrecondition,
        Code::Aborted => ErrorCode::Aborted,
        Code::OutOfRange => ErrorCode::OutOfRange,
        Code::Unimplemented => ErrorCode::Unimplemented,
        Code::Internal => ErrorCode::Internal,
        Code::Unavailable => ErrorCode::Unavailable,
        Code::DataLoss => ErrorCode::DataLoss,
        Code::Unauthenticated => ErrorCode::Unauthenticated,
    };
    ConnectError::new(code, status.message)
}
