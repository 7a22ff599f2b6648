//! Bodies that are changed while they pass, piece by piece.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, header};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full};
use tokio::time::{Instant, Sleep, sleep};

use super::{Body, BoxError, rewrite::replace};
use crate::{
    credentials::Placeholder,
    mask::{Filter, Masks},
};

/// How long bytes are kept that may be the beginning of something to hide, when nothing follows.
const MOST_HELD: Duration = Duration::from_millis(50);
/// The largest body that is gathered, so that its length can be told.
const GATHERED: u64 = 64 * 1024;

/// Hides secrets in a body of a response and in what trails it.
pub(super) fn masked(body: Body, masks: &Arc<Masks>) -> Body {
    if masks.is_empty() {
        return body;
    }
    let masks = Arc::clone(masks);
    let filter = Filter::new(Arc::clone(&masks));
    Masked { body, masks, filter, since: None, next: VecDeque::new() }.boxed_unsync()
}

/// Hides secrets in the values of headers.
pub(crate) fn mask_headers(headers: &mut HeaderMap, masks: &Masks) {
    for value in headers.values_mut() {
        let mut bytes = value.as_bytes().to_vec();
        if masks.hide(&mut bytes)
            && let Ok(hidden) = HeaderValue::from_bytes(&bytes)
        {
            *value = hidden;
        }
    }
}

struct Masked {
    body: Body,
    masks: Arc<Masks>,
    filter: Filter,
    /// Rings when what is held has been for long enough.
    since: Option<Pin<Box<Sleep>>>,
    /// What comes before anything else.
    next: VecDeque<Frame<Bytes>>,
}

impl Masked {
    fn flush(&mut self) {
        self.since = None;
        if self.filter.held() > 0 {
            self.next.push_back(Frame::data(self.filter.flush()));
        }
    }

    fn take(&mut self, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(data) => {
                let certain = self.filter.push(&data);
                if !certain.is_empty() {
                    self.next.push_back(Frame::data(certain));
                }
                let held = self.filter.held() > 0;
                self.since = held.then(|| Box::pin(sleep(MOST_HELD)));
            }
            Err(mut frame) => {
                self.flush();
                if let Some(trailers) = frame.trailers_mut() {
                    mask_headers(trailers, &self.masks);
                }
                self.next.push_back(frame);
            }
        }
    }
}

impl http_body::Body for Masked {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if let Some(frame) = self.next.pop_front() {
                return Poll::Ready(Some(Ok(frame)));
            }
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => self.take(frame),
                Poll::Ready(Some(Err(failed))) => return Poll::Ready(Some(Err(failed))),
                Poll::Ready(None) if self.filter.held() == 0 => return Poll::Ready(None),
                Poll::Ready(None) => self.flush(),
                Poll::Pending => {
                    let Some(since) = &mut self.since else { return Poll::Pending };
                    ready!(since.as_mut().poll(cx));
                    self.flush();
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.next.is_empty() && self.filter.held() == 0 && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let ours = self.next.iter().filter_map(Frame::data_ref).map(Bytes::len).sum::<usize>();
        let ours = (ours + self.filter.held()) as u64;
        let theirs = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(theirs.lower() + ours);
        if let Some(upper) = theirs.upper() {
            hint.set_upper(upper + ours);
        }
        hint
    }
}

/// Replaces placeholders in the body of a request. Its length changes: a small body is gathered
/// and its new length told, of a large one no length is.
pub(super) async fn replaced(
    headers: &mut HeaderMap,
    body: Body,
    placeholders: Vec<Placeholder>,
) -> Result<Body, BoxError> {
    let compressed = headers.contains_key(header::CONTENT_ENCODING);
    if placeholders.is_empty() || compressed || body.is_end_stream() {
        return Ok(body);
    }
    if body.size_hint().upper().is_some_and(|most| most <= GATHERED) {
        let mut bytes = body.collect().await?.to_bytes().to_vec();
        for placeholder in &placeholders {
            bytes = replace(&bytes, placeholder).into_owned();
        }
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
        let whole = Full::new(Bytes::from(bytes));
        return Ok(whole.map_err(|never| match never {}).boxed_unsync());
    }
    headers.remove(header::CONTENT_LENGTH);
    Ok(Replaced { body, placeholders, held: BytesMut::new(), last: None }.boxed_unsync())
}

struct Replaced {
    body: Body,
    placeholders: Vec<Placeholder>,
    /// What may be the beginning of a placeholder.
    held: BytesMut,
    /// What comes after everything that is held.
    last: Option<Frame<Bytes>>,
}

impl Replaced {
    /// Takes the next piece, and gives what is certain.
    fn push(&mut self, piece: &[u8]) -> Bytes {
        self.held.extend_from_slice(piece);
        for placeholder in &self.placeholders {
            if let std::borrow::Cow::Owned(changed) = replace(&self.held, placeholder) {
                self.held = BytesMut::from(&*changed);
            }
        }
        let open = |length: &usize| {
            let end = self.held.get(self.held.len() - length..).unwrap_or_default();
            self.placeholders.iter().any(|it| it.text.as_bytes().starts_with(end))
        };
        let longest = self.placeholders.iter().map(|it| it.text.len()).max().unwrap_or(0);
        let most = longest.saturating_sub(1).min(self.held.len());
        let kept = (1..=most).rev().find(open).unwrap_or(0);
        self.held.split_to(self.held.len() - kept).freeze()
    }
}

impl http_body::Body for Replaced {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if let Some(last) = self.last.take() {
                return Poll::Ready(Some(Ok(last)));
            }
            let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)) else {
                let rest = self.held.split().freeze();
                return Poll::Ready((!rest.is_empty()).then(|| Ok(Frame::data(rest))));
            };
            match frame?.into_data() {
                Ok(data) => {
                    let certain = self.push(&data);
                    if !certain.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(certain))));
                    }
                }
                Err(trailers) => {
                    let rest = self.held.split().freeze();
                    self.last = Some(trailers);
                    if !rest.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(rest))));
                    }
                }
            }
        }
    }
}

/// Rings when bytes have been held for long enough; for streams that are no bodies.
pub(super) async fn held_since(since: Option<Instant>) {
    match since {
        Some(since) => tokio::time::sleep_until(since + MOST_HELD).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::StreamBody;

    use super::*;
    use crate::credentials::Secret;

    fn pieces(pieces: &[&'static [u8]]) -> Body {
        let frames: Vec<_> = pieces
            .iter()
            .map(|it| Ok::<_, BoxError>(Frame::data(Bytes::from_static(it))))
            .chain([Ok(Frame::trailers(
                [(header::ETAG, "is hunter2hunter2".parse().unwrap())].into_iter().collect(),
            ))])
            .collect();
        StreamBody::new(futures::stream::iter(frames)).boxed_unsync()
    }

    fn placeholder() -> Placeholder {
        let value = Secret::new(b"hunter2hunter2".to_vec());
        Placeholder { text: "{{secret:KEY}}".to_owned(), value }
    }

    #[tokio::test]
    async fn a_placeholder_is_replaced_over_the_borders_of_pieces() {
        let mut headers = HeaderMap::from_iter([(header::CONTENT_LENGTH, HeaderValue::from(33))]);
        let body = pieces(&[b"{\"a\": \"{{sec", b"ret:K", b"EY}}\"} {{secr"]);
        let body = replaced(&mut headers, body, vec![placeholder()]).await.unwrap();
        let collected = body.collect().await.unwrap();
        assert!(collected.trailers().is_some());
        assert_eq!(collected.to_bytes(), "{\"a\": \"hunter2hunter2\"} {{secr");
        assert!(headers.is_empty(), "the length is not known");
    }

    #[tokio::test]
    async fn a_small_body_keeps_a_length() {
        let mut headers = HeaderMap::new();
        let body = Full::from("key={{secret:KEY}}").map_err(|never| match never {}).boxed_unsync();
        let body = replaced(&mut headers, body, vec![placeholder()]).await.unwrap();
        assert_eq!(headers[header::CONTENT_LENGTH], "18");
        assert_eq!(body.collect().await.unwrap().to_bytes(), "key=hunter2hunter2");
    }

    #[tokio::test]
    async fn secrets_are_hidden_in_bodies_and_trailers() {
        let masks = Arc::new(Masks::new([&placeholder().value]));
        let body = masked(pieces(&[b"a hunter2", b"hunter2 b", b" hunt"]), &masks);
        let collected = body.collect().await.unwrap();
        assert_eq!(collected.trailers().unwrap()[header::ETAG], "is **************");
        assert_eq!(collected.to_bytes(), "a ************** b hunt");
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_be_a_beginning_is_not_kept_for_ever() {
        let masks = Arc::new(Masks::new([&placeholder().value]));
        let first =
            futures::stream::iter([Ok::<_, BoxError>(Frame::data(Bytes::from("so: hunt")))]);
        let stream = futures::StreamExt::chain(first, futures::stream::pending());
        let mut body = masked(StreamBody::new(stream).boxed_unsync(), &masks);
        let mut text = Vec::new();
        while text.len() < 8 {
            text.extend(body.frame().await.unwrap().unwrap().into_data().unwrap());
        }
        assert_eq!(text, b"so: hunt");
    }
}
