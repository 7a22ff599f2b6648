//! How long a body is, said to whoever reads it.

use http::{HeaderMap, HeaderValue, header};
use http_body::Body;

/// Says in a request of HTTP/1.1 that its body comes in chunks, where nobody knows how long it is.
/// Whatever else was said about its length is taken out.
///
/// A client of HTTP takes a request of unknown length for one without a body where the method is
/// `GET` or `HEAD`, unless it is told. A length that is known it says by itself.
pub fn declare_length(headers: &mut HeaderMap, body: &impl Body) {
    if body.is_end_stream() || body.size_hint().exact().is_some() {
        return;
    }
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        pin::Pin,
        task::{Context, Poll},
    };

    use bytes::Bytes;
    use http_body::Frame;
    use http_body_util::{Empty, Full};

    use super::*;

    /// A body of which nothing is known.
    struct Unknown;

    impl Body for Unknown {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(None)
        }
    }

    #[test]
    fn only_a_body_of_unknown_length_comes_in_chunks() {
        let said = || HeaderMap::from_iter([(header::CONTENT_LENGTH, HeaderValue::from(3))]);
        let mut headers = said();
        declare_length(&mut headers, &Full::new(Bytes::from("abc")));
        assert_eq!(headers, said());
        let mut headers = HeaderMap::new();
        declare_length(&mut headers, &Empty::<Bytes>::new());
        assert!(headers.is_empty());
        let mut headers = said();
        declare_length(&mut headers, &Unknown);
        assert_eq!(headers.len(), 1);
        assert_eq!(headers[header::TRANSFER_ENCODING], "chunked");
    }
}
