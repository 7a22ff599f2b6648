//! The blocks of an archive, as they are written and read.

use tar::{EntryType, Header};

/// Everything in an archive comes in blocks of so many bytes.
pub const BLOCK: usize = 512;
/// Bytes of a name or of a link's target: the kernel's own limit, with the final zero.
pub const NAME_BYTES: usize = 4096;
/// The name that GNU tar gives to its entries for long names.
const LONG_NAME: &[u8] = b"././@LongLink";
/// The keyword under which a [`crate::Packer`] says why it gives up.
pub(crate) const ERROR_KEY: &[u8] = b"WARREN.error";

/// What is written of one entry.
#[derive(Debug)]
pub(crate) struct Head<'a> {
    pub(crate) kind: EntryType,
    pub(crate) name: &'a [u8],
    pub(crate) link: &'a [u8],
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) modified_seconds: i64,
    pub(crate) size: u64,
}

/// Writes an entry's blocks, with those for a long name or target before them.
pub(crate) fn write_head(out: &mut Vec<u8>, head: &Head<'_>) {
    let mut header = Header::new_gnu();
    for (text, kind) in [(head.link, EntryType::GNULongLink), (head.name, EntryType::GNULongName)] {
        if text.len() > 100 {
            write_long(out, kind, text);
        }
    }
    let old = header.as_old_mut();
    fill(&mut old.name, head.name);
    fill(&mut old.linkname, head.link);
    header.set_entry_type(head.kind);
    header.set_mode(head.mode & 0o7777);
    header.set_uid(head.owner.0.into());
    header.set_gid(head.owner.1.into());
    header.set_mtime(u64::try_from(head.modified_seconds).unwrap_or_default());
    header.set_size(head.size);
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
}

fn write_long(out: &mut Vec<u8>, kind: EntryType, text: &[u8]) {
    let mut header = Header::new_gnu();
    fill(&mut header.as_old_mut().name, LONG_NAME);
    header.set_entry_type(kind);
    header.set_size(text.len() as u64 + 1);
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(text);
    out.push(0);
    pad(out, text.len() as u64 + 1);
}

/// Says why the archive is not whole, and breaks it off in the middle of an entry, so that nobody
/// takes it for a whole one.
pub(crate) fn write_failure(out: &mut Vec<u8>, reason: &str) {
    let record = pax_record(ERROR_KEY, reason.as_bytes());
    let mut header = Header::new_ustar();
    fill(&mut header.as_old_mut().name, b"failure");
    header.set_entry_type(EntryType::XGlobalHeader);
    header.set_size(record.len() as u64);
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(&record);
    pad(out, record.len() as u64);
    let kind = EntryType::Regular;
    let cut = Head {
        kind,
        name: b"failure",
        link: b"",
        mode: 0,
        owner: (0, 0),
        modified_seconds: 0,
        size: 1,
    };
    write_head(out, &cut);
}

/// The two empty blocks behind the last entry.
pub(crate) fn write_end(out: &mut Vec<u8>) {
    out.resize(out.len() + 2 * BLOCK, 0);
}

/// Fills an entry's last block up.
pub(crate) fn pad(out: &mut Vec<u8>, size: u64) {
    out.resize(out.len() + padding(size), 0);
}

/// Bytes between an entry's content and the next block.
#[must_use]
pub fn padding(size: u64) -> usize {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or_default();
    (BLOCK - over) % BLOCK
}

fn fill(field: &mut [u8], text: &[u8]) {
    for (to, from) in field.iter_mut().zip(text) {
        *to = *from;
    }
}

/// One record of a PAX header: its length counts itself.
#[must_use]
pub fn pax_record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    let mut record = format!("{length} ").into_bytes();
    record.extend_from_slice(key);
    record.push(b'=');
    record.extend_from_slice(value);
    record.push(b'\n');
    record
}

/// A key and a value.
pub(crate) type Record<'a> = (&'a [u8], &'a [u8]);

/// Keys and values of a PAX header; `None` where it is damaged.
///
/// # Source
///
/// POSIX.1-2024, pax, "pax Extended Header": `LENGTH KEY=VALUE\n`, the length of the whole record.
pub(crate) fn pax_records(mut bytes: &[u8]) -> Option<Vec<Record<'_>>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let space = bytes.iter().take(20).position(|it| *it == b' ')?;
        let length: usize = std::str::from_utf8(bytes.get(..space)?).ok()?.parse().ok()?;
        let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|it| *it == b'=')?;
        records.push((record.get(..equals)?, record.get(equals + 1..)?));
        bytes = bytes.get(length..)?;
    }
    Some(records)
}

/// Whether a block is a header as it was written.
pub(crate) fn checksum_holds(header: &Header) -> bool {
    let (mut plain, mut signed) = (0_i64, 0_i64);
    for (index, byte) in header.as_bytes().iter().enumerate() {
        let byte = if (148..156).contains(&index) { b' ' } else { *byte }; // the sum's own field
        plain += i64::from(byte);
        signed += i64::from(byte.cast_signed()); // as some very old programs do
    }
    header.cksum().is_ok_and(|it| [plain, signed].contains(&i64::from(it)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_records_length_counts_itself() {
        assert_eq!(pax_record(b"a", b"b"), b"6 a=b\n");
        assert_eq!(pax_record(b"path", b"x".repeat(90).as_slice()).len(), 99);
        for size in 80..130 {
            let value = vec![b'x'; size];
            let record = pax_record(b"key", &value);
            assert_eq!(pax_records(&record), Some(vec![(&b"key"[..], &value[..])]), "{size}");
        }
    }

    #[test]
    fn damaged_records_are_seen() {
        for bad in [
            &b"x"[..],
            b"5 a=b\n",
            b"7 a=b\n",
            b"6 a=b ",
            b"0 a=b\n",
            b"2 \n",
            b"99999999999999999999 a=b\n",
            b"18446744073709551615 a=b\n",
        ] {
            assert_eq!(pax_records(bad), None, "{bad:?}");
        }
        assert_eq!(pax_records(b""), Some(vec![]));
    }

    #[test]
    fn content_fills_whole_blocks() {
        assert_eq!((padding(0), padding(1), padding(512), padding(513)), (0, 511, 0, 511));
    }
}
