//! What a program inside a sandbox may ask of a key that stays outside: the protocol of `ssh-agent`,
//! of which it may list the one key and have commits signed.
//!
//! A message is 4 bytes of length, big-endian, and a body whose first byte is its kind. Bodies come
//! from a hostile guest: nothing is signed but what OpenSSH signs for git, so that no signature made
//! here opens a session of ssh or stands for a request to a node.

use super::{
    Identity,
    ssh::{GIT, MAGIC, public_blob, signature_blob, string},
};

/// How long a body may be, in bytes. What is signed is a hash.
pub const MOST_BYTES: usize = 4096;

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;

/// The length of a SHA-512.
const HASH_BYTES: usize = 64;

/// Answers a body with a whole message, its length in front. What is not allowed, and what is not
/// understood, is answered as a failure.
///
/// # Source
///
/// draft-ietf-sshm-ssh-agent, sections 3.5 and 3.6; OpenSSH's `PROTOCOL.sshsig`.
pub fn answer(identity: &Identity, comment: &str, body: &[u8]) -> Vec<u8> {
    let reply = match body.split_first() {
        Some((&REQUEST_IDENTITIES, [])) => identities(identity, comment),
        Some((&SIGN_REQUEST, rest)) => signed(identity, rest).unwrap_or_else(|| vec![FAILURE]),
        _ => vec![FAILURE],
    };
    let mut message = Vec::with_capacity(reply.len() + 4);
    string(&mut message, &reply);
    message
}

fn identities(identity: &Identity, comment: &str) -> Vec<u8> {
    let mut reply = vec![IDENTITIES_ANSWER];
    reply.extend_from_slice(&1_u32.to_be_bytes());
    string(&mut reply, &public_blob(identity.public()));
    string(&mut reply, comment.as_bytes());
    reply
}

/// The answer to a request to sign: which key, what, and 4 bytes of flags that mean nothing here.
fn signed(identity: &Identity, request: &[u8]) -> Option<Vec<u8>> {
    let (key, rest) = take(request)?;
    let (message, flags) = take(rest)?;
    if key != public_blob(identity.public()) || flags.len() != 4 || !is_of_git(message) {
        return None;
    }
    let mut reply = vec![SIGN_RESPONSE];
    string(&mut reply, &signature_blob(&identity.sign(message)));
    Some(reply)
}

/// Whether this is exactly what `ssh-keygen -Y sign -n git` asks to be signed.
fn is_of_git(message: &[u8]) -> bool {
    let parts = || {
        let (namespace, rest) = take(message.strip_prefix(MAGIC)?)?;
        let (reserved, rest) = take(rest)?;
        let (algorithm, rest) = take(rest)?;
        let (hash, rest) = take(rest)?;
        let known = namespace == GIT.as_bytes() && reserved.is_empty() && algorithm == b"sha512";
        Some(known && hash.len() == HASH_BYTES && rest.is_empty())
    };
    parts().unwrap_or(false)
}

/// One `string` off the front, and what follows it.
fn take(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{tests::vector, verify};
    use super::*;

    fn joined(kind: u8, parts: &[&[u8]], tail: &[u8]) -> Vec<u8> {
        let mut body = vec![kind];
        parts.iter().for_each(|part| string(&mut body, part));
        body.extend_from_slice(tail);
        body
    }

    fn git(namespace: &[u8], algorithm: &[u8], hash: &[u8], tail: &[u8]) -> Vec<u8> {
        let mut message = MAGIC.to_vec();
        [namespace, b"", algorithm, hash].iter().for_each(|part| string(&mut message, part));
        message.extend_from_slice(tail);
        message
    }

    const REFUSED: [u8; 5] = [0, 0, 0, 1, FAILURE];

    #[test]
    fn the_one_key_is_listed() {
        let identity = vector();
        let reply = answer(&identity, "a", &[REQUEST_IDENTITIES]);
        let (body, rest) = take(&reply).unwrap();
        assert_eq!((body[0], &body[1..5], rest), (IDENTITIES_ANSWER, &[0, 0, 0, 1][..], &[][..]));
        let (blob, comment) = take(&body[5..]).unwrap();
        assert_eq!(blob, public_blob(identity.public()));
        assert_eq!(take(comment).unwrap().0, b"a");
    }

    #[test]
    fn commits_are_signed() {
        let identity = vector();
        let message = git(b"git", b"sha512", &[7; 64], b"");
        let key = public_blob(identity.public());
        let reply = answer(&identity, "", &joined(SIGN_REQUEST, &[&key, &message], &[0; 4]));
        let (body, _) = take(&reply).unwrap();
        assert_eq!(body[0], SIGN_RESPONSE);
        let (blob, _) = take(&body[1..]).unwrap();
        let (kind, rest) = take(blob).unwrap();
        assert_eq!(kind, b"ssh-ed25519");
        assert!(verify(identity.public(), &message, take(rest).unwrap().0));
    }

    #[test]
    fn nothing_else_is_signed() {
        let identity = vector();
        let key = public_blob(identity.public());
        let good = git(b"git", b"sha512", &[7; 64], b"");
        let of = |key: &[u8], message: &[u8], tail: &[u8]| {
            answer(&identity, "", &joined(SIGN_REQUEST, &[key, message], tail))
        };
        for message in [
            git(b"file", b"sha512", &[7; 64], b""),
            git(b"git", b"sha256", &[7; 32], b""),
            git(b"git", b"sha512", &[7; 63], b""),
            git(b"git", b"sha512", &[7; 64], b"more"),
            b"\"@method\": POST".to_vec(),
            b"SSHSIG".to_vec(),
            vec![],
        ] {
            assert_eq!(of(&key, &message, &[0; 4]), REFUSED);
        }
        assert_eq!(of(b"another", &good, &[0; 4]), REFUSED);
        assert_eq!(of(&key, &good, &[]), REFUSED);
        for body in [&[][..], &[1], &[17, 0], &[SIGN_REQUEST, 255, 255, 255, 255], &[11, 0]] {
            assert_eq!(answer(&identity, "", body), REFUSED);
        }
    }

    proptest! {
        #[test]
        fn any_body_is_answered(body in proptest::collection::vec(any::<u8>(), 0..100)) {
            let reply = answer(&vector(), "", &body);
            let (_, rest) = take(&reply).unwrap();
            prop_assert!(rest.is_empty());
        }
    }
}
