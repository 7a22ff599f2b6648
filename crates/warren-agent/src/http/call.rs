//! What a request's head says about its caller.

use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use warren_proto::{Code, Status};

/// Silence between two signs of life, unless the caller asks for another.
const SILENCE: Duration = Duration::from_secs(90);

/// The user of the `Authorization: Basic` header, if there is one. Passwords are not looked at:
/// who may call at all is decided outside of the sandbox.
///
/// # Errors
///
/// `unauthenticated` for a header that cannot be read.
pub(crate) fn user(headers: &HeaderMap) -> Result<Option<String>, Status> {
    let Some(value) = headers.get(AUTHORIZATION) else { return Ok(None) };
    let bad = || Status::new(Code::Unauthenticated, "the authorization header cannot be read");
    let value = value.to_str().map_err(|_text| bad())?;
    let Some((scheme, credentials)) = value.split_once(' ') else { return Err(bad()) };
    if !scheme.eq_ignore_ascii_case("basic") {
        return Ok(None); // some other layer's
    }
    let decoded = decode_base64(credentials.trim()).ok_or_else(bad)?;
    let text = String::from_utf8(decoded).map_err(|_text| bad())?;
    let name = text.split(':').next().unwrap_or_default();
    Ok((!name.is_empty()).then(|| name.to_owned()))
}

/// The time that a call may take; absent, unreadable or 0: no limit.
pub(crate) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let milliseconds = number(headers, "connect-timeout-ms")?;
    (milliseconds > 0).then(|| Duration::from_millis(milliseconds))
}

/// The silence after which a stream gets a sign of life.
pub(crate) fn silence(headers: &HeaderMap) -> Duration {
    match number(headers, "keepalive-ping-interval") {
        Some(seconds) if seconds > 0 => Duration::from_secs(seconds.min(86_400)),
        _ => SILENCE,
    }
}

/// A header of at most ten digits, as the protocol has them.
fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    let text = headers.get(name)?.to_str().ok()?;
    if text.len() > 10 { None } else { text.parse().ok() }
}

/// Standard base64, with or without padding.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Some(u32::from(byte - b'A')),
        b'a'..=b'z' => Some(u32::from(byte - b'a') + 26),
        b'0'..=b'9' => Some(u32::from(byte - b'0') + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let mut bytes = Vec::new();
    for group in text.trim_end_matches('=').as_bytes().chunks(4) {
        let mut bits = 0;
        for byte in group {
            bits = bits << 6 | digit(*byte)?;
        }
        bits <<= 6 * (4 - group.len());
        let whole = match group.len() {
            1 => return None,
            length => length - 1,
        };
        bytes.extend(bits.to_be_bytes().into_iter().skip(1).take(whole));
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])
    }

    #[test]
    fn the_user_comes_from_basic_authorization() {
        let user = |value| user(&headers("authorization", value));
        assert_eq!(user("Basic dXNlcjo="), Ok(Some("user".to_owned())));
        assert_eq!(user("basic cm9vdDpzZWNyZXQ"), Ok(Some("root".to_owned())));
        assert_eq!(user("Basic Og=="), Ok(None));
        assert_eq!(user("Bearer abc"), Ok(None));
        for bad in ["Basic", "Basic !!!!", "Basic A", "Basic /////w=="] {
            assert_eq!(user(bad).unwrap_err().code, Code::Unauthenticated, "{bad}");
        }
        assert_eq!(super::user(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn times_are_read_or_ignored() {
        let timeout = |value| timeout(&headers("connect-timeout-ms", value));
        assert_eq!(timeout("1500"), Some(Duration::from_millis(1500)));
        for none in ["0", "", "-1", "x", "99999999999"] {
            assert_eq!(timeout(none), None, "{none}");
        }
        assert_eq!(silence(&headers("keepalive-ping-interval", "50")), Duration::from_secs(50));
        assert_eq!(silence(&headers("keepalive-ping-interval", "0")), SILENCE);
        assert_eq!(silence(&HeaderMap::new()), SILENCE);
    }

    #[test]
    fn base64_is_the_standard_one() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("Zg==", b"f"),
            ("Zm8", b"fo"),
            ("Zm9v", b"foo"),
            ("+/8=", &[0xfb, 0xff]),
        ] {
            assert_eq!(decode_base64(text).unwrap(), bytes, "{text}");
        }
    }
}
