//! The query of a request.

/// Names and values, decoded.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query string. What is no UTF-8 after decoding is replaced.
    pub(super) fn parse(query: Option<&str>) -> Self {
        let pairs = query.unwrap_or_default().split('&').filter(|it| !it.is_empty());
        let decode = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode_component(name), decode_component(value))
        };
        Self(pairs.map(decode).collect())
    }

    /// The first value of a name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|it| it.0 == name).map(|it| it.1.as_str())
    }
}

fn decode_component(text: &str) -> String {
    percent_decode(&text.replace('+', " "))
}

/// Replaces `%XX` by its byte; anything else stays.
pub(super) fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = match after {
            [high, low, ..] if first == b'%' => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                bytes.push(high << 4 | low);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|it| u8::try_from(it).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_decoded() {
        let query = Query::parse(Some("path=%2Fa%20b%2Bc+d&username=&x&path=other&%zz=%4"));
        assert_eq!(query.get("path"), Some("/a b+c d"));
        assert_eq!(query.get("username"), Some(""));
        assert_eq!(query.get("x"), Some(""));
        assert_eq!(query.get("%zz"), Some("%4"));
        assert_eq!(query.get("y"), None);
        assert_eq!(Query::parse(None), Query::default());
        assert_eq!(Query::parse(Some("a=%ff")).get("a"), Some("\u{fffd}"));
    }
}
