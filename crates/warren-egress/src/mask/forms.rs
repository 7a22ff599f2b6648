//! The encodings in which a secret is looked for.

use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use zeroize::Zeroizing;

use super::SHORTEST;

/// Every form in which a value is looked for.
pub(super) fn forms(value: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    let mut forms = vec![value.to_vec()];
    if value.len() >= SHORTEST {
        for upper in [true, false] {
            forms.push(percent(value, upper, false));
            forms.push(percent(value, upper, true));
            forms.push(hex(value, upper));
        }
        forms.extend(JSON.iter().map(|escapes| escapes.apply(value)));
        forms.extend(HTML.iter().map(|(quote, apostrophe)| html(value, quote, apostrophe)));
        for skipped in 0..3 {
            forms.push(base64(value, skipped, &STANDARD));
            forms.push(base64(value, skipped, &URL_SAFE));
        }
    }
    forms.into_iter().map(Zeroizing::new).collect()
}

/// As in a target or, with `form`, as in the fields of a form.
fn percent(value: &[u8], upper: bool, form: bool) -> Vec<u8> {
    let encode = |byte: &u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => vec![*byte],
        b' ' if form => vec![b'+'],
        other if upper => format!("%{other:02X}").into_bytes(),
        other => format!("%{other:02x}").into_bytes(),
    };
    value.iter().flat_map(encode).collect()
}

fn hex(value: &[u8], upper: bool) -> Vec<u8> {
    let digits = |byte: &u8| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") };
    value.iter().map(digits).collect::<String>().into_bytes()
}

/// What a writer of JSON escapes besides what everybody must, quotes and backslashes.
struct Json {
    /// What it writes as the number of the character.
    numbered: &'static [char],
    /// Whether it does so with all that is not ASCII.
    foreign: bool,
    /// Whether digits of numbers are upper case.
    upper: bool,
    /// Whether it puts a backslash before a slash.
    slashes: bool,
}

/// How JSON is commonly written.
const JSON: [Json; 7] = [
    // As little as there must be: JavaScript, Rust, most others.
    Json { numbered: &[], foreign: false, upper: false, slashes: false },
    // Python, Ruby with ASCII alone.
    Json { numbered: &[], foreign: true, upper: false, slashes: false },
    // PHP, without and with its flag for Unicode.
    Json { numbered: &[], foreign: true, upper: false, slashes: true },
    Json { numbered: &[], foreign: false, upper: false, slashes: true },
    // Go, Rails.
    Json { numbered: &['<', '>', '&'], foreign: false, upper: false, slashes: false },
    // Gson.
    Json { numbered: &['<', '>', '&', '=', '\''], foreign: false, upper: false, slashes: false },
    // .NET.
    Json {
        numbered: &['<', '>', '&', '+', '\'', '"', '`'],
        foreign: true,
        upper: true,
        slashes: false,
    },
];

impl Json {
    fn apply(&self, value: &[u8]) -> Vec<u8> {
        let mut escaped = Vec::with_capacity(value.len());
        for chunk in value.utf8_chunks() {
            chunk.valid().chars().for_each(|it| self.push(it, &mut escaped));
            escaped.extend_from_slice(chunk.invalid());
        }
        escaped
    }

    fn push(&self, character: char, escaped: &mut Vec<u8>) {
        let text = match character {
            it if self.numbered.contains(&it) || (self.foreign && !it.is_ascii()) => {
                self.number(it)
            }
            '"' => "\\\"".to_owned(),
            '\\' => "\\\\".to_owned(),
            '\n' => "\\n".to_owned(),
            '\r' => "\\r".to_owned(),
            '\t' => "\\t".to_owned(),
            '/' if self.slashes => "\\/".to_owned(),
            other => other.to_string(),
        };
        escaped.extend_from_slice(text.as_bytes());
    }

    fn number(&self, character: char) -> String {
        let units = character.encode_utf16(&mut [0; 2]).to_vec();
        let digits = |unit: &u16| {
            if self.upper { format!("\\u{unit:04X}") } else { format!("\\u{unit:04x}") }
        };
        units.iter().map(digits).collect()
    }
}

/// How quotes and apostrophes are commonly written in HTML.
const HTML: [(&str, &str); 4] =
    [("&quot;", "&#39;"), ("&quot;", "&#x27;"), ("&quot;", "&#039;"), ("&#34;", "&#39;")];

/// As in a page of HTML.
fn html(value: &[u8], quote: &str, apostrophe: &str) -> Vec<u8> {
    let escape = |byte: &u8| match byte {
        b'&' => b"&amp;".to_vec(),
        b'<' => b"&lt;".to_vec(),
        b'>' => b"&gt;".to_vec(),
        b'"' => quote.as_bytes().to_vec(),
        b'\'' => apostrophe.as_bytes().to_vec(),
        other => vec![*other],
    };
    value.iter().flat_map(escape).collect()
}

/// What is the same of the value in base64 wherever it begins: `skipped` bytes after a multiple of
/// three. Each digit holds six bits; those that hold bits of neighbours are left out.
fn base64(value: &[u8], skipped: usize, engine: &impl base64::Engine) -> Vec<u8> {
    let mut bytes = Zeroizing::new(vec![0; skipped]);
    bytes.extend_from_slice(value);
    let digits = Zeroizing::new(engine.encode(&*bytes));
    let from = (skipped * 8).div_ceil(6);
    let to = bytes.len() * 8 / 6;
    digits.as_bytes().get(from..to).unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, written: &[&str]) {
        let forms: Vec<_> = forms(value.as_bytes());
        for form in written {
            assert!(forms.iter().any(|it| it.as_slice() == form.as_bytes()), "{value}: {form}");
        }
    }

    #[test]
    fn what_common_writers_of_json_escape_is_known() {
        check(
            "aa/bb+cc&dd==",
            &[
                // PHP, .NET, Go, Gson.
                r"aa\/bb+cc&dd==",
                r"aa/bb\u002Bcc\u0026dd==",
                r"aa/bb+cc\u0026dd==",
                r"aa/bb+cc\u0026dd\u003d\u003d",
            ],
        );
        check(
            "p\u{e4}ss\"w\u{f6}rd\u{1f511}",
            &[
                "p\u{e4}ss\\\"w\u{f6}rd\u{1f511}",
                r#"p\u00e4ss\"w\u00f6rd\ud83d\udd11"#,
                r"p\u00E4ss\u0022w\u00F6rd\uD83D\uDD11",
            ],
        );
    }

    #[test]
    fn what_pages_escape_is_known() {
        check("a<b>'c'\"d\"&", &["a&lt;b&gt;&#39;c&#39;&quot;d&quot;&amp;"]);
        check("a<b>'c'\"d\"&", &["a&lt;b&gt;&#x27;c&#x27;&quot;d&quot;&amp;"]);
    }
}
