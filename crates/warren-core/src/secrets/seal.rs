//! Bytes that only the holder of the key can read: AES-256-GCM.

use std::fmt;

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::id::random_bytes;

/// A value that no output shows. Its memory is overwritten when it goes.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Zeroizing<Vec<u8>>);

impl SecretValue {
    /// Keeps a value.
    #[must_use]
    pub fn new(value: Vec<u8>) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The value.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue")
    }
}

/// The key that a server's secrets are sealed with.
#[derive(Clone)]
pub struct SealKey {
    bytes: Zeroizing<[u8; Self::LENGTH]>,
    /// What tells keys apart, without telling anything else of them.
    name: [u8; 8],
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey")
    }
}

/// What was sealed, with what is needed to open it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sealed {
    /// The name of the key.
    key: String,
    /// Never the same twice under one key.
    nonce: String,
    /// Hexadecimal digits.
    text: String,
}

/// Something cannot be opened: it was sealed with another key or for something else, or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it was sealed with another key, or changed since")]
pub(crate) struct Unsealable;

impl SealKey {
    /// How long a key is, in bytes.
    pub const LENGTH: usize = 32;

    /// A key of these bytes.
    #[must_use]
    pub fn new(bytes: [u8; Self::LENGTH]) -> Self {
        let bytes = Zeroizing::new(bytes);
        let labelled = [b"warren key name\0".as_slice(), bytes.as_slice()].concat();
        let hash = digest::digest(&digest::SHA256, &Zeroizing::new(labelled));
        let name = hash.as_ref().first_chunk().copied().unwrap_or_default();
        Self { bytes, name }
    }

    /// A key that there was not before.
    #[must_use]
    pub fn generate() -> Self {
        Self::new(random_bytes())
    }

    /// The key's bytes, for the file that keeps it.
    #[must_use]
    pub fn expose(&self) -> &[u8; Self::LENGTH] {
        &self.bytes
    }

    fn cipher(&self) -> Option<LessSafeKey> {
        UnboundKey::new(&AES_256_GCM, self.bytes.as_slice()).ok().map(LessSafeKey::new)
    }

    /// Seals a value for one purpose: only who names that can open it.
    pub(crate) fn seal(&self, value: &[u8], binding: &[u8]) -> Result<Sealed, Unsealable> {
        let nonce = random_bytes::<NONCE_LEN>();
        let mut text = value.to_vec();
        let sealed = self.cipher().and_then(|cipher| {
            let nonce = Nonce::assume_unique_for_key(nonce);
            cipher.seal_in_place_append_tag(nonce, Aad::from(binding), &mut text).ok()
        });
        sealed.ok_or(Unsealable)?;
        Ok(Sealed { key: hex(&self.name), nonce: hex(&nonce), text: hex(&text) })
    }

    /// Opens what was sealed for this purpose.
    pub(crate) fn open(&self, sealed: &Sealed, binding: &[u8]) -> Result<SecretValue, Unsealable> {
        if !self.fits(sealed) {
            return Err(Unsealable);
        }
        let nonce = unhex(&sealed.nonce).and_then(|it| it.try_into().ok()).ok_or(Unsealable)?;
        let mut text = unhex(&sealed.text).ok_or(Unsealable)?;
        let cipher = self.cipher().ok_or(Unsealable)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened = cipher.open_in_place(nonce, Aad::from(binding), &mut text);
        let length = opened.map_err(|_forged| Unsealable)?.len();
        text.truncate(length);
        Ok(SecretValue::new(text))
    }

    /// Whether something was sealed with this key, as far as that is written on it.
    pub(crate) fn fits(&self, sealed: &Sealed) -> bool {
        sealed.key == hex(&self.name)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        text.chars().map(|it| it.to_digit(16)?.try_into().ok()).collect::<Option<_>>()?;
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    Some(pairs.iter().map(|[high, low]| high * 16 + low).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_with_the_same_key_and_for_the_same_purpose() {
        let key = SealKey::generate();
        let sealed = key.seal(b"hunter2", b"a\0K").unwrap();
        assert_eq!(key.open(&sealed, b"a\0K").unwrap().expose(), b"hunter2");
        assert_eq!(key.open(&sealed, b"b\0K"), Err(Unsealable));
        assert_eq!(SealKey::generate().open(&sealed, b"a\0K"), Err(Unsealable));
        let again = SealKey::new(*key.expose());
        assert!(again.open(&sealed, b"a\0K").is_ok());
        assert_ne!(key.seal(b"hunter2", b"a\0K").unwrap(), sealed, "no nonce comes twice");
    }

    #[test]
    fn what_was_changed_does_not_open() {
        let key = SealKey::generate();
        let sealed = key.seal(b"hunter2", b"").unwrap();
        let flipped = |text: &str| {
            let last = if text.ends_with('0') { "1" } else { "0" };
            format!("{}{last}", &text[..text.len() - 1])
        };
        for bad in [
            Sealed { text: flipped(&sealed.text), ..sealed.clone() },
            Sealed { nonce: flipped(&sealed.nonce), ..sealed.clone() },
            Sealed { text: "é1".to_owned(), ..sealed.clone() },
            Sealed { nonce: "0".to_owned(), ..sealed.clone() },
            Sealed::default(),
        ] {
            assert_eq!(key.open(&bad, b""), Err(Unsealable), "{bad:?}");
        }
    }

    #[test]
    fn no_output_shows_a_key_or_a_value() {
        let key = SealKey::new([0x41; 32]);
        let value = SecretValue::new(b"hunter2".to_vec());
        let sealed = key.seal(value.expose(), b"").unwrap();
        let text = format!("{key:?} {value:?} {sealed:?}");
        assert!(!text.contains("hunter2") && !text.contains("AAAA") && !text.contains("4141"));
    }
}
