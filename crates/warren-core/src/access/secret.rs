//! The text of a key: 20 random bytes as 40 hexadecimal digits behind a prefix.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::id;

/// How a key of ours begins.
const PREFIX: &str = "wrn_";

/// How the same key begins for clients that insist on this form.
const E2B_PREFIX: &str = "e2b_";

/// How many digits a key has.
const DIGITS: usize = 40;

/// How many of them are shown in lists: enough to tell keys apart, too few to guess the rest.
const SHOWN: usize = 6;

/// A key in full. It exists between its making and its showing, and nowhere else.
#[derive(Clone)]
pub struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// A new key.
    pub(crate) fn mint() -> Self {
        let digits = id::random_bytes::<{ DIGITS / 2 }>();
        let digits: String = digits.iter().map(|byte| format!("{byte:02x}")).collect();
        Self(format!("{PREFIX}{digits}"))
    }

    /// The key as its owner is to send it: `wrn_` and 40 digits.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// How the key begins.
    pub(crate) fn prefix(&self) -> String {
        self.0.chars().take(PREFIX.len() + SHOWN).collect()
    }

    pub(crate) fn hash(&self) -> KeyHash {
        KeyHash::of_digits(self.0.strip_prefix(PREFIX).unwrap_or_default())
    }
}

/// What is kept of a key. 160 random bits need no salt and no slow hash: nobody can try them all.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct KeyHash(pub(crate) [u8; 32]);

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash")
    }
}

impl KeyHash {
    /// The hash of what somebody sent as a key.
    pub(crate) fn of(presented: &str) -> Result<Self, KeyRefused> {
        let digits = [PREFIX, E2B_PREFIX].iter().find_map(|it| presented.strip_prefix(it));
        let digits = digits.ok_or(KeyRefused::Malformed)?;
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if digits.len() != DIGITS || !digits.bytes().all(hex) {
            return Err(KeyRefused::Malformed);
        }
        Ok(Self::of_digits(digits))
    }

    fn of_digits(digits: &str) -> Self {
        Self(Sha256::digest(digits).into())
    }
}

/// Why a key does not open anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefused {
    /// It is none of ours.
    #[error("this is not an API key: expected `wrn_` and 40 of 0-9 and a-f")]
    Malformed,
    /// There is no such key, or there is none any more.
    #[error("this API key is not known, or was revoked")]
    Unknown,
    /// Its time is over.
    #[error("this API key has expired")]
    Expired,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_itself_under_both_prefixes() {
        let secret = Secret::mint();
        let digits = secret.expose().strip_prefix("wrn_").unwrap();
        assert_eq!(digits.len(), 40);
        assert_eq!(KeyHash::of(secret.expose()), Ok(secret.hash()));
        assert_eq!(KeyHash::of(&format!("e2b_{digits}")), Ok(secret.hash()));
        assert_ne!(Secret::mint().hash(), secret.hash());
        assert!(secret.expose().starts_with(&secret.prefix()));
        assert_eq!(secret.prefix().len(), 10);
    }

    #[test]
    fn what_is_not_a_key_is_not_hashed() {
        let digits = "0123456789abcdef0123456789abcdef01234567";
        for bad in ["", "wrn_", digits, &format!("wrn_{digits}0"), "wrn_é"] {
            assert_eq!(KeyHash::of(bad), Err(KeyRefused::Malformed), "{bad}");
        }
        let upper = format!("wrn_{}", digits.to_ascii_uppercase());
        assert_eq!(KeyHash::of(&upper), Err(KeyRefused::Malformed));
    }

    #[test]
    fn a_secret_is_in_no_debug_output() {
        let secret = Secret::mint();
        let text = format!("{secret:?} {:?}", secret.hash());
        assert_eq!(text, "Secret KeyHash");
    }
}
