//! The body of a request that may be refused before it has come to its end.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Bytes, Incoming};

use super::reply::Refusal;

/// How long, and for how many bytes, a body is read on that nobody wants.
const LEFT_OVER: (Duration, usize) = (Duration::from_secs(5), 64 << 20);

/// A body, piece by piece.
///
/// Dropped before its end, it is read on for a while: whoever is still sending would otherwise find
/// the connection closed, and never read why it was refused.
#[derive(Debug)]
pub(crate) struct Arriving(Option<Incoming>);

impl Arriving {
    pub(crate) fn new(body: Incoming) -> Self {
        Self(Some(body))
    }

    /// How many bytes it has at least, by what its sender said.
    pub(crate) fn least(&self) -> u64 {
        self.0.as_ref().map_or(0, |body| body.size_hint().lower())
    }

    /// The next piece; none at the end.
    ///
    /// # Errors
    ///
    /// 400 for a body that breaks off.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        loop {
            let Some(body) = &mut self.0 else { return Ok(None) };
            let Some(frame) = body.frame().await else {
                self.0 = None;
                return Ok(None);
            };
            let frame =
                frame.map_err(|it| Refusal::bad_request(format!("the body breaks off: {it}")))?;
            if let Ok(bytes) = frame.into_data() {
                return Ok(Some(bytes));
            }
        }
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        let Some(mut body) = self.0.take() else { return };
        if body.is_end_stream() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let mut left = LEFT_OVER.1;
        let read_on = async move {
            while let Some(Ok(frame)) = body.frame().await {
                let length = frame.data_ref().map_or(0, Bytes::len);
                match left.checked_sub(length) {
                    Some(rest) => left = rest,
                    None => return,
                }
            }
        };
        drop(runtime.spawn(tokio::time::timeout(LEFT_OVER.0, read_on)));
    }
}
