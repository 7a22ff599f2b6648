//! What a step was made from, as a hash.

use sha2::{Digest as _, Sha256};

/// A hash over fields, each with its length, so that no two lists of fields are the same bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Key(Sha256);

impl Key {
    /// The start of every key; the number changes when what is hashed does.
    pub(super) fn new(kind: &str) -> Self {
        Self::default().with("warren build step 1").with(kind)
    }

    /// Adds a field.
    pub(super) fn with(mut self, field: &str) -> Self {
        self.0.update((field.len() as u64).to_le_bytes());
        self.0.update(field.as_bytes());
        self
    }

    /// Adds fields, and how many there are.
    pub(super) fn with_all<'a>(self, fields: impl IntoIterator<Item = &'a str>) -> Self {
        let fields: Vec<_> = fields.into_iter().collect();
        let count = self.with(&fields.len().to_string());
        fields.into_iter().fold(count, Self::with)
    }

    /// The hash as hexadecimal digits.
    pub(super) fn finish(self) -> String {
        self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_lists_of_fields_have_one_key() {
        let key = |fields: &[&str]| Key::new("x").with_all(fields.iter().copied()).finish();
        assert_eq!(key(&["a", "b"]), key(&["a", "b"]));
        assert_eq!(key(&["a"]).len(), 64);
        for other in [&["ab"][..], &["a", "b", ""], &["", "ab"], &["b", "a"], &[]] {
            assert_ne!(key(&["a", "b"]), key(other), "{other:?}");
        }
    }
}
