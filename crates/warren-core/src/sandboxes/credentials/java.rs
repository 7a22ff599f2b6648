//! Java's own list of authorities, with one more in it.
//!
//! What is read was written by a guest: nothing in it is believed, and what is not understood as a
//! whole is left as it is.
//!
//! # Source
//!
//! The format `JKS` as `sun.security.provider.JavaKeyStore` of OpenJDK reads and writes it: a head,
//! entries, and SHA-1 over the password, a phrase, and everything before.

use ring::digest;

/// Where systems keep that list, for all versions of Java that they bring.
pub(super) const LISTS: [&str; 2] = ["/etc/ssl/certs/java/cacerts", "/etc/pki/java/cacerts"];
/// The name of our entry.
const ALIAS: &str = "warren-sandbox";
/// What every such list is closed with, by convention.
const PASSWORD: &str = "changeit";
const PHRASE: &[u8] = b"Mighty Aphrodite";
const MAGIC: u32 = 0xfeed_feed;
const VERSION: u32 = 2;
/// Kinds of entries.
const KEY: u32 = 1;
const CERTIFICATE: u32 = 2;
/// Bytes of the digest at the end.
const DIGEST: usize = 20;
/// Bytes of the head: magic, version, number of entries.
const HEAD: usize = 12;

/// The list with an authority (DER) in the place of earlier ones of ours; none where this is no
/// such list, or is closed with a password of its own.
pub(super) fn with(list: &[u8], authority: &[u8], now_ms: u64) -> Option<Vec<u8>> {
    let body = list.get(..list.len().checked_sub(DIGEST)?)?;
    if list.get(body.len()..)? != seal(body).as_ref() {
        return None;
    }
    let mut reader = Reader(body);
    if reader.number()? != MAGIC || reader.number()? != VERSION {
        return None;
    }
    let mut others: Vec<&[u8]> = Vec::new();
    for _ in 0..reader.number()? {
        let before = reader.0;
        let is_ours = reader.entry()?;
        let entry = before.get(..before.len() - reader.0.len())?;
        if !is_ours {
            others.push(entry);
        }
    }
    if !reader.0.is_empty() {
        return None;
    }
    let mut written = Vec::with_capacity(list.len() + authority.len() + 64);
    written.extend_from_slice(body.get(..HEAD - 4)?);
    written.extend_from_slice(&u32::try_from(others.len() + 1).ok()?.to_be_bytes());
    others.into_iter().for_each(|entry| written.extend_from_slice(entry));
    written.extend_from_slice(&CERTIFICATE.to_be_bytes());
    text(&mut written, ALIAS)?;
    written.extend_from_slice(&now_ms.to_be_bytes());
    text(&mut written, "X.509")?;
    written.extend_from_slice(&u32::try_from(authority.len()).ok()?.to_be_bytes());
    written.extend_from_slice(authority);
    let seal = seal(&written);
    written.extend_from_slice(seal.as_ref());
    Some(written)
}

fn text(to: &mut Vec<u8>, text: &str) -> Option<()> {
    to.extend_from_slice(&u16::try_from(text.len()).ok()?.to_be_bytes());
    to.extend_from_slice(text.as_bytes());
    Some(())
}

fn seal(body: &[u8]) -> digest::Digest {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    for unit in PASSWORD.encode_utf16() {
        context.update(&unit.to_be_bytes());
    }
    context.update(PHRASE);
    context.update(body);
    context.finish()
}

/// What has not been read yet.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    fn number(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.bytes(4)?.try_into().ok()?))
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = u16::from_be_bytes(self.bytes(2)?.try_into().ok()?);
        self.bytes(length.into())
    }

    fn blob(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.bytes(usize::try_from(length).ok()?)
    }

    fn certificate(&mut self) -> Option<()> {
        self.text()?;
        self.blob()?;
        Some(())
    }

    /// Reads an entry to its end, and says whether it is ours.
    fn entry(&mut self) -> Option<bool> {
        let kind = self.number()?;
        let alias = self.text()?;
        let _created = self.bytes(8)?;
        match kind {
            CERTIFICATE => self.certificate()?,
            KEY => {
                self.blob()?;
                for _ in 0..self.number()? {
                    self.certificate()?;
                }
            }
            _ => return None,
        }
        Some(alias == ALIAS.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list with a key and a certificate of others.
    fn list() -> Vec<u8> {
        let mut list = Vec::new();
        for number in [MAGIC, VERSION, 2, KEY] {
            list.extend_from_slice(&number.to_be_bytes());
        }
        text(&mut list, "key").unwrap();
        list.extend_from_slice(&[0; 8]);
        list.extend_from_slice(&[0, 0, 0, 3, 1, 2, 3, 0, 0, 0, 1]);
        let certificate = |list: &mut Vec<u8>| {
            text(list, "X.509").unwrap();
            list.extend_from_slice(&[0, 0, 0, 2, 7, 7]);
        };
        certificate(&mut list);
        list.extend_from_slice(&CERTIFICATE.to_be_bytes());
        text(&mut list, "other").unwrap();
        list.extend_from_slice(&[0; 8]);
        certificate(&mut list);
        let seal = seal(&list);
        list.extend_from_slice(seal.as_ref());
        list
    }

    #[test]
    fn an_authority_takes_the_place_of_an_earlier_one() {
        let first = with(&list(), b"first", 1).unwrap();
        assert_eq!(first[8..12], [0, 0, 0, 3]);
        let second = with(&first, b"second", 2).unwrap();
        assert_eq!(second[8..12], [0, 0, 0, 3]);
        assert_eq!(second.len(), first.len() + 1);
        assert!(!second.windows(5).any(|part| part == b"first"));
        assert_eq!(with(&second, b"second", 2).unwrap(), second);
    }

    #[test]
    fn what_is_not_understood_is_left_alone() {
        let good = list();
        assert_eq!(with(b"", b"x", 1), None);
        assert_eq!(with(b"PKCS12 is another format of the same file", b"x", 1), None);
        for cut in 0..good.len() {
            assert_eq!(with(&good[..cut], b"x", 1), None, "{cut}");
            // Sealed, and still wrong: counts and lengths that lie.
            let mut bad = good[..cut.min(good.len() - DIGEST)].to_vec();
            if let Some(byte) = bad.last_mut() {
                *byte ^= 0x80;
            }
            let digest = seal(&bad);
            bad.extend_from_slice(digest.as_ref());
            // It must not panic; a changed byte of a certificate is not ours to see.
            drop(with(&bad, b"x", 1));
        }
    }
}
