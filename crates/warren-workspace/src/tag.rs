//! Marks on agents, by which commands choose many.

use std::str::FromStr;

/// The tags of an agent, in the order in which they were given.
///
/// As text they are joined with commas: `env=staging,task=review`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags(Vec<String>);

/// Why a text is no tag.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Tag must be KEY=VALUE (got '{0}'), with letters, digits, `-` and `_` in KEY")]
pub struct TagError(String);

impl Tags {
    /// Adds a tag, `KEY=VALUE`. A value with commas is as good as several tags, and is not checked
    /// any further.
    ///
    /// # Errors
    ///
    /// [`TagError`] where the key is missing or has other characters, and where a character does
    /// not print.
    pub fn add(&mut self, tag: &str) -> Result<(), TagError> {
        let wrong = || TagError(crate::text::shown(tag));
        let (key, _value) = tag.split_once('=').ok_or_else(wrong)?;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if key.is_empty() || !key.bytes().all(allowed) || crate::text::shown(tag) != tag {
            return Err(wrong());
        }
        self.0.push(tag.to_owned());
        Ok(())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them as one text.
    pub fn joined(&self) -> String {
        self.0.join(",")
    }

    /// Whether `filter` is one of them, or several that follow each other: `a=1` or `a=1,b=2`.
    pub fn match_filter(&self, filter: &str) -> bool {
        format!(",{},", self.joined()).contains(&format!(",{filter},"))
    }
}

/// Reads what [`Tags::joined`] wrote.
impl FromStr for Tags {
    type Err = TagError;

    fn from_str(text: &str) -> Result<Self, TagError> {
        let mut tags = Self::default();
        // A value may have had commas: what follows one and is no tag belongs to the tag before it.
        let mut whole = String::new();
        for part in text.split(',') {
            if tags_begin(part) && !whole.is_empty() {
                tags.add(&whole)?;
                whole.clear();
            }
            if !whole.is_empty() {
                whole.push(',');
            }
            whole.push_str(part);
        }
        if !whole.is_empty() {
            tags.add(&whole)?;
        }
        Ok(tags)
    }
}

fn tags_begin(part: &str) -> bool {
    Tags::default().add(part).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(each: &[&str]) -> Tags {
        let mut tags = Tags::default();
        each.iter().for_each(|tag| tags.add(tag).unwrap());
        tags
    }

    #[test]
    fn tags_are_keys_with_values() {
        assert_eq!(tags(&["a=1", "b_2-x="]).joined(), "a=1,b_2-x=");
        for bad in ["", "a", "=1", "a b=1", "a.b=1", "ä=1", "a=1\nb", "a=\x1b[2J"] {
            let error = Tags::default().add(bad).unwrap_err();
            assert!(error.to_string().starts_with("Tag must be KEY=VALUE"), "{bad}");
        }
    }

    #[test]
    fn a_filter_is_one_tag_or_neighbours() {
        let all = tags(&["env=staging", "task=review", "x=1"]);
        for hit in ["env=staging", "x=1", "env=staging,task=review"] {
            assert!(all.match_filter(hit), "{hit}");
        }
        for miss in ["env=stag", "nv=staging", "env", "env=staging,x=1", "env=*"] {
            assert!(!all.match_filter(miss), "{miss}");
        }
    }

    #[test]
    fn tags_come_back_from_text() {
        for joined in ["", "a=1", "a=1,b=2", "a=1,b", "a=1,,b=2"] {
            assert_eq!(joined.parse::<Tags>().unwrap().joined(), joined);
        }
        assert!("no".parse::<Tags>().is_err());
        assert_eq!(",a=1".parse::<Tags>().unwrap().joined(), "a=1");
    }
}
