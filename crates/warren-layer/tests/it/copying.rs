//! Copies of layers, in use and not.

use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use proptest::prelude::*;
use warren_layer::copy::{Previous, catch_up, copy};
use warren_layer::manifest::Sources;
use warren_layer::{Manifest, Stamp};

use crate::overlay::Overlay;
use crate::{is_root, options};

/// The two hold the same.
#[track_caller]
fn assert_same(one: &Path, other: &Path) {
    let manifest = Manifest::build(one, Sources::None, None).unwrap();
    assert_eq!(manifest.verify(other).unwrap(), []);
}

#[test]
fn everything_is_copied() {
    let place = tempfile::tempdir().unwrap();
    let (from, to) = (place.path().join("from"), place.path().join("to"));
    fs::create_dir_all(from.join("d/e")).unwrap();
    fs::write(from.join("d/f"), "content").unwrap();
    fs::hard_link(from.join("d/f"), from.join("g")).unwrap();
    symlink("d/f", from.join("l")).unwrap();
    fs::set_permissions(from.join("d/f"), Permissions::from_mode(0o4711)).unwrap();
    fs::set_permissions(from.join("d"), Permissions::from_mode(0o1777)).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        from.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o620),
        0,
    )
    .unwrap();
    let holes = File::create(from.join("holes")).unwrap();
    holes.write_all_at(b"middle", 5 << 20).unwrap();
    holes.set_len(20 << 20).unwrap();
    drop(holes);
    if is_root() {
        let directory = File::open(from.join("d")).unwrap();
        warren_layer::marks::make_opaque(&directory, options().marks).unwrap();
        warren_layer::marks::make_whiteout(&directory, b"gone").unwrap();
        std::os::unix::fs::chown(from.join("d/f"), Some(1000), Some(7)).unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        for name in ["user.note", "trusted.overlay.origin", "trusted.overlay.metacopy"] {
            rustix::fs::setxattr(from.join("holes"), name, b"x", flags).unwrap();
        }
    }
    let amount = copy(&from, &to, None).unwrap().amount();
    assert_eq!(amount.removed + amount.vanished, 0);
    let file = |name: &str| fs::metadata(to.join(name)).unwrap();
    assert_eq!(file("d/f").ino(), file("g").ino());
    assert_eq!((file("holes").len(), file("holes").blocks() < 200), (20 << 20, true));
    if is_root() {
        // Of uppers alone; all else is kept.
        rustix::fs::removexattr(from.join("holes"), "trusted.overlay.origin").unwrap();
    }
    assert_same(&from, &to);
    let error = copy(&from, &to, None).unwrap_err();
    assert_eq!(error.source.kind(), std::io::ErrorKind::AlreadyExists);
}

#[test]
fn a_copy_is_brought_up_to_date() {
    let place = tempfile::tempdir().unwrap();
    let (from, to) = (place.path().join("from"), place.path().join("to"));
    fs::create_dir_all(from.join("same")).unwrap();
    for number in 0..50 {
        fs::write(from.join(format!("same/{number}")), "x").unwrap();
    }
    fs::create_dir_all(from.join("gone/deep")).unwrap();
    fs::write(from.join("gone/deep/f"), "x").unwrap();
    fs::write(from.join("file"), "x").unwrap();
    fs::create_dir(from.join("directory")).unwrap();
    fs::write(from.join("directory/f"), "x").unwrap();
    settle(&from);
    let mut copied = copy(&from, &to, None).unwrap();
    // Nothing happened.
    let amount = catch_up(&mut copied, &from, &to, true).unwrap();
    assert_eq!((amount.made, amount.removed), (0, 0));

    fs::remove_dir_all(from.join("gone")).unwrap();
    fs::remove_file(from.join("file")).unwrap();
    fs::create_dir(from.join("file")).unwrap();
    fs::write(from.join("file/new"), "x").unwrap();
    fs::remove_dir_all(from.join("directory")).unwrap();
    fs::write(from.join("directory"), "x").unwrap();
    fs::write(from.join("same/7"), "y").unwrap();
    fs::rename(from.join("same/8"), from.join("same/9")).unwrap();
    fs::hard_link(from.join("same/10"), from.join("link")).unwrap();
    fs::set_permissions(from.join("same/11"), Permissions::from_mode(0o600)).unwrap();
    let amount = catch_up(&mut copied, &from, &to, true).unwrap();
    assert_eq!(amount.removed, 2, "gone and same/8: {amount:?}");
    // file, file/new, directory, 7, 9, 10, link, 11
    assert_eq!(amount.made, 8, "{amount:?}");
    assert_same(&from, &to);
}

/// Waits until the last change is so old that stamps are trusted.
fn settle(path: &Path) {
    let changed = Stamp::of(&rustix::fs::stat(path).unwrap());
    while !changed.is_settled(warren_layer::Moment::now()) {
        std::thread::yield_now();
    }
}

#[test]
fn unchanged_files_are_links_to_the_previous_copy() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    let from = path("from");
    fs::create_dir_all(from.join("d")).unwrap();
    for name in ["d/same", "d/changed", "d/replaced"] {
        fs::write(from.join(name), "x").unwrap();
    }
    settle(&from.join("d"));
    let first = copy(&from, &path("one"), None).unwrap();
    let manifest = Manifest::build(&path("one"), Sources::Copied(&first), None).unwrap();
    fs::write(from.join("d/changed"), "y").unwrap();
    fs::write(from.join("d/new"), "x").unwrap();
    fs::rename(from.join("d/new"), from.join("d/replaced")).unwrap();
    let previous = Previous { manifest: &manifest, directory: &path("one") };
    let second = copy(&from, &path("two"), Some(previous)).unwrap();
    assert_eq!(second.amount().linked, 1);
    let inode = |name: &str| fs::metadata(path(name)).unwrap().ino();
    assert_eq!(inode("one/d/same"), inode("two/d/same"));
    assert_ne!(inode("one/d/changed"), inode("two/d/changed"));
    assert_same(&from, &path("two"));
    let noted = Manifest::build(&path("two"), Sources::Copied(&second), Some(&manifest)).unwrap();
    let plain = Manifest::build(&path("two"), Sources::None, None).unwrap();
    for (path, entry) in &noted.entries {
        assert_eq!(entry.difference(plain.entries.get(path).unwrap()), None);
    }
}

#[test]
fn an_overlay_in_use_is_copied() {
    if !is_root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    for name in ["base/etc", "base/var", "upper", "work"] {
        fs::create_dir_all(path(name)).unwrap();
    }
    for name in ["base/etc/kept", "base/etc/gone", "base/etc/changed", "base/var/f"] {
        fs::write(path(name), "base").unwrap();
    }
    let layers: [&Path; 1] = [&path("base")];
    let upper = path("upper");
    let overlay = Overlay::mount(&path("merged"), &layers, Some((&upper, &path("work"))));
    let merged = &overlay.at;
    let mut open = File::options().append(true).open(merged.join("etc/changed")).unwrap();
    open.write_all(b" and more").unwrap();
    fs::remove_file(merged.join("etc/gone")).unwrap();
    let mut copied = copy(&upper, &path("copy"), None).unwrap();
    open.write_all(b" and even more").unwrap();
    fs::remove_dir_all(merged.join("var")).unwrap();
    fs::create_dir(merged.join("var")).unwrap();
    catch_up(&mut copied, &upper, &path("copy"), false).unwrap();
    open.write_all(b" at last").unwrap();
    catch_up(&mut copied, &upper, &path("copy"), true).unwrap();
    let layers: [&Path; 2] = [&path("copy"), &path("base")];
    let again = Overlay::mount(&path("again"), &layers, None);
    let text = fs::read_to_string(again.at.join("etc/changed")).unwrap();
    assert_eq!(text, "base and more and even more at last");
    assert_eq!(crate::listing(&again.at), crate::listing(merged));
}

/// Does one random thing in a directory.
pub(crate) fn mutate(root: &Path, (what, one, other): (u8, u8, u8)) {
    const NAMES: [&str; 9] = ["a", "b", "c", "a/a", "a/b", "b/a", "b/c", "a/b/c", "c/a/b"];
    let pick = |index: u8| root.join(NAMES.into_iter().cycle().nth(index.into()).unwrap());
    let (path, other_path) = (pick(one), pick(other));
    // Most of it fails for what is not there: that is as good.
    drop(match what % 9 {
        0 | 1 => fs::write(&path, [one, other, what]),
        2 => fs::create_dir(&path),
        3 => fs::remove_dir_all(&path),
        4 => fs::remove_file(&path),
        5 => fs::rename(&path, &other_path),
        6 => fs::hard_link(&path, &other_path),
        // Relative: an absolute one would lead out of a mount, to what lies below it.
        7 => symlink(pick(other).strip_prefix(root).unwrap(), &path),
        _ => fs::symlink_metadata(&path).and_then(|it| match it.is_symlink() {
            true => Ok(()),
            false => fs::set_permissions(&path, Permissions::from_mode(0o700 | u32::from(other))),
        }),
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_happens_the_copy_is_the_same(
        phases in prop::collection::vec(prop::collection::vec(any::<(u8, u8, u8)>(), 0..20), 2..5),
    ) {
        let place = tempfile::tempdir().unwrap();
        let (from, to) = (place.path().join("from"), place.path().join("to"));
        fs::create_dir(&from).unwrap();
        let mut copied = None;
        for steps in phases {
            steps.into_iter().for_each(|step| mutate(&from, step));
            match &mut copied {
                None => copied = Some(copy(&from, &to, None).unwrap()),
                Some(copied) => {
                    catch_up(copied, &from, &to, true).unwrap();
                }
            }
            assert_same(&from, &to);
        }
    }
}
