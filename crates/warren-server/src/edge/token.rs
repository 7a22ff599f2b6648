//! What opens a private port: a text that this server has signed, and keeps nowhere.
//!
//! `wrt_PORT_EXPIRY_SIGNATURE`: the port, or 0 for all of the sandbox; the end in seconds since
//! 1970, or 0 for none; HMAC-SHA256 over both, the sandbox and how often its tokens were revoked.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ring::{
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};
use warren_core::id::SandboxId;

/// How a token begins.
pub(super) const PREFIX: &str = "wrt_";

/// What keeps signatures of one purpose from being good for another.
const PURPOSE: &[u8] = b"warren edge token 1\0";

/// What tokens are signed with: 32 bytes that nobody else knows.
#[derive(Clone, PartialEq, Eq)]
pub struct EdgeKey([u8; 32]);

impl fmt::Debug for EdgeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EdgeKey")
    }
}

impl EdgeKey {
    /// The key of these bytes, which must come from a good source of randomness.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A key that nothing was signed with yet.
    ///
    /// # Panics
    ///
    /// Where the operating system has no randomness: nothing can be kept secret there.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = [0; 32];
        assert!(SystemRandom::new().fill(&mut bytes).is_ok(), "the system has no randomness");
        Self(bytes)
    }

    /// Its bytes, to be kept where only the server reads them.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// Which port; none for all of the sandbox.
    pub(crate) port: Option<u16>,
    /// Until when, in seconds since 1970; none for as long as it is not revoked.
    pub(crate) expires: Option<u64>,
}

/// What was made of a text that may be a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It opens the port.
    Good(Grant),
    /// It did, and its time is over.
    Expired,
    /// It does not.
    Bad,
}

/// What clients of E2B have for a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secret {
    /// Opens the agent.
    Access,
    /// Opens all other ports.
    Traffic,
}

/// Signs tokens and looks at them.
#[derive(Clone, Debug)]
pub(super) struct Signer(hmac::Key);

impl Signer {
    pub(super) fn new(key: &EdgeKey) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, &key.0))
    }

    /// The token of this sandbox for what `grant` says.
    pub(super) fn sign(&self, id: SandboxId, revision: u32, grant: Grant) -> String {
        let (port, expires) = (grant.port.unwrap_or(0), grant.expires.unwrap_or(0));
        let tag = hmac::sign(&self.0, &message(id, revision, port, expires));
        format!("{PREFIX}{port}_{expires}_{}", BASE64.encode(tag))
    }

    /// What clients of E2B show for this sandbox. It has no end but that of the sandbox, and is made
    /// again whenever it is needed.
    pub(super) fn secret(&self, id: SandboxId, revision: u32, of: Secret) -> String {
        let mut message = Vec::with_capacity(64);
        message.extend_from_slice(match of {
            Secret::Access => b"warren access token 1\0",
            Secret::Traffic => b"warren traffic token 1\0",
        });
        message.extend_from_slice(id.as_bytes());
        message.extend_from_slice(&revision.to_be_bytes());
        BASE64.encode(hmac::sign(&self.0, &message))
    }

    /// Whether `token` opens `port` of this sandbox at `now`, in seconds since 1970.
    pub(super) fn check(
        &self,
        (id, revision): (SandboxId, u32),
        port: u16,
        token: &str,
        now: u64,
    ) -> Verdict {
        let Some((of, expires, tag)) = parts(token) else { return Verdict::Bad };
        if of != 0 && of != port {
            return Verdict::Bad;
        }
        // Compared in a time that says nothing.
        if hmac::verify(&self.0, &message(id, revision, of, expires), &tag).is_err() {
            return Verdict::Bad;
        }
        match expires {
            0 => {}
            at if at <= now => return Verdict::Expired,
            _ => {}
        }
        let some = |value: u64| (value != 0).then_some(value);
        Verdict::Good(Grant { port: (of != 0).then_some(of), expires: some(expires) })
    }
}

fn message(id: SandboxId, revision: u32, port: u16, expires: u64) -> Vec<u8> {
    let mut message = Vec::with_capacity(64);
    message.extend_from_slice(PURPOSE);
    message.extend_from_slice(id.as_bytes());
    message.extend_from_slice(&revision.to_be_bytes());
    message.extend_from_slice(&port.to_be_bytes());
    message.extend_from_slice(&expires.to_be_bytes());
    message
}

fn parts(token: &str) -> Option<(u16, u64, Vec<u8>)> {
    let mut parts = token.strip_prefix(PREFIX)?.splitn(3, '_');
    let (port, expires, tag) = (parts.next()?, parts.next()?, parts.next()?);
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(port) || !digits(expires) || tag.len() != 43 {
        return None;
    }
    Some((port.parse().ok()?, expires.parse().ok()?, BASE64.decode(tag).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> SandboxId {
        text.parse().unwrap()
    }

    #[test]
    fn a_token_opens_what_it_was_signed_for_alone() {
        let signer = Signer::new(&EdgeKey::random());
        let (a, b) = (id("sb-aaaaaaaaaaaaaaaa"), id("sb-bbbbbbbbbbbbbbbb"));
        let grant = Grant { port: Some(3000), expires: Some(100) };
        let token = signer.sign(a, 0, grant);
        assert_eq!(signer.check((a, 0), 3000, &token, 99), Verdict::Good(grant));
        assert_eq!(signer.check((a, 0), 3000, &token, 100), Verdict::Expired);
        assert_eq!(signer.check((a, 0), 3001, &token, 99), Verdict::Bad);
        assert_eq!(signer.check((b, 0), 3000, &token, 99), Verdict::Bad);
        assert_eq!(signer.check((a, 1), 3000, &token, 99), Verdict::Bad, "revoked");
        let other = Signer::new(&EdgeKey::random());
        assert_eq!(other.check((a, 0), 3000, &token, 99), Verdict::Bad);
        let all = Grant { port: None, expires: None };
        let token = signer.sign(a, 0, all);
        assert_eq!(signer.check((a, 0), 1, &token, u64::MAX), Verdict::Good(all));
    }

    #[test]
    fn a_token_that_was_changed_is_none() {
        let signer = Signer::new(&EdgeKey::random());
        let sandbox = id("sb-aaaaaaaaaaaaaaaa");
        let token = signer.sign(sandbox, 0, Grant { port: Some(80), expires: Some(10) });
        let tag = token.rsplit_once('_').map(|_| token.splitn(4, '_').nth(3).unwrap()).unwrap();
        for bad in [
            format!("wrt_80_11_{tag}"),
            format!("wrt_0_10_{tag}"),
            format!("wrt_80_0_{tag}"),
            format!("wrt_+80_10_{tag}"),
            format!("wrt_80_10_{tag}A"),
            token.replace("wrt_", "wrn_"),
            String::new(),
            "wrt_".to_owned(),
            "wrt_80_10_".to_owned(),
            "wrt_99999_10_é".to_owned(),
        ] {
            assert_eq!(signer.check((sandbox, 0), 80, &bad, 1), Verdict::Bad, "{bad}");
        }
    }

    #[test]
    fn what_e2bs_clients_show_is_of_one_sandbox_and_one_purpose() {
        let signer = Signer::new(&EdgeKey::random());
        let (a, b) = (id("sb-aaaaaaaaaaaaaaaa"), id("sb-bbbbbbbbbbbbbbbb"));
        let all = [
            signer.secret(a, 0, Secret::Access),
            signer.secret(a, 0, Secret::Traffic),
            signer.secret(a, 1, Secret::Access),
            signer.secret(b, 0, Secret::Access),
        ];
        assert_eq!(all[0], signer.secret(a, 0, Secret::Access));
        let different: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
        assert_eq!(signer.check((a, 0), 80, &all[0], 0), Verdict::Bad);
    }

    #[test]
    fn a_key_is_in_no_debug_output() {
        assert_eq!(format!("{:?}", EdgeKey::random()), "EdgeKey");
    }
}
