//! Taking a form apart while it arrives.

use hyper::body::Bytes;
use memchr::memmem::Finder;

use super::disposition::{self, FormPart};

/// Bytes of one part's headers.
const HEADER_BYTES: usize = 16 << 10;
/// The longest boundary that RFC 2046 allows.
const BOUNDARY_BYTES: usize = 70;

/// A body that is no form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FormError {
    /// The content type has no usable boundary.
    #[error("the content type has no boundary")]
    Boundary,
    /// A part's headers do not end.
    #[error("a part has more than {HEADER_BYTES} bytes of headers")]
    Headers,
    /// What follows a boundary is neither a part nor the end.
    #[error("a boundary is followed by nothing that belongs there")]
    Delimiter,
    /// The body ended before the form did.
    #[error("the form breaks off")]
    Truncated,
}

/// One step of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    /// A part begins.
    Part(FormPart),
    /// Content of the part.
    Data(Bytes),
    /// The part ends.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first boundary.
    Preamble,
    /// After a boundary: either the end, or a line end and headers.
    Headers,
    /// In a part's content.
    Data,
    /// After the last boundary; what follows is ignored.
    Done,
}

/// Takes pieces of a body and gives the form's items. Holds one piece, at most [`HEADER_BYTES`]
/// and a boundary.
#[derive(Debug)]
pub(super) struct Form {
    delimiter: Finder<'static>,
    buffer: Vec<u8>,
    state: State,
}

impl Form {
    /// A form with the boundary of this content type.
    ///
    /// # Errors
    ///
    /// [`FormError::Boundary`] when it has none.
    pub(super) fn new(content_type: &str) -> Result<Self, FormError> {
        let parameters = content_type.split(';').skip(1).filter_map(|it| it.split_once('='));
        let boundary = parameters
            .filter(|(key, _)| key.trim().eq_ignore_ascii_case("boundary"))
            .map(|(_, value)| value.trim().trim_matches('"'))
            .find(|it| !it.is_empty() && it.len() <= BOUNDARY_BYTES)
            .ok_or(FormError::Boundary)?;
        let delimiter = Finder::new(&format!("\r\n--{boundary}")).into_owned();
        // The first boundary has no line before it; it shall look like the others.
        Ok(Self { delimiter, buffer: b"\r\n".to_vec(), state: State::Preamble })
    }

    /// Takes the next piece and gives what it completes.
    ///
    /// # Errors
    ///
    /// When the body is no form; it cannot be read on.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Item>, FormError> {
        self.buffer.extend_from_slice(bytes);
        let mut items = Vec::new();
        while match self.state {
            State::Preamble | State::Data => self.content(&mut items),
            State::Headers => self.headers(&mut items)?,
            State::Done => {
                self.buffer.clear();
                false
            }
        } {}
        Ok(items)
    }

    /// Says whether the form is complete.
    ///
    /// # Errors
    ///
    /// [`FormError::Truncated`] when it is not.
    pub(super) fn finish(&self) -> Result<(), FormError> {
        if self.state == State::Done { Ok(()) } else { Err(FormError::Truncated) }
    }

    /// Content up to the next boundary, or all that cannot be part of one. Gives whether there is
    /// more to do.
    fn content(&mut self, items: &mut Vec<Item>) -> bool {
        let length = self.delimiter.needle().len();
        let found = self.delimiter.find(&self.buffer);
        let end = found.unwrap_or_else(|| self.buffer.len().saturating_sub(length - 1));
        let content = self.take(end);
        if self.state == State::Data {
            if !content.is_empty() {
                items.push(Item::Data(content));
            }
            if found.is_some() {
                items.push(Item::End);
            }
        }
        if found.is_some() {
            drop(self.take(length));
            self.state = State::Headers;
        }
        found.is_some()
    }

    fn headers(&mut self, items: &mut Vec<Item>) -> Result<bool, FormError> {
        if self.buffer.starts_with(b"--") {
            self.state = State::Done;
            return Ok(true);
        }
        let Some(end) = memchr::memmem::find(&self.buffer, b"\r\n\r\n") else {
            return if self.buffer.len() > HEADER_BYTES {
                Err(FormError::Headers)
            } else {
                Ok(false)
            };
        };
        let block = self.take(end + 4);
        let text = String::from_utf8_lossy(&block);
        let mut lines = text.split("\r\n");
        // The rest of the boundary's own line: nothing but blanks.
        if !lines.next().is_some_and(|it| it.trim().is_empty()) {
            return Err(FormError::Delimiter);
        }
        let disposition = lines
            .filter_map(|it| it.split_once(':'))
            .find(|it| it.0.trim().eq_ignore_ascii_case("content-disposition"));
        let part = disposition.map(|it| disposition::parse(it.1)).unwrap_or_default();
        items.push(Item::Part(part));
        self.state = State::Data;
        Ok(true)
    }

    fn take(&mut self, count: usize) -> Bytes {
        let rest = self.buffer.split_off(count.min(self.buffer.len()));
        std::mem::replace(&mut self.buffer, rest).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=XyZ";

    fn parts(body: &[u8], size: usize) -> Result<Vec<(FormPart, Vec<u8>)>, FormError> {
        let mut form = Form::new(TYPE)?;
        let mut parts: Vec<(FormPart, Vec<u8>)> = Vec::new();
        for piece in body.chunks(size) {
            for item in form.push(piece)? {
                match item {
                    Item::Part(part) => parts.push((part, Vec::new())),
                    Item::Data(bytes) => parts.last_mut().unwrap().1.extend_from_slice(&bytes),
                    Item::End => {}
                }
            }
        }
        form.finish()?;
        Ok(parts)
    }

    fn named(filename: &str) -> FormPart {
        FormPart { name: Some("file".to_owned()), filename: Some(filename.to_owned()) }
    }

    #[test]
    fn parts_are_the_same_however_the_body_is_cut() {
        let tricky = b"\r\n--XyNot the end\r\n--Xy\r\n\r\n\0\xff".as_slice();
        let head = |name: &str| {
            format!(
                "--XyZ\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: a/b\r\n\r\n"
            )
        };
        let mut body = b"ignored\r\n".to_vec();
        body.extend_from_slice(head("a/b").as_bytes());
        body.extend_from_slice(tricky);
        body.extend_from_slice(b"\r\n");
        body.extend_from_slice(head("empty").as_bytes());
        body.extend_from_slice(b"\r\n--XyZ--\r\nepilogue");
        let expected = vec![(named("a/b"), tricky.to_vec()), (named("empty"), Vec::new())];
        for size in 1..=body.len() {
            assert_eq!(parts(&body, size), Ok(expected.clone()), "pieces of {size}");
        }
    }

    #[test]
    fn a_form_without_parts_is_a_form() {
        assert_eq!(parts(b"--XyZ--\r\n", 3), Ok(vec![]));
    }

    #[test]
    fn what_is_no_form_is_refused() {
        for (body, error) in [
            (&b""[..], FormError::Truncated),
            (b"--XyZ\r\nContent-Disposition: x\r\n\r\nabc", FormError::Truncated),
            (b"--XyZ junk\r\n\r\n", FormError::Delimiter),
            (&[&b"--XyZ\r\n"[..], &[b'x'; HEADER_BYTES + 1]].concat(), FormError::Headers),
        ] {
            assert_eq!(parts(body, 7), Err(error));
        }
        for bad in [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            &format!("a; boundary={}", "x".repeat(71)),
        ] {
            assert_eq!(Form::new(bad).unwrap_err(), FormError::Boundary, "{bad}");
        }
        assert!(Form::new("multipart/form-data; charset=x; Boundary=\"a b\"").is_ok());
    }
}
