//! What becomes of a layer that means well.

use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use tar::EntryType;
use warren_layer::Digest;
use warren_layer::unpack::{Compression, Options, unpack};

use crate::archive::Archive;
use crate::{gzip, is_root, listing, options, unpack_to, zstd};

fn archive() -> Archive {
    Archive::default()
}

#[test]
fn a_layer_is_unpacked_and_its_digests_are_known() {
    let plain = archive()
        .directory("./")
        .directory("etc/")
        .file("etc/name", "one")
        .symlink("etc/link", "/etc/name")
        .hard_link("other", "etc/name")
        .with(EntryType::Regular, "su", "", b"x", |it| it.set_mode(0o4755))
        .end();
    let mut members = gzip(plain.get(..1000).unwrap());
    members.extend(gzip(plain.get(1000..).unwrap()));
    for (bytes, compression) in [
        (plain.clone(), Compression::None),
        (gzip(&plain), Compression::Gzip),
        (members, Compression::Gzip),
        (zstd(&plain), Compression::Zstd),
    ] {
        let place = tempfile::tempdir().unwrap();
        let done = unpack_to(&bytes, place.path()).unwrap();
        let expected = [
            "etc 755 directory",
            "etc/link 777 -> /etc/name",
            "etc/name 644 one",
            "other 644 one",
            "su 4755 x",
        ];
        assert_eq!(listing(place.path()), expected);
        assert_eq!(done.compression, compression);
        assert_eq!((done.digest, done.diff_id), (Digest::of(&bytes), Digest::of(&plain)));
        assert_eq!((done.compressed_bytes, done.bytes), (bytes.len() as u64, plain.len() as u64));
        assert_eq!((done.counts.entries, done.counts.implicit_directories), (6, 0));
        let inode = |name: &str| fs::metadata(place.path().join(name)).unwrap().ino();
        assert_eq!(inode("other"), inode("etc/name"));
        let time = |name: &str| fs::symlink_metadata(place.path().join(name)).unwrap().mtime();
        for name in ["", "etc", "etc/name", "etc/link", "su"] {
            assert_eq!(time(name), 1, "{name}");
        }
    }
}

#[test]
fn later_entries_replace_earlier_ones() {
    let place = tempfile::tempdir().unwrap();
    let layer = archive()
        .file("a/b/c", "old")
        .file("a", "a file now")
        .file("f", "old")
        .directory("f")
        .file("f/g", "new")
        .file("twice", "a long one")
        .file("twice", "short")
        .directory("d")
        .symlink("d", "f")
        .file("d/h", "through the link")
        .end();
    unpack_to(&layer, place.path()).unwrap();
    let expected = [
        "a 644 a file now",
        "d 777 -> f",
        "f 755 directory",
        "f/g 644 new",
        "f/h 644 through the link",
        "twice 644 short",
    ];
    assert_eq!(listing(place.path()), expected);
}

#[test]
fn whiteouts_become_those_of_overlayfs() {
    let place = tempfile::tempdir().unwrap();
    let layer = archive()
        .file("etc/.wh.gone", "")
        .file("opaque/.wh..wh..opq", "")
        .file("opaque/kept", "x")
        .file(".wh..wh.plnk", "")
        // In either order a name of the layer stays, and what is below it goes.
        .file("first", "x")
        .file(".wh.first", "")
        .file(".wh.second", "")
        .file("second", "x")
        .file("d1/f", "x")
        .file(".wh.d1", "")
        .file(".wh.d2", "")
        .file("d2/f", "x")
        .file(".wh.d3", "")
        .directory("d3")
        .end();
    let counts = unpack_to(&layer, place.path()).unwrap().counts;
    let expected = [
        "d1 755 opaque",
        "d1/f 644 x",
        "d2 755 opaque",
        "d2/f 644 x",
        "d3 755 opaque",
        "etc 755 directory",
        "etc/gone 0 device 0",
        "first 644 x",
        "opaque 755 opaque",
        "opaque/kept 644 x",
        "second 644 x",
    ];
    assert_eq!(listing(place.path()), expected);
    assert_eq!((counts.whiteouts, counts.skipped, counts.hides_all_below), (7, 1, false));
    let place = tempfile::tempdir().unwrap();
    let all = archive().file(".wh..wh..opq", "").end();
    assert!(unpack_to(&all, place.path()).unwrap().counts.hides_all_below);
}

#[test]
fn attributes_are_kept() {
    if !is_root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    // A capability of the second version: CAP_NET_RAW, effective.
    let capability = "\u{1}\0\0\u{2}\0\u{20}\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let layer = archive()
        .pax(&[("SCHILY.xattr.security.capability", capability), ("mtime", "12.5"), ("uid", "7")])
        .file("ping", "x")
        .pax(&[("SCHILY.xattr.user.note", "text")])
        .directory("d")
        .file("d/f", "x")
        .end();
    assert_eq!(unpack_to(&layer, place.path()).unwrap().counts.skipped_xattrs, 0);
    let value = |path: &str, name: &str| {
        let mut value = [0; 64];
        let length = rustix::fs::getxattr(place.path().join(path), name, &mut value).unwrap();
        value[..length].to_vec()
    };
    assert_eq!(value("ping", "security.capability"), capability.as_bytes());
    assert_eq!(value("d", "user.note"), b"text");
    let ping = fs::metadata(place.path().join("ping")).unwrap();
    assert_eq!((ping.mtime(), ping.mtime_nsec(), ping.uid()), (12, 500_000_000, 7));
    assert_eq!(fs::metadata(place.path().join("d")).unwrap().mtime(), 1);
}

#[test]
fn directories_without_an_entry_are_as_below() {
    let below = tempfile::tempdir().unwrap();
    let tmp = archive().with(EntryType::Directory, "tmp", "", b"", |it| it.set_mode(0o1777));
    unpack_to(&tmp.end(), below.path()).unwrap();
    let place = tempfile::tempdir().unwrap();
    let options = Options { below: vec![below.path().to_owned()], ..options() };
    let layer = archive().file("tmp/f", "x").file("new/f", "x").end();
    let counts = unpack(&*layer, place.path(), &options).unwrap().counts;
    assert_eq!(counts.implicit_directories, 2);
    let expected = ["new 755 directory", "new/f 644 x", "tmp 1777 directory", "tmp/f 644 x"];
    assert_eq!(listing(place.path()), expected);
}

#[test]
fn long_names_are_taken() {
    let place = tempfile::tempdir().unwrap();
    let name = format!("{}/{}", "d".repeat(120), "f".repeat(200));
    let target = "t".repeat(300);
    let layer = archive()
        .pax(&[("path", &name)])
        .file("short", "x")
        .entry(EntryType::GNULongLink, "././@LongLink", "", format!("{target}\0").as_bytes())
        .symlink("l", "short")
        .end();
    unpack_to(&layer, place.path()).unwrap();
    assert_eq!(fs::read(place.path().join(name)).unwrap(), b"x");
    assert_eq!(place.path().join("l").read_link().unwrap().to_str().unwrap(), target);
}

#[test]
fn sparse_files_of_gnu_tar_are_taken_in_all_its_forms() {
    let from = tempfile::tempdir().unwrap();
    let file = fs::File::create(from.path().join("f")).unwrap();
    for index in 0..40 {
        file.write_all_at(b"data", index * 65_536 + 17).unwrap();
    }
    file.set_len(4 << 20).unwrap();
    let original = fs::read(from.path().join("f")).unwrap();
    for form in
        ["--format=gnu", "--sparse-version=0.0", "--sparse-version=0.1", "--sparse-version=1.0"]
    {
        let archive = gnu_tar(from.path(), form);
        assert!(archive.len() < 1 << 20, "{form}: the archive has no holes");
        let place = tempfile::tempdir().unwrap();
        unpack_to(&archive, place.path()).unwrap();
        assert!(fs::read(place.path().join("f")).unwrap() == original, "{form}");
        let blocks = fs::metadata(place.path().join("f")).unwrap().blocks();
        assert!(blocks < 2000, "{form}: {blocks} blocks");
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's own tool, with nothing to hide")]
fn gnu_tar(directory: &std::path::Path, form: &str) -> Vec<u8> {
    let mut command = std::process::Command::new("tar");
    command.args(["--create", "--sparse", "--file=-", form]);
    if form.contains("version") {
        command.arg("--format=posix");
    }
    let output = command.arg("f").current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}
