//! A key as OpenSSH writes it, and signatures as `ssh-keygen -Y sign` makes them: what git keeps in
//! a commit with `gpg.format=ssh`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::digest::{SHA512, digest};

use super::{Identity, KEY_BYTES};

/// The kind of every key here.
pub(super) const KIND: &[u8] = b"ssh-ed25519";

/// What signatures, and what is signed, begin with.
pub(super) const MAGIC: &[u8] = b"SSHSIG";

/// What git signs in the name of.
pub const GIT: &str = "git";

const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----\n";
const END: &str = "-----END SSH SIGNATURE-----\n";

/// How many characters of base64 stand on a line.
const LINE: usize = 70;

/// Bytes with their length in front: OpenSSH's `string`.
pub(super) fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    // Nothing here comes near 4 GiB.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

/// A public key, as in the second field of `authorized_keys` before base64.
pub fn public_blob(public: &[u8; KEY_BYTES]) -> Vec<u8> {
    let mut blob = Vec::new();
    string(&mut blob, KIND);
    string(&mut blob, public);
    blob
}

/// A public key on one line, as in a `.pub` file: `ssh-ed25519 AAAA... COMMENT`.
///
/// git takes it as `user.signingKey`, with `key::` in front.
pub fn public_line(public: &[u8; KEY_BYTES], comment: &str) -> String {
    let blob = STANDARD.encode(public_blob(public));
    format!("ssh-ed25519 {blob} {}", crate::text::shown(comment))
}

/// A signature as `ssh-agent` gives it.
pub(super) fn signature_blob(signature: &[u8; 64]) -> Vec<u8> {
    let mut blob = Vec::new();
    string(&mut blob, KIND);
    string(&mut blob, signature);
    blob
}

/// Signs a message for a purpose, and gives the block of text that git keeps.
///
/// # Source
///
/// OpenSSH's `PROTOCOL.sshsig`.
pub fn sign(identity: &Identity, namespace: &str, message: &[u8]) -> String {
    let hash = digest(&SHA512, message);
    let mut signed = MAGIC.to_vec();
    for part in [namespace.as_bytes(), b"", b"sha512", hash.as_ref()] {
        string(&mut signed, part);
    }
    let mut blob = MAGIC.to_vec();
    blob.extend_from_slice(&1_u32.to_be_bytes());
    let signature = signature_blob(&identity.sign(&signed));
    let key = public_blob(identity.public());
    for part in [key.as_slice(), namespace.as_bytes(), b"", b"sha512", &signature] {
        string(&mut blob, part);
    }
    armor(&blob)
}

fn armor(blob: &[u8]) -> String {
    let mut out = String::from(BEGIN);
    for (index, character) in STANDARD.encode(blob).chars().enumerate() {
        if index > 0 && index % LINE == 0 {
            out.push('\n');
        }
        out.push(character);
    }
    out.push('\n');
    out.push_str(END);
    out
}

#[cfg(test)]
mod tests {
    use super::super::tests::vector;
    use super::*;

    #[test]
    fn a_public_key_is_written_as_openssh_writes_it() {
        let line = "ssh-ed25519 \
            AAAAC3NzaC1lZDI1NTE5AAAAIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4 c";
        assert_eq!(public_line(vector().public(), "c"), line);
        assert!(!public_line(vector().public(), "a\nssh-rsa").contains('\n'));
    }

    /// Made by `ssh-keygen -Y sign -n git` of OpenSSH 9 with the same key.
    #[test]
    fn a_commit_is_signed_as_openssh_signs_it() {
        let message = b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n\nmessage\n";
        let expected = "-----BEGIN SSH SIGNATURE-----
U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAgA6EHv/POEL4dcN0Y50vAmWfk1j
CbpQ1fHdyGZBJVMbgAAAADZ2l0AAAAAAAAAAZzaGE1MTIAAABTAAAAC3NzaC1lZDI1NTE5
AAAAQLqInFvrUn8tq/Khe05tIry+CbJ6otoPO6WSRHXAu1dTA7wGYVYWs9upNZO2uy3Y4t
Ks4v8+44cZCY5SnCxMSQY=
-----END SSH SIGNATURE-----
";
        assert_eq!(sign(&vector(), GIT, message), expected);
        assert_ne!(sign(&vector(), "file", message), expected);
    }
}
