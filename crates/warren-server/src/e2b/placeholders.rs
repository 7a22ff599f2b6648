//! Placeholders of secrets in headers: `${e2b.secrets.NAME}` there, `{{secret:NAME}}` here. The
//! sandbox sees neither.

use super::Refusal;

/// How every placeholder begins there, and one of a secret there and here.
const ANY: &str = "${e2b.";
const THEIRS: &str = "${e2b.secrets.";
const OURS: &str = "{{secret:";

/// A header's value with our placeholders in the place of theirs.
pub(super) fn ours(value: &str) -> Result<String, Refusal> {
    let mut made = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, _)) = rest.split_once(ANY) {
        made.push_str(before);
        let from = rest.get(before.len()..).unwrap_or_default();
        let named = from.strip_prefix(THEIRS).and_then(|from| from.split_once('}'));
        let Some((name, after)) = named else {
            let message = "network.rules: expected ${e2b.secrets.NAME}: nothing else is put into \
                           headers by this server, tokens of workloads neither";
            return Err(Refusal::bad(message));
        };
        if let Some((name, _version)) = name.split_once(':') {
            let message = format!(
                "network.rules: only the newest value of a secret is kept: expected \
                 ${{e2b.secrets.{name}}}, without a version"
            );
            return Err(Refusal::bad(message));
        }
        made.push_str(&format!("{OURS}{name}}}}}"));
        rest = after;
    }
    made.push_str(rest);
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn their_placeholders_become_ours() {
        for (theirs, expected) in [
            ("plain ${x} $e2b", "plain ${x} $e2b"),
            ("Bearer ${e2b.secrets.openai-key}", "Bearer {{secret:openai-key}}"),
            ("${e2b.secrets.A}:${e2b.secrets.B}", "{{secret:A}}:{{secret:B}}"),
        ] {
            assert_eq!(ours(theirs).unwrap(), expected);
        }
        for bad in ["${e2b.secrets.a:2}", "${e2b.identity.tokens.x}", "${e2b.secrets.a"] {
            assert!(ours(bad).is_err(), "{bad}");
        }
    }
}
