//! The request that makes an agent's name known to a node of gitlawb, as text: whoever has a
//! connection sends it. It is only made for agents whose identity was asked for.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::digest::{SHA256, digest};

use super::Identity;

/// Where the request goes, seen from the node.
pub const PATH: &str = "/api/register";

/// The node that is asked where no other is named.
pub const NODE: &str = "https://node.gitlawb.com";

/// A POST with its signed headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is sent, as JSON.
    pub body: String,
    /// Names and values of the headers that belong to it.
    pub headers: [(&'static str, String); 4],
}

/// Makes the request of an identity. A node takes it for five minutes around `now`.
///
/// # Source
///
/// RFC 9421 for the signature, RFC 9530 for the digest.
pub fn request(identity: &Identity, now: SystemTime) -> Request {
    let did = identity.did();
    let body = serde_json::json!({
        "capabilities": ["git:push", "git:fetch", "issue:create", "pr:open"],
        "did": did,
        "model": null,
    });
    let body = body.to_string();
    let content_digest = format!("sha-256=:{}:", STANDARD.encode(digest(&SHA256, body.as_bytes())));
    let created = now.duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs());
    let parameters = format!(
        "(\"@method\" \"@path\" \"content-digest\");keyid=\"{did}\";alg=\"ed25519\";created={created}"
    );
    let signature = STANDARD.encode(identity.sign(base(&content_digest, &parameters).as_bytes()));
    Request {
        body,
        headers: [
            ("content-type", "application/json".to_owned()),
            ("content-digest", content_digest),
            ("signature-input", format!("sig1={parameters}")),
            ("signature", format!("sig1=:{signature}:")),
        ],
    }
}

/// What is signed.
fn base(content_digest: &str, parameters: &str) -> String {
    [
        "\"@method\": POST".to_owned(),
        format!("\"@path\": {PATH}"),
        format!("\"content-digest\": {content_digest}"),
        format!("\"@signature-params\": {parameters}"),
    ]
    .join("\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{tests::vector, verify};
    use super::*;

    #[test]
    fn the_request_is_signed_over_method_path_and_body() {
        let identity = vector();
        let now = UNIX_EPOCH + Duration::from_secs(1_777_777_777);
        let request = request(&identity, now);
        let expected = r#"{"capabilities":["git:push","git:fetch","issue:create","pr:open"],"did":"did:key:z6MkehRgf7yJbgaGfYsdoAsKdBPE3dj2CYhowQdcjqSJgvVd","model":null}"#;
        assert_eq!(request.body, expected);
        let header = |name: &str| {
            request
                .headers
                .iter()
                .find(|(it, _)| *it == name)
                .map(|(_, value)| value.clone())
                .unwrap()
        };
        let parameters = "(\"@method\" \"@path\" \"content-digest\");\
            keyid=\"did:key:z6MkehRgf7yJbgaGfYsdoAsKdBPE3dj2CYhowQdcjqSJgvVd\";\
            alg=\"ed25519\";created=1777777777";
        assert_eq!(header("signature-input"), format!("sig1={parameters}"));
        let hash = STANDARD.encode(digest(&SHA256, expected.as_bytes()));
        assert_eq!(header("content-digest"), format!("sha-256=:{hash}:"));
        let signed = format!(
            "\"@method\": POST\n\"@path\": /api/register\n\"content-digest\": sha-256=:{hash}:\n\
             \"@signature-params\": {parameters}"
        );
        let signature = header("signature");
        let signature = signature.strip_prefix("sig1=:").and_then(|it| it.strip_suffix(':'));
        let signature = STANDARD.decode(signature.unwrap()).unwrap();
        assert!(verify(identity.public(), signed.as_bytes(), &signature));
    }
}
