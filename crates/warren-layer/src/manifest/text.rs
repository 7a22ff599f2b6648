//! A manifest as a file: a line per entry, fields between spaces, and a last line that proves that
//! all others are there.
//!
//! ```text
//! warren-manifest 1
//! PATH KIND MODE UID:GID SIZE SECONDS.NANOSECONDS DIGEST LINK INODE:SECONDS.NANOSECONDS NAME=HEX...
//! end sha256:...
//! ```
//!
//! What is not there is `-`. In paths and links, bytes that are no visible ASCII, and `%`, are
//! written as `%` and two digits, so that fields have no spaces; the layer itself is `.`.

use super::{Entry, Manifest, ManifestError};
use crate::digest::Digest;
use crate::node::{Kind, Moment, Stamp};

const FIRST: &str = "warren-manifest 1";

pub(super) fn write(manifest: &Manifest) -> Vec<u8> {
    let mut text = format!("{FIRST}\n");
    for (path, entry) in &manifest.entries {
        let path = if path.is_empty() { ".".to_owned() } else { escape(path) };
        let (mode, owner, size) = (entry.mode, entry.owner, entry.size);
        let (seconds, nanoseconds) = entry.modified;
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let digest = or_dash(entry.digest.map(|it| it.hex()));
        let link = or_dash(entry.link.as_deref().map(|it| format!("={}", escape(it))));
        let source = or_dash(entry.source.map(|it| {
            let Moment { seconds, nanoseconds } = it.changed;
            format!("{}:{seconds}.{nanoseconds}", it.inode)
        }));
        let kind = kind(entry.kind);
        text.push_str(&format!(
            "{path} {kind} {mode:o} {}:{} {size} {seconds}.{nanoseconds} {digest} {link} {source}",
            owner.0, owner.1
        ));
        for (name, value) in &entry.xattrs {
            text.push_str(&format!(" {}={}", escape(name).replace('=', "%3d"), hex(value)));
        }
        text.push('\n');
    }
    let digest = Digest::of(text.as_bytes());
    text.push_str(&format!("end {digest}\n"));
    text.into_bytes()
}

pub(super) fn read(text: &[u8]) -> Result<Manifest, ManifestError> {
    let damaged = |line, expected| ManifestError::Damaged { line, expected };
    let lines = text.iter().filter(|it| **it == b'\n').count();
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let last = body.iter().rposition(|it| *it == b'\n').map_or(0, |at| at + 1);
    let (body, end) = text.split_at(last);
    let end = std::str::from_utf8(end).ok().and_then(|it| it.strip_prefix("end "));
    let digest = end.and_then(|it| it.trim_end().parse::<Digest>().ok());
    let digest = digest.ok_or_else(|| damaged(lines, "a last line with a digest"))?;
    if digest != Digest::of(body) {
        return Err(damaged(lines, "the digest of the lines before"));
    }
    let body = std::str::from_utf8(body).map_err(|_text| damaged(1, "text"))?;
    let mut lines = body.lines().enumerate();
    if lines.next().is_none_or(|it| it.1 != FIRST) {
        return Err(damaged(1, FIRST));
    }
    let mut manifest = Manifest::default();
    for (number, line) in lines {
        let entry = parse(line).ok_or_else(|| damaged(number + 1, "an entry of a manifest"))?;
        manifest.entries.insert(entry.0, entry.1);
    }
    Ok(manifest)
}

fn parse(line: &str) -> Option<(Vec<u8>, Entry)> {
    let mut fields = line.split(' ');
    let mut next = || fields.next();
    let path = match next()? {
        "." => Vec::new(),
        path => unescape(path)?,
    };
    let kind = kind_of(next()?)?;
    let mode = u32::from_str_radix(next()?, 8).ok()?;
    let (user, group) = next()?.split_once(':')?;
    let owner = (user.parse().ok()?, group.parse().ok()?);
    let size = next()?.parse().ok()?;
    let modified = time(next()?)?;
    let digest = match next()? {
        "-" => None,
        hex => Some(format!("sha256:{hex}").parse().ok()?),
    };
    let link = match next()? {
        "-" => None,
        link => Some(unescape(link.strip_prefix('=')?)?),
    };
    let source = match next()? {
        "-" => None,
        source => {
            let (inode, changed) = source.split_once(':')?;
            let (seconds, nanoseconds) = time(changed)?;
            let changed = Moment { seconds, nanoseconds };
            Some(Stamp { inode: inode.parse().ok()?, changed, size })
        }
    };
    let mut xattrs = Vec::new();
    for field in fields {
        let (name, value) = field.split_once('=')?;
        xattrs.push((unescape(name)?, unhex(value)?));
    }
    Some((path, Entry { kind, mode, owner, size, modified, digest, link, xattrs, source }))
}

fn time(text: &str) -> Option<(i64, u32)> {
    let (seconds, nanoseconds) = text.split_once('.')?;
    Some((seconds.parse().ok()?, nanoseconds.parse().ok()?))
}

fn kind(kind: Kind) -> String {
    match kind {
        Kind::Device { is_block, major, minor } => {
            format!("{}:{major}:{minor}", if is_block { "block" } else { "character" })
        }
        kind => kind.name().to_owned(),
    }
}

fn kind_of(text: &str) -> Option<Kind> {
    let plain =
        [Kind::File, Kind::Directory, Kind::Symlink, Kind::Pipe, Kind::Socket, Kind::Whiteout];
    if let Some(kind) = plain.into_iter().find(|it| it.name() == text) {
        return Some(kind);
    }
    let mut parts = text.split(':');
    let is_block = match parts.next()? {
        "block" => true,
        "character" => false,
        _ => return None,
    };
    let (major, minor) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some(Kind::Device { is_block, major, minor })
}

fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'%' => text.push_str("%25"),
            byte if byte.is_ascii_graphic() => text.push(char::from(*byte)),
            byte => text.push_str(&format!("%{byte:02x}")),
        }
    }
    // The layer itself.
    if text == "." { "%2e".to_owned() } else { text }
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, others @ ..] = rest {
        rest = others;
        if *first == b'%' {
            let (digits, others) = others.split_at_checked(2)?;
            rest = others;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        } else {
            bytes.push(*first);
        }
    }
    Some(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|it| format!("{it:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pair = |it: &[u8]| u8::from_str_radix(std::str::from_utf8(it).ok()?, 16).ok();
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Manifest {
        let mut manifest = Manifest::default();
        let mut entry = Entry {
            kind: Kind::File,
            mode: 0o4755,
            owner: (0, 1000),
            size: 3,
            modified: (-5, 7),
            digest: Some(Digest::of(b"abc")),
            link: None,
            xattrs: vec![(b"user.a=b".to_vec(), b"\0\xff".to_vec())],
            source: None,
        };
        let changed = Moment { seconds: 12, nanoseconds: 5 };
        entry.source = Some(Stamp { inode: 77, changed, size: 3 });
        manifest.entries.insert(b"a dir/\xff%\n".to_vec(), entry.clone());
        let plain = Entry { digest: None, xattrs: Vec::new(), source: None, ..entry };
        for (path, kind) in [
            (&b""[..], Kind::Directory),
            (b"c", Kind::Device { is_block: false, major: 1, minor: 3 }),
            (b"w", Kind::Whiteout),
        ] {
            manifest.entries.insert(path.to_vec(), Entry { kind, ..plain.clone() });
        }
        let link = Some(b"- x".to_vec());
        manifest.entries.insert(b"l".to_vec(), Entry { kind: Kind::Symlink, link, ..plain });
        manifest
    }

    #[test]
    fn what_is_written_is_read() {
        let manifest = example();
        assert_eq!(read(&write(&manifest)).unwrap(), manifest);
        assert_eq!(read(&write(&Manifest::default())).unwrap(), Manifest::default());
    }

    #[test]
    fn every_damage_is_seen() {
        let text = write(&example());
        for length in 0..text.len() - 1 {
            assert!(read(&text[..length]).is_err(), "{length}");
        }
        for at in 0..text.len() - 1 {
            let mut text = text.clone();
            text[at] ^= 1;
            assert!(read(&text).is_err(), "{at}");
        }
    }
}
