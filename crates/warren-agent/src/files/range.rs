//! The `Range` header.

/// What of a file is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Range {
    /// All of it: no range, one that cannot be read, or several (which a server may answer so).
    Whole,
    /// Bytes `first..end`; not empty.
    Part { first: u64, end: u64 },
    /// Nothing that is there.
    Unsatisfiable,
}

impl Range {
    /// Reads a header for a file of `size` bytes.
    pub(super) fn parse(header: Option<&str>, size: u64) -> Self {
        let spec = header.and_then(|it| it.trim().strip_prefix("bytes="));
        let Some((first, last)) =
            spec.filter(|it| !it.contains(',')).and_then(|it| it.split_once('-'))
        else {
            return Self::Whole;
        };
        let (first, last) = (first.trim(), last.trim());
        let part = match (first.parse::<u64>(), last.parse::<u64>()) {
            (Ok(first), Ok(last)) if last >= first => (first, last.saturating_add(1).min(size)),
            (Ok(first), Err(_)) if last.is_empty() => (first, size),
            (Err(_), Ok(length)) if first.is_empty() => (size.saturating_sub(length), size),
            _ => return Self::Whole,
        };
        let (first, end) = part;
        if first < end { Self::Part { first, end } } else { Self::Unsatisfiable }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(header: &str, size: u64, expected: Range) {
        assert_eq!(Range::parse(Some(header), size), expected, "{header} of {size}");
    }

    #[test]
    fn ranges_are_read_as_http_says() {
        use Range::{Part, Unsatisfiable, Whole};
        check("bytes=0-0", 10, Part { first: 0, end: 1 });
        check("bytes=2-4", 10, Part { first: 2, end: 5 });
        check("bytes=2-", 10, Part { first: 2, end: 10 });
        check("bytes=2-99", 10, Part { first: 2, end: 10 });
        check("bytes=-3", 10, Part { first: 7, end: 10 });
        check("bytes=-99", 10, Part { first: 0, end: 10 });
        check("bytes=0-18446744073709551615", 10, Part { first: 0, end: 10 });
        check("bytes=10-", 10, Unsatisfiable);
        check("bytes=-0", 10, Unsatisfiable);
        check("bytes=0-", 0, Unsatisfiable);
        for whole in [
            "bytes=4-2",
            "bytes=x-",
            "bytes=-",
            "bytes=",
            "lines=1-2",
            "bytes=0-1,3-4",
            "bytes=99999999999999999999-",
        ] {
            check(whole, 10, Whole);
        }
        assert_eq!(Range::parse(None, 10), Whole);
    }
}
