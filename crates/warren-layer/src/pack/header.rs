//! What is written in front of a file's content.

use tar::{EntryType, Header};
use warren_archive::{padding, pax_record};

use crate::attributes::Attributes;

/// The largest size, owner and time of a header's fields: eleven octal digits, seven, eleven.
const MOST_SIZE: u64 = 0o777_7777_7777;
const MOST_OWNER: u32 = 0o777_7777;
/// Bytes of a name.
const NAME: usize = 100;
/// Attributes that mean something elsewhere; others are the host's own.
const XATTRS: [&[u8]; 3] = [b"user.", b"security.capability", b"system.posix_acl_"];

/// An entry's head.
#[derive(Debug)]
pub(super) struct Head<'a> {
    pub(super) kind: EntryType,
    pub(super) path: &'a [u8],
    pub(super) link: &'a [u8],
    pub(super) attributes: &'a Attributes,
    /// Bytes that follow.
    pub(super) size: u64,
    /// Of a sparse file, whose map is in front of its content.
    pub(super) real_size: Option<u64>,
}

impl Head<'_> {
    /// Writes the header, and one before it for what it has no room for.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let records = self.records();
        if !records.is_empty() {
            let mut header = Header::new_ustar();
            fill(&mut header.as_old_mut().name, b"pax");
            header.set_entry_type(EntryType::XHeader);
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(records.len() as u64);
            header.set_cksum();
            out.extend_from_slice(header.as_bytes());
            out.extend_from_slice(&records);
            out.resize(out.len() + padding(records.len() as u64), 0);
        }
        let attributes = self.attributes;
        let (user, group) = attributes.owner;
        let mut header = Header::new_ustar();
        let old = header.as_old_mut();
        fill(&mut old.name, self.path);
        fill(&mut old.linkname, self.link);
        header.set_entry_type(self.kind);
        header.set_mode(attributes.mode);
        header.set_uid(user.min(MOST_OWNER).into());
        header.set_gid(group.min(MOST_OWNER).into());
        let seconds = u64::try_from(attributes.modified.0).unwrap_or_default();
        header.set_mtime(seconds.min(MOST_SIZE));
        header.set_size(self.size.min(MOST_SIZE));
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
    }

    fn records(&self) -> Vec<u8> {
        let mut records = Vec::new();
        let mut add = |key: &[u8], value: &[u8]| records.extend(pax_record(key, value));
        let (seconds, nanoseconds) = self.attributes.modified;
        let (user, group) = self.attributes.owner;
        match self.real_size {
            Some(size) => {
                add(b"GNU.sparse.major", b"1");
                add(b"GNU.sparse.minor", b"0");
                add(b"GNU.sparse.name", self.path);
                add(b"GNU.sparse.realsize", size.to_string().as_bytes());
            }
            None if self.path.len() > NAME => add(b"path", self.path),
            None => {}
        }
        if self.link.len() > NAME {
            add(b"linkpath", self.link);
        }
        if self.size > MOST_SIZE {
            add(b"size", self.size.to_string().as_bytes());
        }
        for (key, id) in [(b"uid", user), (b"gid", group)] {
            if id > MOST_OWNER {
                add(key, id.to_string().as_bytes());
            }
        }
        if nanoseconds != 0 || !(0..=MOST_SIZE.cast_signed()).contains(&seconds) {
            add(b"mtime", time(seconds, nanoseconds).as_bytes());
        }
        for (name, value) in &self.attributes.xattrs {
            let is_wanted = XATTRS.iter().any(|it| name.starts_with(it));
            if is_wanted && !crate::marks::is_overlay_xattr(name) && !name.contains(&b'=') {
                add(&[b"SCHILY.xattr.", name.as_slice()].concat(), value);
            }
        }
        records
    }
}

/// A decimal number of seconds.
fn time(seconds: i64, nanoseconds: u32) -> String {
    let text = match (seconds < 0, nanoseconds) {
        (_, 0) => return seconds.to_string(),
        (false, _) => format!("{seconds}.{nanoseconds:09}"),
        (true, _) => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds),
    };
    text.trim_end_matches('0').to_owned()
}

fn fill(field: &mut [u8], text: &[u8]) {
    field.iter_mut().zip(text).for_each(|(to, from)| *to = *from);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_decimal_numbers() {
        assert_eq!(time(12, 0), "12");
        assert_eq!(time(12, 500_000_000), "12.5");
        assert_eq!(time(12, 7), "12.000000007");
        assert_eq!(time(-2, 750_000_000), "-1.25");
        assert_eq!(time(-1, 500_000_000), "-0.5");
        assert_eq!(time(-3, 0), "-3");
    }
}
