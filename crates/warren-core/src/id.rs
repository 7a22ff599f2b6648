//! Identities. Every id in the product is minted here and nowhere else.

use std::{fmt, str::FromStr};

/// The characters of an id's random part.
const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// The identity of one sandbox: `sb-` and 16 characters of `[a-z0-9]`, 19 bytes of ASCII.
///
/// It is the same in every dialect, in host labels and in paths. 16 characters carry 82 bits, so
/// an id cannot be guessed; it still is a name and not a credential.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SandboxId([u8; Self::LENGTH]);

impl SandboxId {
    /// The length of an id in bytes.
    pub const LENGTH: usize = 19;
    const PREFIX: &'static str = "sb-";

    /// Makes a new id from the operating system's randomness.
    #[must_use]
    pub fn mint() -> Self {
        let mut id = [0; Self::LENGTH];
        let (prefix, rest) = id.split_at_mut(Self::PREFIX.len());
        prefix.copy_from_slice(Self::PREFIX.as_bytes());
        random_text(rest);
        Self(id)
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Every constructor admits ASCII alone.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The id as its 19 bytes of ASCII.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }

    /// Reads an id at the start of a host label or path segment.
    ///
    /// What follows the id is ignored when it starts with a hyphen, as clients exist that append
    /// `-<client id>` to it.
    ///
    /// # Errors
    ///
    /// [`InvalidId`] when the text does not start with an id or goes on with something else.
    pub fn parse_label(text: &str) -> Result<Self, InvalidId> {
        let (id, rest) = text.split_at_checked(Self::LENGTH).ok_or(InvalidId)?;
        if rest.is_empty() || rest.starts_with('-') { id.parse() } else { Err(InvalidId) }
    }
}

impl FromStr for SandboxId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let bytes: [u8; Self::LENGTH] =
            text.as_bytes().try_into().map_err(|_wrong_length| InvalidId)?;
        let rest = text.strip_prefix(Self::PREFIX).ok_or(InvalidId)?;
        if rest.bytes().all(|byte| ALPHABET.contains(&byte)) {
            Ok(Self(bytes))
        } else {
            Err(InvalidId)
        }
    }
}

impl fmt::Display for SandboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for SandboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An identity that is a prefix and 16 characters of `[a-z0-9]`.
macro_rules! identity {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $error:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; Self::LENGTH]);

        impl $name {
            const LENGTH: usize = Self::PREFIX.len() + 16;
            const PREFIX: &'static str = $prefix;

            /// Makes a new id from the operating system's randomness.
            #[must_use]
            pub fn mint() -> Self {
                let mut id = [0; Self::LENGTH];
                let (prefix, rest) = id.split_at_mut(Self::PREFIX.len());
                prefix.copy_from_slice(Self::PREFIX.as_bytes());
                random_text(rest);
                Self(id)
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                // Every constructor admits ASCII alone.
                std::str::from_utf8(&self.0).unwrap_or_default()
            }
        }

        impl FromStr for $name {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, $error> {
                let bytes: [u8; Self::LENGTH] =
                    text.as_bytes().try_into().map_err(|_wrong_length| $error)?;
                let rest = text.strip_prefix(Self::PREFIX).ok_or($error)?;
                if rest.bytes().all(|byte| ALPHABET.contains(&byte)) {
                    Ok(Self(bytes))
                } else {
                    Err($error)
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

identity! {
    /// The identity of one command run in a sandbox: `ex-` and 16 characters of `[a-z0-9]`.
    ///
    /// It names the command to the agent and to the caller, also after the server was restarted.
    ExecId, "ex-", InvalidExecId
}

identity! {
    /// The identity of an API key: `key-` and 16 characters of `[a-z0-9]`. It is not the key.
    KeyId, "key-", InvalidKeyId
}

identity! {
    /// The identity of a snapshot and of its files: `sn-` and 16 characters of `[a-z0-9]`.
    SnapshotId, "sn-", InvalidSnapshotId
}

identity! {
    /// What shows whose a domain is: `warren-` and 16 characters of `[a-z0-9]`.
    DomainProofId, "warren-", InvalidDomainProofId
}

identity! {
    /// The identity of a volume: `vol-` and 16 characters of `[a-z0-9]`.
    VolumeId, "vol-", InvalidVolumeId
}

identity! {
    /// The identity of a template: `tp-` and 16 characters of `[a-z0-9]`.
    TemplateId, "tp-", InvalidTemplateId
}

/// The identity of a build: a random UUID (version 4) in its usual form, 36 bytes of ASCII, for
/// clients exist that take nothing else.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BuildId([u8; 16]);

impl BuildId {
    /// Makes a new id from the operating system's randomness.
    #[must_use]
    pub fn mint() -> Self {
        let bits = u128::from_be_bytes(random_bytes());
        let version = bits & !(0xf << 76) | (4 << 76);
        Self((version & !(3 << 62) | (2 << 62)).to_be_bytes())
    }
}

impl FromStr for BuildId {
    type Err = InvalidBuildId;

    fn from_str(text: &str) -> Result<Self, InvalidBuildId> {
        let mut digits = String::with_capacity(32);
        for (place, character) in text.chars().enumerate() {
            match (place, character) {
                (8 | 13 | 18 | 23, '-') => {}
                (_, '0'..='9' | 'a'..='f') => digits.push(character),
                _ => return Err(InvalidBuildId),
            }
        }
        let bits = u128::from_str_radix(&digits, 16).map_err(|_empty| InvalidBuildId)?;
        let id = Self(bits.to_be_bytes());
        if id.to_string() == text { Ok(id) } else { Err(InvalidBuildId) }
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!("{:032x}", u128::from_be_bytes(self.0));
        for place in [20, 16, 12, 8] {
            text.insert(place, '-');
        }
        f.pad(&text)
    }
}

impl fmt::Debug for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not the id of a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a build id: expected a UUID in lower case")]
pub struct InvalidBuildId;

/// The text is not the id of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a snapshot id: expected `sn-` and 16 characters of a-z and 0-9")]
pub struct InvalidSnapshotId;

/// The text shows nothing about a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the proof of a domain: expected `warren-` and 16 characters of a-z and 0-9")]
pub struct InvalidDomainProofId;

/// The text is not the id of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a volume id: expected `vol-` and 16 characters of a-z and 0-9")]
pub struct InvalidVolumeId;

/// The text is not the id of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a template id: expected `tp-` and 16 characters of a-z and 0-9")]
pub struct InvalidTemplateId;

/// The text is not the id of an API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the id of a key: expected `key-` and 16 characters of a-z and 0-9")]
pub struct InvalidKeyId;

/// The text is not the id of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a command id: expected `ex-` and 16 characters of a-z and 0-9")]
pub struct InvalidExecId;

/// The text is not a sandbox id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a sandbox id: expected `sb-` and 16 characters of a-z and 0-9")]
pub struct InvalidId;

/// Fills `out` with characters of [`ALPHABET`], each equally likely.
fn random_text(out: &mut [u8]) {
    let mut random = RandomBytes::default();
    for place in out {
        *place = loop {
            // 252 is the largest multiple of 36 in a byte: above it the choice would be uneven.
            let byte = random.next();
            if byte < 252 {
                break ALPHABET.get(usize::from(byte % 36)).copied().unwrap_or(b'a');
            }
        };
    }
}

/// Random bytes, fetched a block at a time.
#[derive(Default)]
struct RandomBytes {
    block: [u8; 16],
    left: usize,
}

impl RandomBytes {
    fn next(&mut self) -> u8 {
        if self.left == 0 {
            self.block = random_bytes();
            self.left = self.block.len();
        }
        self.left -= 1;
        self.block.get(self.left).copied().unwrap_or_default()
    }
}

/// Bytes that nobody can guess.
pub(crate) fn random_bytes<const COUNT: usize>() -> [u8; COUNT] {
    let mut block = [0; COUNT];
    // Without randomness no id may be made: an id that repeats would join two tenants.
    #[expect(clippy::expect_used, reason = "the kernel's generator cannot fail after boot")]
    getrandom::fill(&mut block).expect("the operating system gives random bytes");
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minted_id_reads_back() {
        let id = SandboxId::mint();
        assert_eq!(id.as_str().parse(), Ok(id));
        assert_ne!(id, SandboxId::mint());
    }

    #[test]
    fn a_build_has_a_uuid() {
        let id = BuildId::mint();
        let text = id.to_string();
        assert_eq!(text.parse(), Ok(id));
        assert_eq!((text.len(), &text[14..15]), (36, "4"));
        assert!("89ab".contains(&text[19..20]));
        for bad in ["", "-", "0", &text.to_uppercase(), &text.replace('-', ""), &format!("{text}0")]
        {
            let uppercase_is_the_same = *bad == text;
            assert_eq!(bad.parse::<BuildId>().is_ok(), uppercase_is_the_same, "{bad}");
        }
    }

    #[test]
    fn each_kind_of_id_reads_its_own_alone() {
        let (exec, key) = (ExecId::mint(), KeyId::mint());
        assert_eq!(exec.as_str().parse(), Ok(exec));
        assert_eq!(key.as_str().parse(), Ok(key));
        assert_eq!(key.as_str().parse::<ExecId>(), Err(InvalidExecId));
        assert_eq!(exec.as_str().parse::<KeyId>(), Err(InvalidKeyId));
        assert_eq!("key-ABCDEFGHIJKLMNOP".parse::<KeyId>(), Err(InvalidKeyId));
    }

    #[test]
    fn only_the_exact_form_is_an_id() {
        for bad in [
            "",
            "sb-",
            "sb-abc",
            "sb-ABCDEFGHIJKLMNOP",
            "sx-aaaaaaaaaaaaaaaa",
            "sb-aaaaaaaaaaaaaaaaa",
            "sb-aaaaaaaaaaaaaaa/",
        ] {
            assert_eq!(bad.parse::<SandboxId>(), Err(InvalidId), "{bad}");
        }
    }

    #[test]
    fn a_suffix_after_a_hyphen_is_ignored_in_labels() {
        let id: SandboxId = "sb-abcdefgh01234567".parse().unwrap();
        assert_eq!(SandboxId::parse_label("sb-abcdefgh01234567-00000000"), Ok(id));
        assert_eq!(SandboxId::parse_label("sb-abcdefgh01234567x"), Err(InvalidId));
    }
}
