//! Copying, and files of a sandbox. The fake keeps archives as they come, so that it gives back what
//! a hostile guest would send.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::Path,
};

use rustix::process::Signal;
use tar::{EntryType, Header};

use crate::world::{World, finish, signal};

/// An archive, nothing of it checked.
fn archive(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (kind, name, link) in entries {
        let content: &[u8] = if *kind == EntryType::Regular { b"hostile" } else { b"" };
        let mut header = Header::new_gnu();
        let old = header.as_old_mut();
        for (text, field) in [(name, &mut old.name), (link, &mut old.linkname)] {
            field.iter_mut().zip(text.as_bytes()).for_each(|(to, from)| *to = *from);
        }
        header.set_entry_type(*kind);
        header.set_mode(0o6755);
        header.set_mtime(1);
        header.set_size(content.len() as u64);
        header.set_cksum();
        archive.extend_from_slice(header.as_bytes());
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> =
        entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_file_goes_in_and_comes_out() {
    let world = World::start();
    world.create(&["--name", "x"]);
    fs::write(world.path("f"), "content").unwrap();
    world.data(&["cp", "f", "x:/home/user/f"]);
    assert_eq!(world.data(&["files", "cat", "x", "/home/user/f"]), "content");
    assert_eq!(world.data(&["cp", "x:/home/user/f", "-"]), "content");
    let copied = world.json(&["cp", "x:/home/user/f", "g"]);
    assert_eq!(copied, serde_json::json!({"entries": 1, "bytes": 7, "skipped": 0}));
    assert_eq!(fs::read_to_string(world.path("g")).unwrap(), "content");
    fs::create_dir(world.path("d")).unwrap();
    assert_eq!(world.warren(&["cp", "x:/home/user/f", "d"]).stderr, "copied 1 entry, 7 B\n");
    assert_eq!(names(&world.path("d")), ["f"]);
    let piped = world.warren_with_input(&["cp", "-", "x:/p"], b"piped");
    assert_eq!(piped.status, 0, "{piped:?}");
    assert_eq!(world.data(&["files", "cat", "x", "/p"]), "piped");
}

#[test]
fn a_tree_goes_in_and_comes_out() {
    let world = World::start();
    world.create(&["--name", "x"]);
    let at = |name: &str| world.path(name);
    fs::create_dir_all(at("tree/deep")).unwrap();
    fs::write(at("tree/deep/ü\n"), "content").unwrap();
    fs::set_permissions(at("tree/deep/ü\n"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("deep", at("tree/link")).unwrap();
    world.data(&["cp", "tree", "x:/t"]);
    world.data(&["cp", "x:/t", "again"]);
    assert_eq!(names(&at("again")), ["deep", "link"]);
    assert_eq!(fs::read_link(at("again/link")).unwrap(), Path::new("deep"));
    let file = fs::metadata(at("again/deep/ü\n")).unwrap();
    assert_eq!((file.len(), file.mode() & 0o7777), (7, 0o640));
    world.data(&["cp", "x:/t", "again"]);
    assert_eq!(names(&at("again")), ["deep", "link", "t"], "into what is there");
}

#[test]
fn a_hostile_archive_makes_nothing_outside_of_its_place() {
    let world = World::start();
    world.create(&["--name", "x"]);
    let kept = world.path("kept");
    fs::create_dir(&kept).unwrap();
    fs::write(kept.join("secret"), "secret").unwrap();
    let outside = kept.to_str().unwrap().to_owned();
    let before = names(&world.path("."));
    let file = |name| (EntryType::Regular, name, "");
    let link = |name, target| (EntryType::Symlink, name, target);
    let hard = |name, target| (EntryType::Link, name, target);
    for (entries, words) in [
        (vec![file("../escaped")], "`..`"),
        (vec![file("/tmp/escaped")], "absolute"),
        (vec![link("l", "../kept"), file("l/secret")], "leads out"),
        (vec![link("l", &outside), file("l/new")], "leads out"),
        (vec![link("l", "/proc/self/cwd"), file("l/new")], "leads out"),
        (vec![hard("h", "../kept/secret")], "`..`"),
        (vec![link("l", "../kept"), hard("h", "l/secret")], "leads out"),
        (vec![(EntryType::GNUSparse, "s", "")], "sparse"),
    ] {
        let sent = world.warren_with_input(&["cp", "-", "x:/h/"], &archive(&entries));
        assert_eq!(sent.status, 0, "{sent:?}");
        let outcome = world.warren(&["cp", "x:/h/", "out"]);
        assert_eq!(outcome.status, 1, "{entries:?}");
        assert!(outcome.stderr.contains(words), "{words}: {}", outcome.stderr);
        assert_eq!(names(&world.path(".")), before, "what was made for it goes with it");
    }
    assert_eq!(names(&kept), ["secret"]);
    let secret = fs::metadata(kept.join("secret")).unwrap();
    assert_eq!((secret.len(), secret.nlink()), (6, 1));
}

#[test]
fn devices_are_left_out_and_links_are_not_written_through() {
    let world = World::start();
    world.create(&["--name", "x"]);
    let entries = [
        (EntryType::Char, "device", ""),
        (EntryType::Fifo, "pipe", ""),
        (EntryType::Regular, "f", ""),
        (EntryType::Symlink, "evil", "/etc"),
    ];
    world.warren_with_input(&["cp", "-", "x:/h/"], &archive(&entries));
    let outcome = world.warren(&["cp", "x:/h/", "out"]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(outcome.stderr.contains("2 devices, pipes or sockets were left out"), "{outcome:?}");
    assert_eq!(names(&world.path("out")), ["evil", "f"]);
    let mode = fs::metadata(world.path("out/f")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o755, "set-user-id is dropped");
    // A planted link is no directory to copy to, and no file to write to.
    world.warren_with_input(&["cp", "-", "x:/evil/"], &archive(&[(EntryType::Regular, "f", "")]));
    let outcome = world.warren(&["cp", "x:/evil/", "out"]);
    assert!(outcome.stderr.contains("is a link"), "{outcome:?}");
    symlink("elsewhere", world.path("out/planted")).unwrap();
    world.warren_with_input(&["cp", "-", "x:/planted"], b"x");
    let outcome = world.warren(&["cp", "x:/planted", "out"]);
    assert!(outcome.stderr.contains("is a link"), "{outcome:?}");
    assert!(!world.path("out/elsewhere").exists());
}

#[test]
fn sides_that_make_no_sense_are_refused() {
    let world = World::start();
    for (arguments, words) in [
        (["a", "b"], "SANDBOX:PATH"),
        (["x:/a", "y:/b"], "SANDBOX:PATH"),
        (["-", "-"], "SANDBOX:PATH"),
        (["x:", "b"], "SANDBOX:PATH"),
        (["a", ":/b"], "SANDBOX:PATH"),
    ] {
        let outcome = world.warren(&["cp", arguments[0], arguments[1]]);
        assert_eq!(outcome.status, 2, "{arguments:?}");
        assert!(outcome.stderr.contains(words), "{arguments:?}: {}", outcome.stderr);
    }
    let outcome = world.warren(&["cp", "/no/such", "x:/a"]);
    assert!(outcome.stderr.contains("/no/such"), "{outcome:?}");
}

#[test]
fn an_interrupted_copy_leaves_nothing_half() {
    let world = World::start();
    world.create(&["--name", "x"]);
    // A pipe keeps it waiting: it opens it, and nothing comes.
    let pipe = world.path("pipe");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let child = world.command(&["cp", "pipe", "x:/never"]).spawn().unwrap();
    let writer = fs::File::options().write(true).open(&pipe).unwrap();
    signal(&child, Signal::TERM);
    let outcome = finish(child);
    // Before it watches for signals, one ends it at once.
    assert!([130, -1].contains(&outcome.status), "{outcome:?}");
    drop(writer);
    assert!(world.warren(&["files", "cat", "x", "/never"]).stderr.contains("does not exist"));
}

#[test]
fn files_are_listed_changed_and_found() {
    let world = World::start();
    world.create(&["--name", "x"]);
    let written = world.warren_with_input(&["files", "write", "x", "/w/a.rs"], b"fn main() {}");
    assert_eq!((written.status, &*written.stdout), (0, ""));
    world.warren_with_input(&["files", "write", "x", "/w/\x1b[2J.txt"], b"");
    let list = world.data(&["files", "ls", "x", "/w"]);
    assert!(list.starts_with("MODE "), "{list}");
    assert!(list.contains("-0644  user   user   12 B  "), "{list}");
    assert!(list.contains("\\u{1b}[2J.txt") && !list.contains('\x1b'), "{list}");
    let list = world.json(&["files", "ls", "x", "/w"]);
    assert_eq!(list["entries"].as_array().unwrap().len(), 2);
    let stat = world.data(&["files", "stat", "x", "/w/a.rs"]);
    assert!(stat.contains("path:     /w/a.rs\nkind:     file\nsize:     12\n"), "{stat}");
    assert_eq!(world.data(&["files", "glob", "x", "/w", "*.rs"]), "/w/a.rs\n");
    assert_eq!(world.data(&["files", "chmod", "x", "/w/a.rs", "0600"]), "");
    assert_eq!(world.data(&["files", "mv", "x", "/w/a.rs", "/w/b.rs"]), "");
    assert_eq!(world.data(&["files", "cat", "x", "/w/b.rs"]), "fn main() {}");
    assert_eq!(world.data(&["files", "rm", "x", "/w/b.rs"]), "");
    assert_eq!(world.data(&["files", "mkdir", "x", "/new"]), "");
    let missing = world.warren(&["files", "cat", "x", "/w/b.rs"]);
    assert_eq!(missing.status, 1);
    assert!(missing.stderr.contains("path '/w/b.rs' does not exist"), "{missing:?}");
    assert_eq!(world.warren(&["files", "write", "x", "/w/"]).status, 2);
}

#[test]
fn a_watch_prints_what_happens_until_it_is_interrupted() {
    use std::io::{BufRead as _, BufReader};
    let world = World::start();
    world.create(&["--name", "x"]);
    world.data(&["files", "mkdir", "x", "/w"]);
    let mut child = world.command(&["--json", "files", "watch", "x", "/w"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), r#"{"type":"start","path":"/w"}"#);
    world.warren_with_input(&["files", "write", "x", "/w/f"], b"x");
    assert_eq!(lines.next().unwrap().unwrap(), r#"{"type":"write","path":"/w/f"}"#);
    signal(&child, Signal::INT);
    assert_eq!(finish(child).status, 130);
}

#[test]
fn a_new_sandbox_gets_copies_or_does_not_stay() {
    let world = World::start();
    fs::create_dir(world.path("src")).unwrap();
    fs::write(world.path("src/f"), "copied").unwrap();
    let id = world.create(&["--copy", "src", "--copy", "src/f:/w/g"]);
    assert_eq!(world.data(&["files", "cat", &id, "/w/g"]), "copied");
    world.data(&["cp", &format!("{id}:/workspace"), "back"]);
    assert_eq!(names(&world.path("back")), ["f"]);
    let outcome = world.warren(&["run", "--copy", "src", "echo", "hello"]);
    assert_eq!((outcome.status, &*outcome.stdout), (0, "hello\n"), "{outcome:?}");
    assert_eq!(world.fake.guests().len(), 1, "only the first is left");
    let outcome = world.warren(&["create", "--copy", "/no/such"]);
    assert!(outcome.stderr.contains("could not read /no/such"), "{outcome:?}");
    assert_eq!(world.fake.guests().len(), 1, "nothing was made for it");
}
