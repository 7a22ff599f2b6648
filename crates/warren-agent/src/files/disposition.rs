//! The `Content-Disposition` header: file names, both ways.

use super::query::percent_decode;

/// A header that shows a file under its name.
pub(super) fn inline(name: &str) -> String {
    let is_token = |it: u8| it.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&it);
    if !name.is_empty() && name.bytes().all(is_token) {
        return format!("inline; filename={name}");
    }
    if name.bytes().all(|it| (0x20..0x7f).contains(&it)) {
        let escaped = name.replace('\\', "\\\\").replace('"', "\\\"");
        return format!("inline; filename=\"{escaped}\"");
    }
    let encode = |it: u8| match it {
        _ if is_token(it) => char::from(it).to_string(),
        _ => format!("%{it:02X}"),
    };
    let encoded: String = name.bytes().map(encode).collect();
    format!("inline; filename*=utf-8''{encoded}")
}

/// The parameters of a part of a form: its field's name and its file's, if it is a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct FormPart {
    pub(super) name: Option<String>,
    pub(super) filename: Option<String>,
}

/// Reads a part's header. A file name is the whole path: directories stay.
pub(super) fn parse(header: &str) -> FormPart {
    let mut part = FormPart::default();
    let mut rest = header;
    while let Some((_, after)) = rest.split_once(';') {
        let Some((key, value)) = after.split_once('=') else { break };
        let (value, after) = take_value(value.trim_start());
        match key.trim().to_ascii_lowercase().as_str() {
            "name" => part.name = Some(value),
            "filename" if part.filename.is_none() => part.filename = Some(value),
            "filename*" => {
                let encoded = value.splitn(3, '\'').nth(2).unwrap_or_default();
                part.filename = Some(percent_decode(encoded));
            }
            _ => {}
        }
        rest = after;
    }
    part
}

/// A token, or a quoted string with its escapes undone; and what follows it.
fn take_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (value.trim().to_owned(), rest);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return (value, quoted.get(index + 1..).unwrap_or_default()),
            '\\' => value.extend(characters.next().map(|it| it.1)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(header: &str, name: Option<&str>, filename: Option<&str>) {
        let expected =
            FormPart { name: name.map(str::to_owned), filename: filename.map(str::to_owned) };
        assert_eq!(parse(header), expected, "{header}");
    }

    #[test]
    fn parts_have_names_and_whole_paths() {
        check(r#"form-data; name="file"; filename="dir/x.txt""#, Some("file"), Some("dir/x.txt"));
        check(r#"form-data; name="file"; filename="/a;b=c.txt""#, Some("file"), Some("/a;b=c.txt"));
        check(r#"form-data; NAME=file; filename="a\"b\\c""#, Some("file"), Some(r#"a"b\c"#));
        check("form-data; name=\"file\"; filename=\"ä ö\"", Some("file"), Some("ä ö"));
        check("form-data; filename*=UTF-8''a%20%C3%A4; name=x", Some("x"), Some("a ä"));
        check("form-data; name=\"file\"", Some("file"), None);
        for broken in ["", ";", ";;=", "form-data; name", "form-data; name=\"", "x;a=\"\\"] {
            parse(broken);
        }
    }

    #[test]
    fn names_are_written_so_that_they_can_be_read() {
        assert_eq!(inline("a.txt"), "inline; filename=a.txt");
        assert_eq!(inline("a b\".txt"), r#"inline; filename="a b\".txt""#);
        assert_eq!(inline("ä.txt"), "inline; filename*=utf-8''%C3%A4.txt");
    }
}
