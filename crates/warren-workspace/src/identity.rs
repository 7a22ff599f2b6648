//! An agent's identity: an Ed25519 key, and the name that follows from it.
//!
//! The key is a file in `keys/`, which no sandbox sees. An agent that signs asks the host to, over
//! the protocol of `ssh-agent` ([`agent`]), and gets signatures of commits and nothing else. A clone
//! gets a key of its own; a restart keeps the one there is.
//!
//! | module | what |
//! |---|---|
//! | [`pem`] | the key as a file: PKCS#8, versions 1 and 2 |
//! | [`ssh`] | the key as `ssh-ed25519`, and signatures as git keeps them |
//! | [`agent`] | what a program inside may ask of it |
//! | [`register`] | the request that makes the name known to a node |

pub mod agent;
pub mod pem;
pub mod register;
pub mod ssh;

use ring::{
    rand::{SecureRandom as _, SystemRandom},
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};
use zeroize::Zeroizing;

use crate::{AgentName, Home, HomeError, home::Item};

/// The length of a seed and of a public key, in bytes.
const KEY_BYTES: usize = 32;

/// What stands before a public key in a `did:key`: the multicodec of Ed25519.
const MULTICODEC: [u8; 2] = [0xed, 0x01];

/// The digits of base58 in Bitcoin's order.
const BASE58: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/// A key, with its secret half.
pub struct Identity {
    seed: Zeroizing<[u8; KEY_BYTES]>,
    pair: Ed25519KeyPair,
    public: [u8; KEY_BYTES],
}

/// What can be wrong with a key.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The kernel has no randomness.
    #[error("no randomness for a key")]
    Random,
    /// The file is not such a key.
    #[error("the key of agent '{name}' cannot be read: {source}")]
    Key {
        /// Whose it should be.
        name: AgentName,
        /// What was expected.
        source: pem::PemError,
    },
    /// The file cannot be read or written.
    #[error(transparent)]
    Home(#[from] HomeError),
}

impl Identity {
    /// A new key.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Random`] where the kernel gives no randomness.
    pub fn generate() -> Result<Self, IdentityError> {
        let mut seed = Zeroizing::new([0; KEY_BYTES]);
        SystemRandom::new()
            .fill(seed.as_mut_slice())
            .map_err(|_unspecified| IdentityError::Random)?;
        Self::from_seed(&seed).ok_or(IdentityError::Random)
    }

    /// The key that follows from 32 bytes; every 32 bytes are one.
    pub fn from_seed(seed: &[u8; KEY_BYTES]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        let public = pair.public_key().as_ref().try_into().ok()?;
        Some(Self { seed: Zeroizing::new(*seed), pair, public })
    }

    /// The key of an agent; none where it has none.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Key`] where the file holds something else. It is not replaced: whatever was
    /// signed with it would lose its name.
    pub fn load(home: &Home, name: &AgentName) -> Result<Option<Self>, IdentityError> {
        let Some(bytes) = home.read(Item::Key(name))?.map(Zeroizing::new) else { return Ok(None) };
        let read = pem::decode(&bytes);
        read.map(Some).map_err(|source| IdentityError::Key { name: name.clone(), source })
    }

    /// The key of an agent, made and kept where it has none.
    ///
    /// # Errors
    ///
    /// As [`Identity::load`].
    pub fn load_or_make(home: &Home, name: &AgentName) -> Result<Self, IdentityError> {
        if let Some(identity) = Self::load(home, name)? {
            return Ok(identity);
        }
        let identity = Self::generate()?;
        home.write(Item::Key(name), identity.to_pem().as_bytes(), true)?;
        Ok(identity)
    }

    /// The secret half as a file.
    pub fn to_pem(&self) -> Zeroizing<String> {
        pem::encode(&self.seed, &self.public)
    }

    /// The public half.
    pub fn public(&self) -> &[u8; KEY_BYTES] {
        &self.public
    }

    /// The name that follows from the public half, such as `did:key:z6Mk...`.
    pub fn did(&self) -> String {
        did(&self.public)
    }

    /// Signs a message.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        // ring's signatures of Ed25519 have 64 bytes.
        for (to, from) in signature.iter_mut().zip(self.pair.sign(message).as_ref()) {
            *to = *from;
        }
        signature
    }
}

/// Nothing of the secret half.
impl std::fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Identity({})", self.did())
    }
}

/// The `did:key` of a public key: base58 of its multicodec and its bytes.
///
/// # Source
///
/// The did:key method, section 3.1; multibase `z` is base58btc.
pub fn did(public: &[u8; KEY_BYTES]) -> String {
    format!("did:key:{}", multibase(public))
}

fn multibase(public: &[u8; KEY_BYTES]) -> String {
    let mut bytes = MULTICODEC.to_vec();
    bytes.extend_from_slice(public);
    format!("z{}", base58(&bytes))
}

/// The document that a `did:key` stands for.
pub fn did_document(public: &[u8; KEY_BYTES]) -> serde_json::Value {
    let id = did(public);
    serde_json::json!({
        "@context": ["https://www.w3.org/ns/did/v1"],
        "id": id,
        "verificationMethod": [{
            "id": format!("{id}#signing-key"),
            "type": "Ed25519VerificationKey2020",
            "controller": id,
            "publicKeyMultibase": multibase(public),
        }],
    })
}

/// Whether `signature` is of `message` and of the key.
pub fn verify(public: &[u8; KEY_BYTES], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, public).verify(message, signature).is_ok()
}

/// Digits of base 58, the most significant first. Zeros at the beginning stay.
fn base58(bytes: &[u8]) -> String {
    let zeros = bytes.iter().take_while(|it| **it == 0).count();
    // The least significant first.
    let mut digits: Vec<u8> = Vec::new();
    for byte in bytes {
        let mut carry = u32::from(*byte);
        for digit in &mut digits {
            carry += u32::from(*digit) << 8;
            *digit = (carry % 58) as u8;
            carry /= 58;
        }
        while carry > 0 {
            digits.push((carry % 58) as u8);
            carry /= 58;
        }
    }
    digits.resize(digits.len() + zeros, 0);
    let letter = |digit: &u8| BASE58.get(usize::from(*digit)).map_or('1', |it| char::from(*it));
    digits.iter().rev().map(letter).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The key whose seed is the bytes 0 to 31.
    pub(crate) fn vector() -> Identity {
        let seed = std::array::from_fn(|index| index as u8);
        Identity::from_seed(&seed).unwrap()
    }

    #[test]
    fn a_name_follows_from_a_key() {
        let identity = vector();
        let hex: String = identity.public().iter().map(|it| format!("{it:02x}")).collect();
        assert_eq!(hex, "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8");
        assert_eq!(identity.did(), "did:key:z6MkehRgf7yJbgaGfYsdoAsKdBPE3dj2CYhowQdcjqSJgvVd");
        assert_eq!(format!("{identity:?}"), format!("Identity({})", identity.did()));
    }

    #[test]
    fn digits_of_base_58() {
        // The examples of the draft "The Base58 Encoding Scheme".
        let check = |bytes: &[u8], expected: &str| assert_eq!(base58(bytes), expected);
        check(b"Hello World!", "2NEpo7TZRRrLZSi2U");
        let fox = b"The quick brown fox jumps over the lazy dog.";
        check(fox, "USm3fpXnKG5EUBx2ndxBDMPVciP5hGey2Jh4NDv6gmeo1LkMeiKrLJUUBk6Z");
        check(&[0, 0, 0x28, 0x7f, 0xb4, 0xcd], "11233QC4");
        check(&[], "");
        check(&[0], "1");
    }

    #[test]
    fn the_document_names_the_key() {
        let document = did_document(vector().public());
        let method = &document["verificationMethod"][0];
        assert_eq!(
            method["publicKeyMultibase"],
            "z6MkehRgf7yJbgaGfYsdoAsKdBPE3dj2CYhowQdcjqSJgvVd"
        );
        assert_eq!(method["id"], format!("{}#signing-key", vector().did()));
    }

    #[test]
    fn a_key_is_made_once_and_stays() {
        let base = tempfile::tempdir().unwrap();
        let home = Home::open(base.path()).unwrap();
        let (one, other) = ("one".parse().unwrap(), "other".parse().unwrap());
        assert!(Identity::load(&home, &one).unwrap().is_none());
        let did = Identity::load_or_make(&home, &one).unwrap().did();
        assert!(did.starts_with("did:key:z6Mk"), "{did}");
        assert_eq!(Identity::load_or_make(&home, &one).unwrap().did(), did);
        assert_ne!(Identity::load_or_make(&home, &other).unwrap().did(), did);
        std::fs::write(home.path_of(Item::Key(&one)), "broken").unwrap();
        let error = Identity::load_or_make(&home, &one).unwrap_err().to_string();
        assert!(error.contains("the key of agent 'one' cannot be read"), "{error}");
        let kept = std::fs::read_to_string(home.path_of(Item::Key(&one))).unwrap();
        assert_eq!(kept, "broken");
    }

    #[test]
    fn signatures_are_of_one_message() {
        let identity = vector();
        let signature = identity.sign(b"message");
        assert!(verify(identity.public(), b"message", &signature));
        assert!(!verify(identity.public(), b"another", &signature));
        assert!(!verify(identity.public(), b"message", &signature[..63]));
    }
}
