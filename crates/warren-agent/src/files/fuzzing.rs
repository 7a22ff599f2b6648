//! Doors for fuzz targets.

use super::multipart::{Form, Item};
use super::{chmod, compose, disposition, glob, query, range, upload};

/// The boundary of every form here.
const FORM: &str = "multipart/form-data; boundary=b";

/// As [`crate::fuzzing::form`].
pub(crate) fn form(bytes: &[u8], size: usize) -> (Vec<String>, Vec<u8>, bool) {
    let (mut parts, mut content) = (Vec::new(), Vec::new());
    let Ok(mut form) = Form::new(FORM) else { return (parts, content, false) };
    for piece in bytes.chunks(size) {
        let Ok(items) = form.push(piece) else { return (parts, content, false) };
        for item in items {
            match item {
                Item::Part(part) => parts.push(format!("{part:?} at {}", content.len())),
                Item::Data(bytes) => content.extend_from_slice(&bytes),
                Item::End => parts.push(format!("end at {}", content.len())),
            }
        }
    }
    (parts, content, form.finish().is_ok())
}

/// As [`crate::fuzzing::texts`].
pub(crate) fn texts(text: &str) {
    let query = query::Query::parse(Some(text));
    let _value = query.get("path");
    let _part = disposition::parse(text);
    let shown = disposition::inline(text);
    assert!(shown.is_ascii() && !shown.contains(['\r', '\n']), "{shown:?}");
    for size in [0, 1, 1000, u64::MAX] {
        if let range::Range::Part { first, end } = range::Range::parse(Some(text), size) {
            assert!(first < end && end <= size, "{text:?} of {size}");
        }
    }
    if let Ok(pattern) = glob::checked(text) {
        for path in ["", "a", "a/b", "a/b/c.rs", text] {
            let _matches = fast_glob::glob_match(&pattern, path);
        }
    }
    if let Ok(value) = serde_json::from_str(text) {
        let _orders = (chmod::order_of(&value), compose::order_of(&value));
    }
    let _mode = upload::mode(text);
}
