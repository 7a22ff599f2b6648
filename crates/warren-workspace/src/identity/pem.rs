//! A key as a file: PKCS#8 in PEM.
//!
//! Files are written in version 2, with the public half, as gitlawb's own tools do; versions 1 and 2
//! are read. Both are fixed sequences of bytes around the two halves of the key, so that there is
//! nothing of ASN.1 to parse.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::{Identity, KEY_BYTES};

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// How many characters of base64 stand on a line.
const LINE: usize = 64;

/// What stands before the seed, with the length and the version of what follows.
const V1: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
const V2: [u8; 16] = [0x30, 0x51, 2, 1, 1, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
/// What stands before the public half in version 2.
const PUBLIC: [u8; 3] = [0x81, 0x21, 0];

/// Why a file is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// Not one block with that label, of base64.
    #[error("expected one PEM block `PRIVATE KEY`")]
    Block,
    /// Another kind of key, or another encoding of one.
    #[error("expected an Ed25519 key as PKCS#8")]
    Encoding,
    /// The public half is of another key.
    #[error("the public half does not belong to the secret one")]
    Mismatch,
}

/// Writes a key, in version 2.
///
/// # Source
///
/// RFC 8410, section 7, and RFC 5958, `OneAsymmetricKey`.
pub(super) fn encode(seed: &[u8; KEY_BYTES], public: &[u8; KEY_BYTES]) -> Zeroizing<String> {
    let der = Zeroizing::new([V2.as_slice(), seed, &PUBLIC, public].concat());
    let base64 = Zeroizing::new(STANDARD.encode(&der));
    let mut out = Zeroizing::new(String::with_capacity(256));
    out.push_str(BEGIN);
    for (index, character) in base64.chars().enumerate() {
        if index % LINE == 0 {
            out.push('\n');
        }
        out.push(character);
    }
    out.push('\n');
    out.push_str(END);
    out.push('\n');
    out
}

/// Reads a key.
///
/// # Errors
///
/// [`PemError`] says what was expected.
pub fn decode(bytes: &[u8]) -> Result<Identity, PemError> {
    let text = std::str::from_utf8(bytes).map_err(|_error| PemError::Block)?;
    let block = text.trim().strip_prefix(BEGIN).and_then(|it| it.strip_suffix(END));
    let block = block.ok_or(PemError::Block)?;
    let base64: Zeroizing<String> =
        Zeroizing::new(block.chars().filter(|it| !it.is_ascii_whitespace()).collect());
    let der = Zeroizing::new(STANDARD.decode(&*base64).map_err(|_error| PemError::Block)?);
    let (seed, public) = match der.strip_prefix(&V1) {
        Some(seed) => (seed, None),
        None => {
            let rest = der.strip_prefix(&V2).ok_or(PemError::Encoding)?;
            let (seed, rest) = rest.split_at_checked(KEY_BYTES).ok_or(PemError::Encoding)?;
            let public = rest.strip_prefix(&PUBLIC).ok_or(PemError::Encoding)?;
            let public: &[u8; KEY_BYTES] =
                public.try_into().map_err(|_error| PemError::Encoding)?;
            (seed, Some(public))
        }
    };
    let seed: &[u8; KEY_BYTES] = seed.try_into().map_err(|_error| PemError::Encoding)?;
    let identity = Identity::from_seed(seed).ok_or(PemError::Encoding)?;
    match public {
        Some(public) if *public != identity.public => Err(PemError::Mismatch),
        _ => Ok(identity),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::vector;
    use super::*;

    const VERSION_2: &str = "-----BEGIN PRIVATE KEY-----
MFECAQEwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f
gSEAA6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=
-----END PRIVATE KEY-----
";

    #[test]
    fn keys_are_written_in_version_2_and_read_in_both() {
        assert_eq!(*vector().to_pem(), VERSION_2);
        assert_eq!(decode(VERSION_2.as_bytes()).unwrap().did(), vector().did());
        let version_1 = "-----BEGIN PRIVATE KEY-----\r\n\
            MC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f\r\n\
            -----END PRIVATE KEY-----";
        assert_eq!(decode(version_1.as_bytes()).unwrap().did(), vector().did());
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let check = |text: &str, expected| {
            assert_eq!(decode(text.as_bytes()).unwrap_err(), expected, "{text}");
        };
        check("", PemError::Block);
        check(&VERSION_2.replace("PRIVATE", "PUBLIC"), PemError::Block);
        check(&VERSION_2.replace("MFEC", "MF C*"), PemError::Block);
        check(&format!("{VERSION_2}{VERSION_2}"), PemError::Block);
        check(&VERSION_2.replace("K2Vw", "K2Vu"), PemError::Encoding);
        check(&VERSION_2.replace("ZBJVMbg=", ""), PemError::Encoding);
        check(&VERSION_2.replace("ZBJVMbg=", "ZBJVMbk="), PemError::Mismatch);
        assert_eq!(decode(b"\xff").unwrap_err(), PemError::Block);
    }
}
