//! Placeholders in headers: `${e2b.secrets.NAME}` and `${e2b.identity.tokens.NAME}` there,
//! `{{secret:NAME}}` and `{{token:NAME}}` here. The sandbox sees none of them.

use super::Refusal;

/// How every placeholder begins there.
const ANY: &str = "${e2b.";
/// How one of each kind begins, there and here.
const SECRET: (&str, &str) = ("${e2b.secrets.", "{{secret:");
const TOKEN: (&str, &str) = ("${e2b.identity.tokens.", "{{token:");

/// A header's value with our placeholders in the place of theirs; `named` says what a secret is
/// called that they write so.
pub(super) fn ours(value: &str, named: &dyn Fn(&str) -> String) -> Result<String, Refusal> {
    let mut made = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, _)) = rest.split_once(ANY) {
        made.push_str(before);
        let from = rest.get(before.len()..).unwrap_or_default();
        let of_kind = |(theirs, ours): (&str, &'static str)| {
            let (name, after) = from.strip_prefix(theirs)?.split_once('}')?;
            Some((ours, name, after))
        };
        let Some((ours, name, after)) = [SECRET, TOKEN].into_iter().find_map(of_kind) else {
            let message = "network.rules: expected ${e2b.secrets.NAME} or \
                           ${e2b.identity.tokens.NAME}: nothing else is put into headers";
            return Err(Refusal::bad(message));
        };
        if let Some((name, _version)) = name.split_once(':')
            && ours == SECRET.1
        {
            let message = format!(
                "network.rules: only the newest value of a secret is kept: expected \
                 ${{e2b.secrets.{name}}}, without a version"
            );
            return Err(Refusal::bad(message));
        }
        let name = if ours == SECRET.1 { named(name) } else { name.to_owned() };
        made.push_str(&format!("{ours}{name}}}}}"));
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
            ("${e2b.identity.tokens.a:b}", "{{token:a:b}}"),
        ] {
            assert_eq!(ours(theirs, &str::to_owned).unwrap(), expected);
        }
        for bad in ["${e2b.secrets.a:2}", "${e2b.identity.x}", "${e2b.secrets.a"] {
            assert!(ours(bad, &str::to_owned).is_err(), "{bad}");
        }
    }
}
