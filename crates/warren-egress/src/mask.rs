//! Secrets hidden in what the other side answers.
//!
//! A service may repeat what it was sent: an echo, an error message, a log. What is found is
//! replaced by as many asterisks, so that lengths and frames stay as they are. A host that wants to
//! give a secret away can encode it so that nobody finds it: this is against accidents.

use std::fmt;

use aho_corasick::{AhoCorasick, MatchKind};
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use bytes::{Bytes, BytesMut};
use zeroize::Zeroizing;

use crate::credentials::Secret;

/// What is shorter would be found everywhere.
const SHORTEST: usize = 8;
/// What stands in place of each byte.
const ASTERISK: u8 = b'*';

/// What to hide, in every encoding that it is looked for in.
#[derive(Default)]
pub struct Masks {
    forms: Vec<Zeroizing<Vec<u8>>>,
    finder: Option<AhoCorasick>,
    longest: usize,
}

impl fmt::Debug for Masks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Masks").field("forms", &self.forms.len()).finish_non_exhaustive()
    }
}

impl Masks {
    /// Looks for these from now on. Values of less than eight bytes are not looked for.
    #[must_use]
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let mut forms: Vec<_> = secrets
            .into_iter()
            .flat_map(|secret| forms(secret.expose()))
            .filter(|form| form.len() >= SHORTEST)
            .collect();
        forms.sort_unstable_by(|a, b| a.as_slice().cmp(b.as_slice()));
        forms.dedup();
        let mut builder = AhoCorasick::builder();
        builder.match_kind(MatchKind::LeftmostLongest);
        // Too many bytes for a finder would be secrets of gigabytes.
        let finder = builder.build(forms.iter().map(|it| it.as_slice())).ok();
        let longest = forms.iter().map(|form| form.len()).max().unwrap_or(0);
        Self { finder: finder.filter(|_| longest > 0), forms, longest }
    }

    /// Whether there is nothing to hide.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.finder.is_none()
    }

    /// Hides everything that is whole in these bytes, and says whether there was any.
    pub(crate) fn hide(&self, bytes: &mut [u8]) -> bool {
        let Some(finder) = &self.finder else { return false };
        let found: Vec<_> = finder.find_iter(&*bytes).map(|it| it.range()).collect();
        for range in &found {
            if let Some(part) = bytes.get_mut(range.clone()) {
                part.fill(ASTERISK);
            }
        }
        !found.is_empty()
    }

    /// How many bytes at the end may be the beginning of something to hide.
    fn open(&self, bytes: &[u8]) -> usize {
        let most = self.longest.saturating_sub(1).min(bytes.len());
        (1..=most)
            .rev()
            .find(|length| {
                let end = bytes.get(bytes.len() - length..).unwrap_or_default();
                self.forms.iter().any(|form| form.starts_with(end))
            })
            .unwrap_or(0)
    }
}

/// Every form in which a value is looked for.
fn forms(value: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    let mut forms = vec![value.to_vec()];
    if value.len() >= SHORTEST {
        for upper in [true, false] {
            forms.push(percent(value, upper, false));
            forms.push(percent(value, upper, true));
            forms.push(hex(value, upper));
        }
        forms.push(json(value));
        for skipped in 0..3 {
            forms.push(base64(value, skipped, &STANDARD));
            forms.push(base64(value, skipped, &URL_SAFE));
        }
    }
    forms.into_iter().map(Zeroizing::new).collect()
}

/// As in a target or, with `form`, as in the fields of a form.
fn percent(value: &[u8], upper: bool, form: bool) -> Vec<u8> {
    let encode = |byte: &u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => vec![*byte],
        b' ' if form => vec![b'+'],
        other if upper => format!("%{other:02X}").into_bytes(),
        other => format!("%{other:02x}").into_bytes(),
    };
    value.iter().flat_map(encode).collect()
}

fn hex(value: &[u8], upper: bool) -> Vec<u8> {
    let digits = |byte: &u8| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") };
    value.iter().map(digits).collect::<String>().into_bytes()
}

/// As in a string of JSON, with as few escapes as there must be.
fn json(value: &[u8]) -> Vec<u8> {
    let escape = |byte: &u8| match byte {
        b'"' => b"\\\"".to_vec(),
        b'\\' => b"\\\\".to_vec(),
        b'\n' => b"\\n".to_vec(),
        b'\r' => b"\\r".to_vec(),
        b'\t' => b"\\t".to_vec(),
        other => vec![*other],
    };
    value.iter().flat_map(escape).collect()
}

/// What is the same of the value in base64 wherever it begins: `skipped` bytes after a multiple of
/// three. Each digit holds six bits; those that hold bits of neighbours are left out.
fn base64(value: &[u8], skipped: usize, engine: &impl base64::Engine) -> Vec<u8> {
    let mut bytes = Zeroizing::new(vec![0; skipped]);
    bytes.extend_from_slice(value);
    let digits = Zeroizing::new(engine.encode(&*bytes));
    let from = (skipped * 8).div_ceil(6);
    let to = bytes.len() * 8 / 6;
    digits.as_bytes().get(from..to).unwrap_or_default().to_vec()
}

/// Hides what is looked for in a stream, over the borders of its pieces.
#[derive(Debug)]
pub(crate) struct Filter {
    masks: std::sync::Arc<Masks>,
    held: BytesMut,
}

impl Filter {
    pub(crate) fn new(masks: std::sync::Arc<Masks>) -> Self {
        Self { masks, held: BytesMut::new() }
    }

    /// Takes the next piece, and gives what is certain.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Bytes {
        self.held.extend_from_slice(piece);
        self.masks.hide(&mut self.held);
        let open = self.masks.open(&self.held);
        self.held.split_to(self.held.len() - open).freeze()
    }

    /// How many bytes are kept because they may be the beginning of something.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// Gives what is kept: nothing more comes, or nothing has come for too long.
    pub(crate) fn flush(&mut self) -> Bytes {
        self.held.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use base64::Engine as _;

    use super::*;

    const VALUE: &str = "s3cr\"t value/+";

    fn masks(values: &[&str]) -> Arc<Masks> {
        let secrets: Vec<_> = values.iter().map(|it| Secret::new(it.as_bytes().to_vec())).collect();
        Arc::new(Masks::new(&secrets))
    }

    fn filtered(text: &[u8], at_once: usize) -> String {
        let mut filter = Filter::new(masks(&[VALUE]));
        let mut out: Vec<u8> = text.chunks(at_once).flat_map(|it| filter.push(it)).collect();
        out.extend(filter.flush());
        assert_eq!(out.len(), text.len());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_secret_is_hidden_in_every_common_encoding_however_it_is_cut() {
        let encoded = [
            VALUE.to_owned(),
            "s3cr%22t%20value%2F%2B".to_owned(),
            "s3cr%22t%20value%2f%2b".to_owned(),
            "s3cr%22t+value%2F%2B".to_owned(),
            "s3cr\\\"t value/+".to_owned(),
            "733363722274".to_owned() + "2076616c75652f2b",
        ];
        for form in encoded {
            for at_once in [1, 3, 1000] {
                let text = filtered(format!("before {form} after").as_bytes(), at_once);
                let hidden = "*".repeat(form.len());
                assert_eq!(text, format!("before {hidden} after"), "{form} {at_once}");
            }
        }
    }

    #[test]
    fn base64_is_found_wherever_the_secret_begins_in_it() {
        for before in ["", "u:", "user:", "user1:", "a longer name:"] {
            let text = STANDARD.encode(format!("{before}{VALUE}, and more"));
            let hidden = filtered(text.as_bytes(), 2);
            assert_ne!(hidden, text);
            // What remains decodes to no four bytes of the secret in a row.
            let left = STANDARD.decode(hidden.replace('*', "A")).unwrap();
            for part in VALUE.as_bytes().windows(4) {
                assert!(!left.windows(4).any(|it| it == part), "{before}: {left:?}");
            }
        }
    }

    #[test]
    fn short_values_and_beginnings_are_left_alone() {
        let mut filter = Filter::new(masks(&["short", VALUE]));
        assert_eq!(filter.push(b"short s3cr"), "short ");
        assert_eq!(filter.held(), 4);
        assert_eq!(filter.push(b"et"), "s3cret");
        assert!(masks(&["short"]).is_empty());
    }

    #[test]
    fn no_output_shows_what_is_looked_for() {
        assert!(!format!("{:?}", masks(&[VALUE])).contains("s3cr"));
    }

    proptest::proptest! {
        #[test]
        fn no_cut_lets_a_secret_through(
            noise in "[s3cr\"tvalue ]{0,40}", after in ".{0,10}", cut in 1..60_usize,
        ) {
            let text = format!("{noise}{VALUE}{after}");
            let mut filter = Filter::new(masks(&[VALUE]));
            let mut out: Vec<u8> =
                text.as_bytes().chunks(cut).flat_map(|it| filter.push(it)).collect();
            out.extend(filter.flush());
            assert_eq!(out.len(), text.len());
            assert!(!out.windows(VALUE.len()).any(|it| it == VALUE.as_bytes()));
        }
    }
}
