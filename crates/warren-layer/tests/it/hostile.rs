//! What an archive that means harm tries.

use std::fs;
use std::os::unix::fs::symlink;

use proptest::prelude::*;
use tar::EntryType;
use warren_layer::unpack::{Limits, Options, unpack};

use crate::archive::Archive;
use crate::{gzip, is_root, listing, options, unpack_to, zstd};

/// A directory to unpack to, and one beside it to leave alone.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("in")).unwrap();
        fs::create_dir(place.path().join("out")).unwrap();
        fs::write(place.path().join("out/secret"), "secret").unwrap();
        Self(place)
    }

    fn inside(&self) -> std::path::PathBuf {
        self.0.path().join("in")
    }

    #[track_caller]
    fn check_outside(&self) {
        assert_eq!(listing(&self.0.path().join("out")), ["secret 644 secret"]);
        assert_eq!(fs::read_dir(self.0.path()).unwrap().count(), 2);
    }
}

/// The archive is refused with these words, and nothing outside is touched.
#[track_caller]
fn check(archive: Archive, words: &str) {
    check_with(archive, &options(), words);
}

#[track_caller]
fn check_with(archive: Archive, options: &Options, words: &str) {
    let place = Place::new();
    let error = unpack(&*archive.end(), &place.inside(), options).unwrap_err();
    assert!(error.to_string().contains(words), "{error}");
    place.check_outside();
}

fn archive() -> Archive {
    Archive::default()
}

#[test]
fn names_do_not_lead_out() {
    check(archive().file("../out/secret", "x"), "its name has `..` in it");
    check(archive().file("a/../../out/secret", "x"), "its name has `..` in it");
    check(archive().file("../out/.wh.secret", ""), "its name has `..` in it");
    check(archive().file(".wh...", ""), "it removes no name");
    check(archive().file(".wh..", ""), "it removes no name");
    check(archive().file(".wh.", ""), "it removes no name");
    check(archive().file(".", "x"), "it has no name");
    check(archive().symlink("./", "/etc"), "it has no name");
    check(archive().hard_link("h", "../out/secret"), "its name has `..` in it");
    let place = Place::new();
    unpack_to(&archive().file("/etc/name", "x").end(), &place.inside()).unwrap();
    assert_eq!(listing(&place.inside()), ["etc 755 directory", "etc/name 644 x"]);
}

#[test]
fn links_lead_to_places_inside_alone() {
    let place = Place::new();
    let out = place.0.path().join("out").to_str().unwrap().to_owned();
    let nowhere = "a link on its way leads nowhere";
    check(archive().symlink("l", "l").file("l/new", ""), nowhere);
    check(archive().symlink("l", "/proc/self/cwd").file("l/new", ""), "is no directory");
    check(archive().symlink("l", &out).file("l/secret", ""), "is no directory");
    check(archive().symlink("l", "../out").hard_link("h", "l/secret"), "not in the layer");
    check(archive().symlink("l", &out).file("l/.wh.secret", ""), "is no directory");
    // Up from the root is the root.
    let inner = archive().directory("out").symlink("l", "../../out").file("l/secret", "new");
    unpack_to(&inner.end(), &place.inside()).unwrap();
    assert_eq!(fs::read(place.inside().join("out/secret")).unwrap(), b"new");
    place.check_outside();
}

#[test]
fn links_that_were_there_lead_out_as_little() {
    let place = Place::new();
    symlink("../out", place.inside().join("old")).unwrap();
    let error = unpack_to(&archive().file("old/secret", "").end(), &place.inside()).unwrap_err();
    assert!(error.to_string().contains("is no directory"), "{error}");
    place.check_outside();
}

#[test]
fn what_replaces_a_link_is_not_written_through_it() {
    let place = Place::new();
    let secret = place.0.path().join("out/secret");
    let replaced = archive().symlink("l", secret.to_str().unwrap()).file("l", "mine");
    let linked = replaced.symlink("s", "../out/secret").hard_link("h", "s").file("h", "mine");
    let directory = linked.symlink("d", "../out").directory("d").file("d/secret", "mine");
    unpack_to(&directory.end(), &place.inside()).unwrap();
    place.check_outside();
    let expected = [
        "d 755 directory",
        "d/secret 644 mine",
        "h 644 mine",
        "l 644 mine",
        "s 777 -> ../out/secret",
    ];
    assert_eq!(listing(&place.inside()), expected);
}

#[test]
fn devices_are_skipped_and_counted() {
    let place = Place::new();
    let layer = [EntryType::Char, EntryType::Block, EntryType::new(b'V')]
        .into_iter()
        .fold(archive(), |archive, kind| archive.entry(kind, "device", "", b""));
    let done = unpack_to(&layer.entry(EntryType::Fifo, "p", "", b"").end(), &place.inside());
    let counts = done.unwrap().counts;
    assert_eq!((counts.entries, counts.skipped), (4, 3));
    assert_eq!(listing(&place.inside()), ["p 644 pipe"]);
}

#[test]
fn marks_are_not_smuggled_in() {
    let xattr = |name: &str| archive().pax(&[(&format!("SCHILY.xattr.{name}"), "y")]);
    let refused = "an extended attribute that is the host's";
    for name in ["trusted.overlay.opaque", "trusted.x", "user.overlay.opaque", "user.overlay.x"] {
        check(xattr(name).directory("d"), refused);
        check(xattr(name).file("f", ""), refused);
        check(xattr(name).symlink("l", "x"), refused);
    }
    let place = Place::new();
    let layer = xattr("security.selinux").file("f", "").end();
    assert_eq!(unpack_to(&layer, &place.inside()).unwrap().counts.skipped_xattrs, 1);
}

#[test]
fn hard_links_lead_to_files_of_the_layer() {
    let missing = "not in the layer";
    check(archive().hard_link("h", "no/such"), missing);
    check(archive().hard_link("h", "/etc/passwd"), missing);
    check(archive().hard_link("h", ""), missing);
    check(archive().file(".wh.f", "").hard_link("h", "f"), missing);
    check(archive().directory("d").hard_link("h", "d"), "hard link to a directory");
    let place = Place::new();
    let twice = archive().file("f", "x").hard_link("f", "f").hard_link("d/g", "/f");
    unpack_to(&twice.end(), &place.inside()).unwrap();
    assert_eq!(listing(&place.inside()), ["d 755 directory", "d/g 644 x", "f 644 x"]);
}

#[test]
fn sizes_are_bounded() {
    let limits = |limits: Limits| Options { limits, ..options() };
    let small = Limits { bytes: 4096, ..Limits::default() };
    let big = || archive().file("f", &"x".repeat(10_000));
    check_with(big(), &limits(small), "more than 4096 bytes");
    let small = Limits { file_bytes: 9999, ..Limits::default() };
    check_with(big(), &limits(small), "more than 9999 bytes in a file");
    let small = Limits { entries: 3, ..Limits::default() };
    check_with((0..4).fold(archive(), |it, _| it.file("f", "")), &limits(small), "than 3 entries");
    let small = Limits { depth: 3, ..Limits::default() };
    check_with(archive().file("a/b/c/d", ""), &limits(small), "than 3 directories above");
    let small = Limits { path_bytes: 9, ..Limits::default() };
    check_with(archive().file("long/name1", ""), &limits(small), "more than 9 bytes in a name");
    check(archive().pax(&[("path", &"x".repeat(5000))]).file("f", ""), "too long");
    check(archive().pax(&[("path", &"x".repeat(300))]).file("f", ""), "File name too long");
    check(archive().pax(&[("path", "a\0b")]).file("f", ""), "zero byte");
    check(archive().pax(&[("uid", "4294967295")]).file("f", ""), "its owner is out of range");
    check(archive().pax(&[("size", "x")]).file("f", ""), "no number");
}

#[test]
fn bombs_end_at_the_limit() {
    let inner = archive().file("f", &"\0".repeat(40 << 20)).end();
    let limits = Limits { bytes: 1 << 20, ..Limits::default() };
    let options = Options { limits, ..options() };
    for bomb in [gzip(&inner), zstd(&inner)] {
        assert!(bomb.len() < 1 << 20);
        let place = Place::new();
        let error = unpack(&*bomb, &place.inside(), &options).unwrap_err();
        assert!(error.to_string().contains("more than 1048576 bytes"), "{error}");
    }
    // Behind the end of the archive is more of it.
    let mut endless = archive().end();
    endless.resize(40 << 20, 0);
    let place = Place::new();
    let error = unpack(&*gzip(&endless), &place.inside(), &options).unwrap_err();
    assert!(error.to_string().contains("more than 1048576 bytes"), "{error}");
}

#[test]
fn maps_of_holes_are_checked() {
    let sparse = |map: &str, size: &str, content: &str| {
        archive().pax(&[("GNU.sparse.map", map), ("GNU.sparse.size", size)]).file("f", content)
    };
    let wrong = "the map of its holes is wrong";
    check(sparse("0,3", "2", "abc"), wrong);
    check(sparse("0,3,2,1", "10", "abcd"), wrong);
    check(sparse("0,3", "10", "abcd"), wrong);
    check(sparse("0,3,5", "10", "abc"), wrong);
    check(sparse("18446744073709551615,3", "10", "abc"), wrong);
    check(sparse("0,x", "10", "abc"), "damaged");
    check(sparse("0,3", "18446744073709551615", "abc"), wrong);
    let limits = Limits { file_bytes: 1 << 20, ..Limits::default() };
    let options = Options { limits, ..options() };
    check_with(sparse("0,3", "1048577", "abc"), &options, "bytes in a file");
    let in_front = |content: &str| {
        let said = [("GNU.sparse.major", "1"), ("GNU.sparse.realsize", "9")];
        archive().pax(&said).file("f", content)
    };
    check(in_front("1\n0\n99\n"), "damaged");
    check(in_front(&format!("x{}", " ".repeat(511))), "damaged");
    check(in_front(&format!("99999999{}", "\n".repeat(504))), "pieces");
    check(in_front(&"1".repeat(512)), "damaged");
}

#[test]
fn nothing_is_made_of_what_is_no_layer() {
    let place = Place::new();
    let xz = b"\xfd7zXZ\0\0\0\0\0";
    for (bytes, words) in [
        (&b""[..], "ends too early"),
        (b"x", "ends too early"),
        (&[b'x'; 512], "no tar archive"),
        (&gzip(b"hello"), "ends too early"),
        (&[0x1f, 0x8b, 0], "could not decompress"),
        (xz, "compressed with xz"),
    ] {
        let error = unpack_to(bytes, &place.inside()).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    assert_eq!(listing(&place.inside()).len(), 0);
    let gone = place.inside().join("no");
    assert!(unpack_to(&archive().end(), &gone).unwrap_err().to_string().contains("directory"));
}

#[test]
fn a_layer_that_breaks_off_is_seen() {
    let layer = archive().file("a", "one").directory("d").end();
    let whole = gzip(&layer);
    for length in 0..whole.len() {
        let place = Place::new();
        assert!(unpack_to(whole.get(..length).unwrap(), &place.inside()).is_err(), "{length}");
    }
    // Without the two blocks at its end it is whole, in the middle of an entry it is not.
    let place = Place::new();
    let content = layer.len() - 1024;
    for (length, is_whole) in [(content, true), (1024, true), (1000, false), (513, false)] {
        let result = unpack_to(layer.get(..length).unwrap(), &place.inside());
        assert_eq!(result.is_ok(), is_whole, "{length}");
    }
}

#[test]
fn a_source_that_fails_is_not_called_broken() {
    struct Failing;
    impl std::io::Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::new(std::io::ErrorKind::ConnectionReset, "the peer left"))
        }
    }
    use std::io::Read as _;
    for start in [&b""[..], &gzip(&archive().file("a", "x").end())[..20]] {
        let place = Place::new();
        let error = unpack(start.chain(Failing), &place.inside(), &options()).unwrap_err();
        assert_eq!(error.to_string(), "could not read the layer: the peer left");
    }
}

/// An archive of random entries that are likely to meddle with each other.
fn meddle(steps: &[(u8, u8, u8)]) -> Vec<u8> {
    const NAMES: [&str; 14] = [
        "a",
        "b",
        "a/b",
        "b/a",
        "a/b/c",
        "..",
        "../out",
        "a/.wh.b",
        ".wh.a",
        "a/.wh..wh..opq",
        "../out/secret",
        "/out/secret",
        "/tmp",
        ".",
    ];
    let pick = |index: u8| NAMES.into_iter().cycle().nth(index.into()).unwrap();
    let step = |archive: Archive, (kind, name, link): &(u8, u8, u8)| match kind % 4 {
        0 => archive.file(pick(*name), "mine"),
        1 => archive.symlink(pick(*name), pick(*link)),
        2 => archive.hard_link(pick(*name), pick(*link)),
        _ => archive.directory(pick(*name)),
    };
    steps.iter().fold(archive(), step).end()
}

proptest! {
    #[test]
    fn no_order_of_entries_leads_out(
        archives in prop::collection::vec(prop::collection::vec(any::<(u8, u8, u8)>(), 0..6), 1..8),
    ) {
        let place = Place::new();
        for steps in archives {
            drop(unpack_to(&meddle(&steps), &place.inside()));
        }
        place.check_outside();
    }

    #[test]
    fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let place = Place::new();
        drop(unpack_to(&bytes, &place.inside()));
        place.check_outside();
    }
}

#[test]
fn only_root_is_asked_for_owners() {
    if !is_root() {
        return;
    }
    use std::os::unix::fs::MetadataExt as _;
    let layer = archive().pax(&[("uid", "1000"), ("gid", "70000")]).file("f", "").end();
    for (ignore_owners, expected) in [(false, (1000, 70000)), (true, (0, 0))] {
        let place = Place::new();
        let options = Options { ignore_owners, ..options() };
        unpack(&*layer, &place.inside(), &options).unwrap();
        let metadata = fs::metadata(place.inside().join("f")).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), expected);
    }
}
