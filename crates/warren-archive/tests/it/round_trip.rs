//! What goes in comes out.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::{gzip, listing, pack, pack_in, unpack, unpack_in};
use warren_archive::UnpackError;

fn tree() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("deep/er/still")).unwrap();
    fs::write(at("a"), "content").unwrap();
    fs::write(at("empty"), "").unwrap();
    fs::write(at("block"), vec![7; 512]).unwrap();
    fs::write(at("deep/big"), (0..300_000_u32).map(|it| it as u8).collect::<Vec<_>>()).unwrap();
    fs::write(at("ä ö\n\"quoted\""), "odd").unwrap();
    fs::write(folder.path().join(OsStr::from_bytes(b"not \xff utf-8")), "bytes").unwrap();
    let long = "long".repeat(60);
    fs::create_dir(at(&long)).unwrap();
    fs::write(at(&long).join(&long), "long").unwrap();
    symlink("../deep/big", at("deep/er/link")).unwrap();
    symlink("/no/such/place", at("dangling")).unwrap();
    symlink(&*"t".repeat(300), at("long target")).unwrap();
    fs::hard_link(at("a"), at("deep/second name of a")).unwrap();
    fs::set_permissions(at("block"), Permissions::from_mode(0o751)).unwrap();
    fs::set_permissions(at("deep/er"), Permissions::from_mode(0o2555)).unwrap();
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for name in ["a", "deep", "deep/er/still"] {
        File::open(at(name)).unwrap().set_modified(then).unwrap();
    }
    folder
}

#[test]
fn a_tree_comes_out_as_it_went_in() {
    let (from, to) = (tree(), tempfile::tempdir().unwrap());
    let done = unpack(&pack(from.path()), to.path()).unwrap();
    assert_eq!((done.entries, done.skipped), (16, 0));
    let mut expected = listing(from.path());
    for (path, mode, _) in &mut expected {
        if path.ends_with("er") {
            *mode &= !0o2000; // set-group-id is not taken over
        }
    }
    assert_eq!(listing(to.path()), expected);
    let meta = |name: &str| fs::metadata(to.path().join(name)).unwrap();
    assert_eq!(meta("a").ino(), meta("deep/second name of a").ino());
    for name in ["a", "deep", "deep/er/still"] {
        assert_eq!(meta(name).mtime(), 1_000_000_000, "{name}");
    }
}

#[test]
fn pieces_may_have_any_size() {
    let from = tree();
    let whole = pack(from.path());
    assert_eq!(whole.len() % 512, 0);
    for size in [1, 511, 513, 100_000] {
        assert!(pack_in(from.path(), size) == whole, "{size}");
        let to = tempfile::tempdir().unwrap();
        unpack_in(&whole, to.path(), size).unwrap();
        assert_eq!(listing(to.path()).len(), listing(from.path()).len(), "{size}");
    }
}

#[test]
fn what_is_there_is_replaced_and_directories_stay() {
    let (from, to) = (tree(), tempfile::tempdir().unwrap());
    let at = |name: &str| to.path().join(name);
    fs::create_dir(at("deep")).unwrap();
    fs::set_permissions(at("deep"), Permissions::from_mode(0o700)).unwrap();
    fs::write(at("deep/other"), "kept").unwrap();
    fs::write(at("a"), "old").unwrap();
    fs::hard_link(at("a"), at("old name")).unwrap();
    let archive = pack(from.path());
    for _ in 0..2 {
        let _again = unpack(&archive, to.path()).unwrap();
    }
    assert_eq!(fs::read_to_string(at("a")).unwrap(), "content");
    assert_eq!(fs::read_to_string(at("old name")).unwrap(), "old", "it is not written into");
    assert_eq!(fs::read_to_string(at("deep/other")).unwrap(), "kept");
    assert_eq!(fs::metadata(at("deep")).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn compressed_archives_are_recognised() {
    let (from, to) = (tree(), tempfile::tempdir().unwrap());
    let packed = gzip(&pack(from.path()));
    unpack_in(&packed, to.path(), 1).unwrap();
    assert_eq!(listing(to.path()).len(), listing(from.path()).len());
    let cut = packed.get(..packed.len() - 10).unwrap();
    let error = unpack(cut, tempfile::tempdir().unwrap().path()).unwrap_err();
    assert!(matches!(error, UnpackError::Compressed(_) | UnpackError::Truncated), "{error}");
}

#[test]
fn what_is_no_file_is_left_out() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let fifo = from.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    let socket = std::os::unix::net::UnixListener::bind(from.path().join("socket")).unwrap();
    let root = File::open(from.path()).unwrap().into();
    let mut packer = warren_archive::Packer::directory(root);
    let mut archive = Vec::new();
    while packer.read(&mut archive, 1000).unwrap() {}
    assert_eq!(packer.skipped(), 2);
    assert_eq!(unpack(&archive, to.path()).unwrap().entries, 1);
    drop(socket);
}

#[test]
fn one_file_is_packed_under_a_name() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(from.path().join("f"), "content").unwrap();
    let file = File::open(from.path().join("f")).unwrap();
    let mut packer = warren_archive::Packer::file(file, b"other").unwrap();
    let mut archive = Vec::new();
    while packer.read(&mut archive, 10).unwrap() {}
    assert_eq!(unpack(&archive, to.path()).unwrap().bytes, 7);
    assert_eq!(fs::read_to_string(to.path().join("other")).unwrap(), "content");
}

#[test]
fn what_cannot_be_read_breaks_the_archive_and_says_why() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(from.path().join("a"), "content").unwrap();
    // A path that is longer than the kernel takes cannot be opened by anybody.
    let mut directory = File::open(from.path()).unwrap();
    let name = "d".repeat(250);
    for _ in 0..17 {
        rustix::fs::mkdirat(&directory, &*name, 0o755.into()).unwrap();
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
        directory = rustix::fs::openat(&directory, &*name, flags, 0.into()).unwrap().into();
    }
    let error = unpack(&pack(from.path()), to.path()).unwrap_err();
    assert!(matches!(error, UnpackError::Reported(_)), "{error}");
    assert!(error.to_string().contains("could not read 'ddd"), "{error}");
    assert_eq!(fs::read_to_string(to.path().join("a")).unwrap(), "content");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "another program's archives are what is tested")]
fn other_programs_archives_are_read_and_ours_by_them() {
    if Command::new("tar").arg("--version").output().is_err() {
        return println!("SKIPPED: there is no tar here");
    }
    let from = tree();
    for format in ["gnu", "pax", "posix", "ustar"] {
        let to = tempfile::tempdir().unwrap();
        let mut command = Command::new("tar");
        command.args(["--format", format, "-c", "-C"]).arg(from.path());
        if format == "ustar" {
            command.arg("--exclude=*long*"); // it cannot say such names
        }
        let made = command.arg(".").output().unwrap();
        assert!(made.status.success(), "{format}: {}", String::from_utf8_lossy(&made.stderr));
        unpack(&made.stdout, to.path()).unwrap_or_else(|error| panic!("{format}: {error}"));
        let missing = if format == "ustar" { 3 } else { 0 };
        assert_eq!(listing(to.path()).len(), listing(from.path()).len() - missing, "{format}");
    }
    let (archive, to) = (tempfile::NamedTempFile::new().unwrap(), tempfile::tempdir().unwrap());
    fs::write(archive.path(), pack(from.path())).unwrap();
    let mut command = Command::new("tar");
    command.arg("-xpf").arg(archive.path()).arg("-C").arg(to.path());
    let read = command.output().unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    assert_eq!(listing(to.path()), listing(from.path()));
}
