//! Secrets hidden in what the other side answers.
//!
//! A service may repeat what it was sent: an echo, an error message, a log. What is found is
//! replaced by as many asterisks, so that lengths and frames stay as they are. A host that wants to
//! give a secret away can encode it so that nobody finds it: this is against accidents.

mod forms;

use std::{fmt, ops::Range};

use aho_corasick::AhoCorasick;
use bytes::{Bytes, BytesMut};
use zeroize::Zeroizing;

use crate::credentials::Secret;
use forms::forms;

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
        // Too many bytes for a finder would be secrets of gigabytes.
        let finder = AhoCorasick::new(forms.iter().map(|it| it.as_slice())).ok();
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
        let found = self.find(bytes);
        for range in &found {
            blot(bytes, range.clone());
        }
        !found.is_empty()
    }

    /// Where something to hide is, whole. Forms of several secrets may overlap, or one may begin
    /// with another: each is found.
    fn find(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        let Some(finder) = &self.finder else { return Vec::new() };
        finder.find_overlapping_iter(bytes).map(|it| it.range()).collect()
    }

    /// How many bytes at the end may be the beginning of something to hide.
    fn open(&self, bytes: &[u8]) -> usize {
        let most = self.longest.saturating_sub(1).min(bytes.len());
        (1..=most)
            .rev()
            .find(|length| {
                let end = bytes.get(bytes.len() - length..).unwrap_or_default();
                self.forms.iter().any(|form| form.len() > *length && form.starts_with(end))
            })
            .unwrap_or(0)
    }
}

fn blot(bytes: &mut [u8], range: Range<usize>) {
    if let Some(part) = bytes.get_mut(range) {
        part.fill(ASTERISK);
    }
}

/// Hides what is looked for in a stream, over the borders of its pieces.
#[derive(Debug)]
pub(crate) struct Filter {
    masks: std::sync::Arc<Masks>,
    /// What is kept, as it came.
    held: BytesMut,
    /// How much at its beginning is hidden, whatever follows: the end of something that was found.
    hidden: usize,
}

impl Filter {
    pub(crate) fn new(masks: std::sync::Arc<Masks>) -> Self {
        Self { masks, held: BytesMut::new(), hidden: 0 }
    }

    /// Takes the next piece, and gives what is certain.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Bytes {
        self.held.extend_from_slice(piece);
        let open = self.masks.open(&self.held);
        self.give(self.held.len() - open)
    }

    /// How many bytes are kept because they may be the beginning of something.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// Gives what is kept: nothing more comes, or nothing has come for too long.
    pub(crate) fn flush(&mut self) -> Bytes {
        self.give(self.held.len())
    }

    /// Gives so many bytes. What is found in the rest may be a part of something longer and is left
    /// as it came, to be found again with what follows.
    fn give(&mut self, count: usize) -> Bytes {
        let found = self.masks.find(&self.held);
        let mut given = self.held.split_to(count);
        blot(&mut given, 0..self.hidden.min(count));
        self.hidden = self.hidden.saturating_sub(count);
        for range in found.into_iter().filter(|it| it.start < count) {
            self.hidden = self.hidden.max(range.end.saturating_sub(count));
            blot(&mut given, range.start..range.end.min(count));
        }
        given.freeze()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use base64::{Engine as _, engine::general_purpose::STANDARD};

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

    /// What a filter for these makes of a text that comes in two pieces.
    fn cut(values: &[&str], text: &str, at: usize) -> String {
        let mut filter = Filter::new(masks(values));
        let (before, after) = text.as_bytes().split_at(at);
        let mut out = filter.push(before).to_vec();
        out.extend(filter.push(after));
        out.extend(filter.flush());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_longer_of_two_secrets_that_begin_alike_is_hidden_whole() {
        let values = ["tok_12345678", "tok_12345678XYZ"];
        let text = "a tok_12345678XYZ b tok_12345678 c tok_12345678X";
        let hidden = "a *************** b ************ c ************X";
        for at in 0..text.len() {
            assert_eq!(cut(&values, text, at), hidden, "{at}");
        }
    }

    #[test]
    fn secrets_that_overlap_are_both_hidden() {
        let text = "x abcdefghijkl y";
        for at in 0..text.len() {
            assert_eq!(cut(&["abcdefgh", "efghijkl"], text, at), "x ************ y", "{at}");
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
