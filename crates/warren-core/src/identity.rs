//! Who a sandbox is to others: tokens that this server signs, and the key that proves them.
//!
//! A token is a JSON web token of the kind `JWT-SVID`, for one audience. Requests of a sandbox carry
//! it on their way out, as they carry secrets: programs inside never see it. Whoever gets one asks
//! this server for its key, by OpenID Connect discovery, and needs no secret of it.

use std::{fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ring::{
    digest,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING as ES256, EcdsaKeyPair, KeyPair as _},
};
use serde_json::json;

use crate::{
    caller::Owner,
    clock::Timestamp,
    error::SandboxError,
    id::{SandboxId, random_bytes},
    secrets::{SealKey, Sealed, SecretValue},
    shared::Shared,
    store::{Object, ObjectChange, ObjectKind},
};

/// For how long a token is good.
const LASTS: Duration = Duration::from_secs(3600);

/// How often tokens are signed anew: one that is sent is never older.
pub(crate) const RENEWED: Duration = Duration::from_secs(300);

/// The id of the one row, and what its key is sealed for.
const ROW: &str = "key";
const BINDING: &[u8] = b"warren identity key\0";

/// A token that requests of a sandbox may carry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// Whom it is for: 1 to 1,024 bytes, sent as they are.
    pub audience: String,
}

/// A key that proves tokens: a point of the curve P-256, for ES256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// Its name, which tokens have in their head.
    pub id: String,
    /// The coordinates, 32 bytes each, big-endian, in base64 as in addresses.
    pub x: String,
    /// The other one.
    pub y: String,
}

/// Who signs.
pub(crate) struct Issuer {
    /// The address by which others find the key.
    address: String,
    pair: EcdsaKeyPair,
    key: PublicKey,
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Issuer {
    fn new(pair: &[u8], address: &str) -> Option<Self> {
        let pair = EcdsaKeyPair::from_pkcs8(&ES256, pair, &SystemRandom::new()).ok()?;
        let (x, y) = pair.public_key().as_ref().strip_prefix(&[4])?.split_at_checked(32)?;
        let name = digest::digest(&digest::SHA256, pair.public_key().as_ref());
        let id = BASE64.encode(name.as_ref().get(..12)?);
        let key = PublicKey { id, x: BASE64.encode(x), y: BASE64.encode(y) };
        Some(Self { address: address.to_owned(), pair, key })
    }

    /// A token for a sandbox; none where there is no randomness to sign with.
    pub(crate) fn sign(
        &self,
        (id, owner): (SandboxId, &Owner),
        token: &Token,
        now: Timestamp,
    ) -> Option<SecretValue> {
        let now = now.as_millis() / 1000;
        let head = json!({"alg": "ES256", "typ": "JWT", "kid": self.key.id});
        let domain = self.address.split_once("://").map_or("", |(_, rest)| rest);
        let domain = domain.split([':', '/']).next().unwrap_or_default();
        let project = owner.as_str();
        let subject = format!("spiffe://{domain}/project/{project}/sandbox/{id}");
        let claims = json!({
            "iss": self.address,
            "sub": subject,
            "aud": [token.audience],
            "iat": now,
            "nbf": now,
            "exp": now + LASTS.as_secs(),
            "jti": BASE64.encode(random_bytes::<16>()),
            "project": project,
            "sandbox_id": id.as_str(),
        });
        let part = |value: serde_json::Value| BASE64.encode(value.to_string());
        let text = format!("{}.{}", part(head), part(claims));
        let signature = self.pair.sign(&SystemRandom::new(), text.as_bytes()).ok()?;
        let signed = format!("{text}.{}", BASE64.encode(signature.as_ref()));
        Some(SecretValue::new(signed.into_bytes()))
    }

    /// What others find the key by, and the key.
    pub(crate) fn told(&self) -> (&str, &PublicKey) {
        (&self.address, &self.key)
    }
}

/// Checks the tokens that a sandbox is to have.
///
/// # Errors
///
/// [`SandboxError::Invalid`].
pub(crate) fn check<'a>(
    tokens: impl Iterator<Item = (&'a String, &'a Token)>,
) -> Result<(), SandboxError> {
    let invalid = |reason: String| Err(SandboxError::invalid("tokens", reason));
    for (place, (name, token)) in tokens.enumerate() {
        if place >= 32 {
            return invalid("expected at most 32".to_owned());
        }
        let odd = |letter: char| letter.is_control() || "{}".contains(letter);
        if name.is_empty() || name.len() > 128 || name.contains(odd) {
            return invalid(format!(
                "{name:?}: expected a name of 1 to 128 bytes, without braces and control characters"
            ));
        }
        if !(1..=1024).contains(&token.audience.len()) {
            return invalid(format!("{name}: expected an audience of 1 to 1024 bytes"));
        }
    }
    Ok(())
}

/// Takes the stored key, or makes one. Without a key for secrets there is none.
pub(crate) async fn restore(shared: &Shared, objects: &[Object]) {
    let Some(seal) = shared.config.seal_key.as_ref() else { return };
    let stored = objects.iter().find(|it| it.kind == ObjectKind::Identity);
    let pair = match stored.map(|it| opened(it, seal)) {
        Some(Some(pair)) => pair,
        unusable => {
            if unusable.is_some() {
                tracing::warn!(
                    "the key of sandboxes' identities was sealed with another key than this server \
                     has: tokens are signed with a new one"
                );
            }
            match made(shared, seal).await {
                Ok(pair) => pair,
                Err(error) => {
                    let cause = &error as &dyn std::error::Error;
                    tracing::error!(error = cause, "sandboxes get no identities: {error}");
                    return;
                }
            }
        }
    };
    if let Some(issuer) = Issuer::new(pair.expose(), &shared.config.issuer) {
        shared.issuer.set(issuer).ok();
    }
}

fn opened(object: &Object, seal: &SealKey) -> Option<SecretValue> {
    let sealed: Sealed = serde_json::from_str(&object.record).ok()?;
    seal.open(&sealed, BINDING).ok()
}

async fn made(shared: &Shared, seal: &SealKey) -> Result<SecretValue, SandboxError> {
    let broken = |what| SandboxError::Broken(what);
    let pair = EcdsaKeyPair::generate_pkcs8(&ES256, &SystemRandom::new());
    let pair = pair.map_err(|_none| broken("there is no randomness for a key"))?;
    let pair = SecretValue::new(pair.as_ref().to_vec());
    let sealed = seal.seal(pair.expose(), BINDING);
    let sealed = sealed.map_err(|_none| broken("a key could not be sealed"))?;
    let object = Object {
        kind: ObjectKind::Identity,
        id: ROW.to_owned(),
        owner: Owner::new(""),
        record: serde_json::to_string(&sealed).unwrap_or_default(),
    };
    // Tokens of a key that is lost are good for nothing.
    let change = ObjectChange { put: vec![object], durable: true, ..ObjectChange::default() };
    let stored = shared.store.change_objects(change).await;
    stored.map_err(SandboxError::store("store the key of identities"))?;
    Ok(pair)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;

    fn issuer() -> Issuer {
        let pair = EcdsaKeyPair::generate_pkcs8(&ES256, &SystemRandom::new()).unwrap();
        Issuer::new(pair.as_ref(), "https://api.example.com:8443").unwrap()
    }

    #[test]
    fn a_token_says_who_for_whom_and_until_when() {
        let issuer = issuer();
        let (id, owner) = (SandboxId::mint(), Owner::new("team"));
        let token = Token { audience: "sts.example \"x\"".to_owned() };
        let now = Timestamp::from_millis(1_000_000);
        let signed = issuer.sign((id, &owner), &token, now).unwrap();
        let signed = String::from_utf8(signed.expose().to_vec()).unwrap();
        let (text, signature) = signed.rsplit_once('.').unwrap();
        let (head, claims) = text.split_once('.').unwrap();
        let read = |part: &str| -> serde_json::Value {
            serde_json::from_slice(&BASE64.decode(part).unwrap()).unwrap()
        };
        assert_eq!(
            (&read(head)["alg"], &read(head)["kid"]),
            (&json!("ES256"), &json!(issuer.key.id))
        );
        let claims = read(claims);
        assert_eq!(claims["iss"], "https://api.example.com:8443");
        assert_eq!(claims["sub"], format!("spiffe://api.example.com/project/team/sandbox/{id}"));
        assert_eq!(claims["aud"], json!(["sts.example \"x\""]));
        assert_eq!((&claims["iat"], &claims["exp"]), (&json!(1000), &json!(4600)));
        let [x, y] = [&issuer.key.x, &issuer.key.y].map(|it| BASE64.decode(it).unwrap());
        let point = [vec![4], x, y].concat();
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        key.verify(text.as_bytes(), &BASE64.decode(signature).unwrap()).unwrap();
        assert!(!format!("{issuer:?}").contains(&issuer.key.x));
    }

    #[test]
    fn a_name_fits_into_a_placeholder() {
        let check = |name: &str, audience: &str| {
            let token = Token { audience: audience.to_owned() };
            super::check(BTreeMap::from([(name.to_owned(), token)]).iter()).is_ok()
        };
        assert!(check("aws", "sts.amazonaws.com") && check("a b-ä", "x"));
        for bad in ["", "a}b", "a{b", "a\nb", &"a".repeat(129)] {
            assert!(!check(bad, "x"), "{bad}");
        }
        assert!(!check("a", "") && !check("a", &"x".repeat(1025)));
    }
}
