//! What archives try, and what is left of it.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::{any, prop, proptest};
use tar::{EntryType, Header};
use warren_archive::{Limits, UnpackError, Unpacker};

use crate::{gzip, listing, unpack, unpack_in};

/// A directory to unpack into, beside one that must stay as it is.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("in")).unwrap();
        fs::create_dir(folder.path().join("out")).unwrap();
        fs::write(folder.path().join("out/secret"), "secret").unwrap();
        Self { folder }
    }

    fn inside(&self) -> PathBuf {
        self.folder.path().join("in")
    }

    fn outside(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    #[track_caller]
    fn check_outside(&self) {
        let found = listing(&self.outside());
        let names: Vec<_> = found.iter().map(|it| (it.0.to_str().unwrap(), &*it.2)).collect();
        assert_eq!(names, [("secret", &b"secret"[..])]);
        let secret = fs::metadata(self.outside().join("secret")).unwrap();
        assert_eq!((secret.nlink(), secret.mode() & 0o7777), (1, 0o644));
        assert_eq!(fs::read_dir(self.folder.path()).unwrap().count(), 2);
    }
}

/// An archive under construction: nothing is checked.
#[derive(Default)]
struct Archive(Vec<u8>);

impl Archive {
    fn entry(mut self, kind: EntryType, name: &str, link: &str, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        let old = header.as_old_mut();
        for (text, field) in [(name, &mut old.name), (link, &mut old.linkname)] {
            field.iter_mut().zip(text.as_bytes()).for_each(|(to, from)| *to = *from);
        }
        header.set_entry_type(kind);
        header.set_mode(0o6777);
        header.set_mtime(1);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str) -> Self {
        self.entry(EntryType::Regular, name, "", b"hostile")
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, name, target, b"")
    }

    fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Link, name, target, b"")
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// The archive is refused with these words, and nothing outside is touched.
#[track_caller]
fn check(archive: Archive, words: &str) {
    let place = Place::new();
    let error = unpack(&archive.end(), &place.inside()).unwrap_err();
    assert!(error.to_string().contains(words), "{error}");
    place.check_outside();
}

#[test]
fn names_do_not_lead_out() {
    let archive = Archive::default;
    check(archive().file("../out/secret"), "its name has `..` in it");
    check(archive().file("a/../../out/secret"), "its name has `..` in it");
    check(archive().entry(EntryType::Directory, "..", "", b""), "its name has `..` in it");
    check(archive().file("/etc/hostile"), "its name is absolute");
    check(archive().file("."), "it has no name");
    check(archive().symlink("./", "/etc"), "it has no name");
}

#[test]
fn links_do_not_lead_out() {
    let place = Place::new();
    let out = place.outside().to_str().unwrap().to_owned();
    let through = "a link on its way leads out";
    let archive = Archive::default;
    check(archive().symlink("l", "../out").file("l/secret"), through);
    check(archive().symlink("l", &out).file("l/new"), through);
    check(archive().symlink("l", &out).entry(EntryType::Directory, "l", "", b""), through);
    check(archive().symlink("a", ".").symlink("a/b", "..").file("b/out/secret"), through);
    check(archive().symlink("l", "../out").hard_link("h", "l/secret"), through);
    check(archive().symlink("l", "/proc/self/cwd").file("l/new"), through);
    check(archive().symlink("l", "l").file("l/new"), "leads nowhere");
    check(archive().hard_link("h", "../out/secret"), "its name has `..` in it");
    check(archive().hard_link("h", "/etc/passwd"), "its name is absolute");
    check(archive().hard_link("h", "no/such"), "could not");
    check(archive().symlink("l", ""), "its target is no path");
}

#[test]
fn a_file_replaces_a_link_and_is_not_written_through_it() {
    let place = Place::new();
    let secret = place.outside().join("secret");
    let archive = Archive::default().symlink("l", secret.to_str().unwrap()).file("l").end();
    unpack(&archive, &place.inside()).unwrap();
    assert!(place.inside().join("l").symlink_metadata().unwrap().is_file());
    // A second name of the link is the link's, and not the secret's.
    let archive = Archive::default()
        .symlink("s", secret.to_str().unwrap())
        .hard_link("h", "s")
        .file("h")
        .end();
    unpack(&archive, &place.inside()).unwrap();
    place.check_outside();
}

#[test]
fn links_on_the_disk_lead_out_as_little() {
    let place = Place::new();
    symlink("../out", place.inside().join("old")).unwrap();
    symlink("kept", place.inside().join("near")).unwrap();
    fs::create_dir(place.inside().join("kept")).unwrap();
    let error = unpack(&Archive::default().file("old/secret").end(), &place.inside()).unwrap_err();
    assert!(matches!(error, UnpackError::Refused { .. }), "{error}");
    unpack(&Archive::default().file("near/new").end(), &place.inside()).unwrap();
    assert!(place.inside().join("kept/new").exists(), "links that stay below are followed");
    place.check_outside();
}

#[test]
fn devices_are_skipped_and_bits_are_dropped() {
    let place = Place::new();
    let archive = [EntryType::Char, EntryType::Block, EntryType::Fifo, EntryType::new(b'V')]
        .into_iter()
        .fold(Archive::default(), |archive, kind| archive.entry(kind, "device", "", b""))
        .file("f")
        .entry(EntryType::Directory, "d", "", b"");
    let done = unpack(&archive.end(), &place.inside()).unwrap();
    assert_eq!((done.entries, done.skipped), (2, 4));
    let mode = |name: &str| fs::metadata(place.inside().join(name)).unwrap().permissions().mode();
    assert_eq!((mode("f") & 0o7777, mode("d") & 0o7777), (0o777, 0o777));
    assert_eq!(listing(&place.inside()).len(), 2);
}

#[test]
fn sizes_are_bounded() {
    let archive = Archive::default;
    let long = "x".repeat(5000);
    let name = |kind, text: &str| archive().entry(kind, "long", "", text.as_bytes());
    check(name(EntryType::GNULongName, &long).file("f"), "a name or a header of 5000 bytes");
    let pax = |key: &str, value: &str| {
        let rest = key.len() + value.len() + 3;
        let length = rest + (rest + 4).to_string().len();
        name(EntryType::XHeader, &format!("{length} {key}={value}\n")).file("f")
    };
    check(pax("path", &long), "too long");
    check(pax("path", "a\0b"), "zero byte");
    check(pax("size", "x"), "no number");
    check(pax("GNU.sparse.major", "1"), "sparse");
    check(archive().entry(EntryType::GNUSparse, "s", "", b""), "sparse");
    check(name(EntryType::XHeader, &"y".repeat(2 << 20)), "a name or a header of");
    check(name(EntryType::GNULongName, &"n".repeat(300)).file("f"), "File name too long");
    check((0..1001).fold(archive(), |it, _| it.file("f")), "more than 1000 entries");
}

#[test]
fn nothing_is_said_of_an_archive_that_is_none() {
    let place = Place::new();
    for bytes in [&b"x"[..], &[b'x'; 512], &[0xff; 2048], &gzip(b"hello"), &[0x1f, 0x8b, 0]] {
        let error = unpack(bytes, &place.inside()).unwrap_err().to_string();
        assert!(error.starts_with("the archive is broken"), "{error}");
    }
    assert!(matches!(unpack(b"", &place.inside()), Err(UnpackError::Truncated)));
    assert_eq!(listing(&place.inside()).len(), 0);
}

#[test]
fn an_archive_that_breaks_off_leaves_whole_files() {
    let archive = Archive::default().file("a").file("b").end();
    for length in (0..archive.len() - 1023).step_by(37) {
        let place = Place::new();
        let cut = archive.get(..length).unwrap();
        assert!(matches!(unpack(cut, &place.inside()), Err(UnpackError::Truncated)), "{length}");
        for (name, _, content) in listing(&place.inside()) {
            assert_eq!(content, b"hostile", "{length}: {}", name.display());
        }
    }
}

#[test]
fn a_read_only_directory_is_filled_all_the_same() {
    let place = Place::new();
    let mut archive = Archive::default().entry(EntryType::Directory, "d", "", b"").0;
    let mut header = Header::from_byte_slice(archive.get(..512).unwrap()).clone();
    header.set_mode(0o500);
    header.set_cksum();
    archive.splice(..512, header.as_bytes().iter().copied());
    unpack(&Archive(archive).file("d/f").end(), &place.inside()).unwrap();
    let directory = fs::metadata(place.inside().join("d")).unwrap();
    assert_eq!((directory.mode() & 0o777, directory.mtime()), (0o500, 1));
}

/// An archive of random entries that are likely to meddle with each other.
fn meddle(steps: &[(u8, u8, u8)]) -> Vec<u8> {
    const NAMES: [&str; 12] = [
        "a",
        "b",
        "a/b",
        "b/a",
        "a/b/c",
        "..",
        "../out",
        "./a",
        "../out/secret",
        "a/..",
        "/tmp",
        ".",
    ];
    let pick = |index: u8| NAMES.into_iter().cycle().nth(index.into()).unwrap();
    let step = |archive: Archive, (kind, name, link): &(u8, u8, u8)| match kind % 4 {
        0 => archive.file(pick(*name)),
        1 => archive.symlink(pick(*name), pick(*link)),
        2 => archive.hard_link(pick(*name), pick(*link)),
        _ => archive.entry(EntryType::Directory, pick(*name), "", b""),
    };
    steps.iter().fold(Archive::default(), step).end()
}

proptest! {
    #[test]
    fn no_order_of_entries_leads_out(
        archives in prop::collection::vec(prop::collection::vec(any::<(u8, u8, u8)>(), 0..6), 1..12),
    ) {
        let place = Place::new();
        for steps in archives {
            drop(unpack(&meddle(&steps), &place.inside()));
        }
        place.check_outside();
    }

    #[test]
    fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..2000), size in 1..600_usize) {
        let place = Place::new();
        drop(unpack_in(&bytes, &place.inside(), size));
        place.check_outside();
    }
}

#[test]
fn a_bomb_is_taken_in_small_steps() {
    let place = Place::new();
    let mut archive =
        Archive::default().entry(EntryType::Regular, "f", "", &vec![0; 50 << 20]).end();
    archive.resize(archive.len() + (50 << 20), 0);
    let packed = gzip(&archive);
    assert!(packed.len() < 1 << 20);
    let target = File::open(place.inside()).unwrap().into();
    let mut unpacker = Unpacker::new(target, false, Limits::default());
    unpacker.push(&packed).unwrap();
    assert_eq!(unpacker.finish().unwrap().bytes, 50 << 20);
    assert_eq!(size_of(&place.inside().join("f")), 50 << 20);
}

fn size_of(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}
