//! What differs between stacks of layers, and several layers as one.

use std::fs::{self, Permissions};
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use warren_layer::diff::{Change, Options, Patch, What, diff};
use warren_layer::manifest::Sources;
use warren_layer::{Manifest, merge};

use crate::archive::Archive;
use crate::copying::mutate;
use crate::overlay::Overlay;
use crate::{is_root, listing, options, unpack_to};

fn comparing() -> Options {
    Options { marks: options().marks, ..Options::default() }
}

fn changes(before: &[&Path], after: &[&Path], options: &Options) -> Vec<Change> {
    let mut found = Vec::new();
    let each = |change| {
        found.push(change);
        ControlFlow::Continue(())
    };
    assert!(diff(before, after, options, each).unwrap());
    found
}

/// One line for each change.
fn lines(before: &[&Path], after: &[&Path]) -> Vec<String> {
    let line = |it: Change| {
        let path = String::from_utf8_lossy(&it.path).into_owned();
        match it.what {
            What::Added => format!("+ {path}"),
            What::Removed => format!("- {path}"),
            What::Changed => format!("! {path} {:?}", it.aspects),
        }
    };
    changes(before, after, &comparing()).into_iter().map(line).collect()
}

struct Layers(tempfile::TempDir);

impl Layers {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn add(&self, name: &str, archive: Archive) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir(&path).unwrap();
        unpack_to(&archive.end(), &path).unwrap();
        path
    }
}

fn archive() -> Archive {
    Archive::default()
}

#[test]
fn what_differs_is_found() {
    let layers = Layers::new();
    let base = archive()
        .file("etc/kept", "1")
        .file("etc/gone", "1")
        .file("etc/changed", "1")
        .file("hidden/f", "1")
        .file("hidden/deep/g", "1")
        .file("kind", "1")
        .symlink("link", "a")
        .file("far/away/f", "1");
    let base = layers.add("base", base);
    let top = archive()
        .file("etc/.wh.gone", "")
        .file("etc/changed", "2")
        .file("etc/kept", "1")
        .file("hidden/.wh..wh..opq", "")
        .file("hidden/f", "22")
        .directory("kind")
        .file("kind/new", "")
        .symlink("link", "b");
    let top = layers.add("top", top);
    let (one, two): (&[&Path], &[&Path]) = (&[&base], &[&top, &base]);
    let expected = [
        "! etc/changed {Content}",
        "- etc/gone",
        "- hidden/deep",
        "- hidden/deep/g",
        "! hidden/f {Content}",
        "! kind {Kind, Mode}",
        "+ kind/new",
        "! link {Link}",
    ];
    assert_eq!(lines(one, two), expected);
    let back: Vec<String> = lines(two, one);
    assert_eq!(back.len(), expected.len());
    assert_eq!((back[1].as_str(), back[6].as_str()), ("+ etc/gone", "- kind/new"));
    assert_eq!(lines(two, two), [""; 0]);
    let exclude = [&b"hidden"[..], b"etc/gone", b"kind"].map(<[u8]>::to_vec).into();
    let fewer = changes(one, two, &Options { exclude, ..comparing() });
    let paths: Vec<_> = fewer.iter().map(|it| String::from_utf8_lossy(&it.path)).collect();
    assert_eq!(paths, ["etc/changed", "link"]);
    let changed = &fewer[0];
    let (before, after) = (changed.before.as_ref().unwrap(), changed.after.as_ref().unwrap());
    assert_eq!((before.size, after.size, after.mode), (1, 1, 0o644));
    let mut seen = 0;
    let stopped = diff(one, two, &comparing(), |_| {
        seen += 1;
        ControlFlow::Break(())
    });
    assert_eq!((stopped.unwrap(), seen), (false, 1));
}

#[test]
fn owners_modes_and_times() {
    let layers = Layers::new();
    let one = layers.add("one", archive().file("f", "x").file("g", "x").directory("d"));
    let two = layers.add("two", archive().file("f", "x").file("g", "x").directory("d"));
    fs::write(two.join("f"), "x").unwrap(); // another time
    fs::set_permissions(two.join("g"), Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(two.join("d"), Permissions::from_mode(0o700)).unwrap();
    let mut expected = vec!["! d {Mode}", "! g {Mode}"];
    if is_root() {
        std::os::unix::fs::chown(two.join("g"), Some(5), None).unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(two.join("g"), "user.x", b"y", flags).unwrap();
        expected[1] = "! g {Mode, Owner, Attributes}";
    }
    assert_eq!(lines(&[&one], &[&two]), expected);
}

#[test]
fn lines_of_texts_are_shown() {
    let layers = Layers::new();
    let one = archive().file("text", "a\nb\nc\n").file("binary", "a\0").file("gone", "x\n");
    let one = layers.add("one", one.file("large", &"x".repeat(2000)));
    let two = archive().file("text", "a\nB\nc\n").file("binary", "b\0").file("new", "y\n");
    let two = layers.add("two", two.file("large", &"y".repeat(2000)));
    let options = Options { patch: Some(1000), ..comparing() };
    let found = changes(&[&one], &[&two], &options);
    let patch = |name: &str| {
        found.iter().find(|it| it.path == name.as_bytes()).unwrap().patch.clone().unwrap()
    };
    let text = |text: &str| Patch::Text(text.to_owned());
    assert_eq!(patch("text"), text("--- a/text\n+++ b/text\n@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n"));
    assert_eq!(patch("gone"), text("--- a/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"));
    assert_eq!(patch("new"), text("--- /dev/null\n+++ b/new\n@@ -0,0 +1 @@\n+y\n"));
    assert_eq!((patch("binary"), patch("large")), (Patch::Binary, Patch::TooLarge));
}

#[test]
fn layers_become_one() {
    if !is_root() {
        return;
    }
    let layers = Layers::new();
    let base = archive().file("etc/kept", "1").file("etc/gone", "1").file("again/f", "1");
    let base = base.file("hidden/f", "1").file("under", "1").file("file/f", "1");
    let base = layers.add("base", base);
    let lower = archive()
        .file("etc/.wh.gone", "")
        .file("hidden/.wh..wh..opq", "")
        .file("hidden/g", "2")
        .file(".wh.again", "")
        .file("file", "2")
        .file("one", "2")
        .hard_link("two", "one");
    let lower = layers.add("lower", lower);
    let upper = archive().file("again/h", "3").file("etc/new", "3").directory("file");
    let upper = layers.add("upper", upper.file("file/g", "3"));
    for (number, link) in [(1, false), (2, true)] {
        let options = merge::Options { marks: options().marks, is_partial: true, link };
        let merged = layers.0.path().join(format!("merged-{number}"));
        let amount = merge::merge(&[&upper, &lower], &merged, options).unwrap();
        assert_eq!((amount.linked > 0, amount.copied_bytes == 0), (link, link), "{amount:?}");
        let inode = |name: &str| fs::metadata(merged.join(name)).unwrap().ino();
        assert_eq!(inode("one"), inode("two"));
        let stacks: [&[&Path]; 2] = [&[&upper, &lower, &base], &[&merged, &base]];
        let seen = stacks.map(|stack| {
            let at = layers.0.path().join(format!("mount-{number}"));
            listing(&Overlay::mount(&at, stack, None).at)
        });
        assert_eq!(seen[0], seen[1]);
        assert_eq!(lines(stacks[0], stacks[1]), [""; 0]);
        // Down to the base nothing is left to hide.
        let flat = layers.0.path().join(format!("flat-{number}"));
        let options = merge::Options { is_partial: false, ..options };
        merge::merge(&[&upper, &lower, &base], &flat, options).unwrap();
        assert_eq!(listing(&flat), seen[0]);
    }
}

/// Mounts an overlay and does random things to it: what it shows and what its layers say is the
/// same.
fn check(before: &[(u8, u8, u8)], after: &[(u8, u8, u8)]) {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    for name in ["base", "upper", "work", "first"] {
        fs::create_dir(path(name)).unwrap();
    }
    before.iter().for_each(|step| mutate(&path("base"), *step));
    let (base, upper) = (path("base"), path("upper"));
    let stack: [&Path; 2] = [&upper, &base];
    let seen = {
        let overlay = Overlay::mount(&path("mount"), &[&base], Some((&upper, &path("work"))));
        after.iter().for_each(|step| mutate(&overlay.at, *step));
        // A second copy of what it shows.
        warren_layer::copy::copy(&overlay.at, &path("second"), None).unwrap();
        warren_layer::copy::copy(&base, &path("base-copy"), None).unwrap();
        Manifest::build(&overlay.at, Sources::None, None).unwrap()
    };
    let without_mount = lines(&[&base], &stack);
    let with_mount = lines(&[&path("base-copy")], &[&path("second")]);
    assert_eq!(without_mount, with_mount);
    let options = merge::Options { marks: options().marks, is_partial: false, link: false };
    merge::merge(&stack, &path("flat"), options).unwrap();
    let flat = Manifest::build(&path("flat"), Sources::None, None).unwrap();
    for (path, entry) in &seen.entries {
        let found = flat.entries.get(path).unwrap();
        let same =
            |it: &warren_layer::manifest::Entry| (it.kind, it.digest, it.mode, it.link.clone());
        assert_eq!(same(found), same(entry), "{}", String::from_utf8_lossy(path));
    }
    assert_eq!(flat.entries.len(), seen.entries.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn layers_say_what_the_mount_shows(
        before in prop::collection::vec(any::<(u8, u8, u8)>(), 0..30),
        after in prop::collection::vec(any::<(u8, u8, u8)>(), 0..30),
    ) {
        if rustix::process::geteuid().is_root() {
            check(&before, &after);
        }
    }
}

#[test]
fn links_to_files_are_no_difference() {
    let layers = Layers::new();
    let one = layers.add("one", archive().file("f", "x"));
    let two = layers.0.path().join("two");
    fs::create_dir(&two).unwrap();
    fs::hard_link(one.join("f"), two.join("f")).unwrap();
    assert_eq!(lines(&[&one], &[&two]), [""; 0]);
    symlink("f", two.join("g")).unwrap();
    assert_eq!(lines(&[&one], &[&two]), ["+ g"]);
}
