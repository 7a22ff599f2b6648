//! Names that stand for something else: `.wh.NAME` and its like.

use super::UnpackError;

/// What an entry's last name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning<'a> {
    /// Itself.
    Name,
    /// This name is removed from the layers below.
    Whiteout(&'a [u8]),
    /// The directory hides what the layers below have in it.
    Opaque,
    /// Something that only aufs knows.
    Unknown,
}

/// What the last part of a path stands for.
///
/// # Source
///
/// OCI image specification, layer.md, "Whiteouts" and "Opaque Whiteout".
pub(super) fn meaning<'a>(path: &[u8], name: &'a [u8]) -> Result<Meaning<'a>, UnpackError> {
    let Some(rest) = name.strip_prefix(b".wh.") else { return Ok(Meaning::Name) };
    match rest {
        b".wh..opq" => Ok(Meaning::Opaque),
        rest if rest.starts_with(b".wh.") => Ok(Meaning::Unknown),
        b"" | b"." | b".." => Err(UnpackError::refused(path, "it removes no name")),
        rest => Ok(Meaning::Whiteout(rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_for_what_the_specification_says() {
        let check = |name: &str, expected: Meaning<'_>| {
            assert_eq!(meaning(b"p", name.as_bytes()).unwrap(), expected, "{name}");
        };
        check("a", Meaning::Name);
        check(".wh", Meaning::Name);
        check(".wha", Meaning::Name);
        check(".wh.a", Meaning::Whiteout(b"a"));
        check(".wh.a.wh.", Meaning::Whiteout(b"a.wh."));
        check(".wh..wh..opq", Meaning::Opaque);
        check(".wh..wh.plnk", Meaning::Unknown);
        for bad in [".wh.", ".wh..", ".wh..."] {
            assert!(meaning(b"p", bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
