//! What of a client hello the TLS library does not show: whether the real name is hidden.

/// Extensions in which the name is encrypted: ECH (RFC 9849), its drafts, and ESNI before it.
const HIDING: [u16; 5] = [0xfe0d, 0xfe0a, 0xfe09, 0xfe08, 0xffce];
/// The kind of handshake message that a client hello is.
const CLIENT_HELLO: u8 = 1;

/// Whether the client hello in these records hides a name. What cannot be read hides one.
pub(super) fn hides_name(records: &[u8]) -> bool {
    let message = message(records);
    message
        .as_deref()
        .and_then(extensions)
        .is_none_or(|kinds| kinds.iter().any(|kind| HIDING.contains(kind)))
}

/// The first handshake message, put together from its records.
fn message(mut records: &[u8]) -> Option<Vec<u8>> {
    let mut message = Vec::new();
    loop {
        if let Some((&[_kind, a, b, c], rest)) = message.split_first_chunk::<4>() {
            let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()?;
            if rest.len() >= length {
                message.truncate(4 + length);
                return Some(message);
            }
        }
        let [kind, _major, _minor] = *take(&mut records, 3)?.first_chunk::<3>()?;
        if kind != super::HANDSHAKE {
            return None;
        }
        message.extend_from_slice(vector16(&mut records)?);
    }
}

/// The kinds of a client hello's extensions.
fn extensions(message: &[u8]) -> Option<Vec<u16>> {
    let (&[kind, ..], mut rest) = message.split_first_chunk::<4>()?;
    if kind != CLIENT_HELLO {
        return None;
    }
    take(&mut rest, 2 + 32)?; // version and random
    vector8(&mut rest)?; // session
    vector16(&mut rest)?; // ciphers
    vector8(&mut rest)?; // compression
    let mut extensions = if rest.is_empty() { rest } else { vector16(&mut rest)? };
    let mut kinds = Vec::new();
    while !extensions.is_empty() {
        let [high, low] = *take(&mut extensions, 2)?.first_chunk::<2>()?;
        vector16(&mut extensions)?;
        kinds.push(u16::from_be_bytes([high, low]));
    }
    Some(kinds)
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

fn vector8<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let [length] = *take(bytes, 1)?.first_chunk::<1>()?;
    take(bytes, usize::from(length))
}

fn vector16<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = *take(bytes, 2)?.first_chunk::<2>()?;
    take(bytes, usize::from(u16::from_be_bytes(length)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A client hello in one record with one extension more, of the form that ECH has.
    pub(crate) fn with_extension(hello: &[u8], kind: [u8; 2]) -> Vec<u8> {
        let mut rest = &hello[9..];
        take(&mut rest, 34).unwrap();
        vector8(&mut rest).unwrap();
        vector16(&mut rest).unwrap();
        vector8(&mut rest).unwrap();
        let before = &hello[9..hello.len() - rest.len()];
        let extensions =
            [&kind[..], &[0, 12, 0, 0, 1, 0, 1, 7, 0, 1, 9, 0, 1, 9], &rest[2..]].concat();
        let length = u16::try_from(extensions.len()).unwrap().to_be_bytes();
        let body = [before, &length, &extensions].concat();
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        let message = [&[CLIENT_HELLO], &length[1..], &body].concat();
        let length = u16::try_from(message.len()).unwrap().to_be_bytes();
        [&[22, 3, 1][..], &length, &message].concat()
    }

    #[test]
    fn what_is_cut_hides_a_name() {
        assert!(hides_name(&[]));
        assert!(hides_name(&[22, 3, 1, 0, 4, 1, 0, 0, 1]));
        assert!(hides_name(&[22, 3, 1, 0, 5, 1, 0, 0, 1, 3]));
    }
}
