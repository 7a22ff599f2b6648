//! Trees in and out, and what hostile archives try: into a sandbox, and out of it to the caller.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use tar::{EntryType, Header};

use crate::harness::{Home, http};

/// What is below a directory: mode, and content or target.
fn listing(directory: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(path) = pending.pop() {
        for entry in fs::read_dir(&path).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let content = if metadata.is_dir() {
                pending.push(path.clone());
                Vec::new()
            } else if metadata.is_symlink() {
                path.read_link().unwrap().into_os_string().into_encoded_bytes()
            } else {
                fs::read(&path).unwrap()
            };
            let relative = path.strip_prefix(directory).unwrap().to_owned();
            found.insert(relative, (metadata.mode(), content));
        }
    }
    found
}

/// Two thousand files with what makes copying hard.
fn tree(root: &Path) {
    for number in 0..2000 {
        let directory = root.join(format!("d{}/ü {}", number % 20, number % 7));
        fs::create_dir_all(&directory).unwrap();
        let file = directory.join(format!("f{number}\n\"'$(x)"));
        fs::write(&file, format!("{number}").repeat(number)).unwrap();
        let mode = 0o600 | (number as u32 % 0o100);
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    }
    symlink("d1", root.join("near")).unwrap();
    symlink("/no/such", root.join("far")).unwrap();
    fs::hard_link(root.join("d0/ü 0/f0\n\"'$(x)"), root.join("second name")).unwrap();
    fs::write(root.join("n".repeat(200)), "long").unwrap();
    fs::write(root.join("run"), "#!/bin/sh\necho ran\n").unwrap();
    fs::set_permissions(root.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(root.join("closed")).unwrap();
    fs::write(root.join("closed/f"), "").unwrap();
    fs::set_permissions(root.join("closed"), fs::Permissions::from_mode(0o550)).unwrap();
}

#[test]
fn a_tree_of_two_thousand_files_goes_in_and_comes_out() {
    let home = Home::new();
    let sandbox = home.create(&json!({}));
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    fs::create_dir(&from).unwrap();
    tree(&from);
    let there = format!("{}:/home/user/tree", sandbox.id);
    home.warren(&["cp", from.to_str().unwrap(), &there]).good();
    assert_eq!(sandbox.exec(&["/home/user/tree/run"])["stdout"], "ran\n");
    let owners = sandbox.exec(&["sh", "-c", "find tree ! -user user | wc -l"]);
    assert_eq!(owners["stdout"].as_str().unwrap().trim(), "0", "{owners}");
    home.warren(&["cp", &there, to.to_str().unwrap()]).good();
    assert!(listing(&to) == listing(&from));
    let inode = |name: &str| fs::metadata(to.join(name)).unwrap().ino();
    assert_eq!(inode("second name"), inode("d0/ü 0/f0\n\"'$(x)"));
    // Once more into what is there: the tree goes into the directory, under its own name.
    home.warren(&["cp", &there, to.to_str().unwrap()]).good();
    assert!(listing(&to.join("tree")) == listing(&from));
    fs::set_permissions(from.join("closed"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn files_and_streams_are_copied_like_docker_does() {
    let home = Home::new();
    let sandbox = home.create(&json!({}));
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let there = |path: &str| format!("{}:{path}", sandbox.id);
    fs::write(at("script"), "#!/bin/sh\necho hello\n").unwrap();
    fs::set_permissions(at("script"), fs::Permissions::from_mode(0o750)).unwrap();
    home.warren(&["cp", &at("script"), &there("/home/user/")]).good();
    assert_eq!(sandbox.exec(&["/home/user/script"])["stdout"], "hello\n");
    home.warren(&["cp", &there("/home/user/script"), &at("copy")]).good();
    assert_eq!(fs::read(at("copy")).unwrap(), fs::read(at("script")).unwrap());
    assert_eq!(fs::metadata(at("copy")).unwrap().mode() & 0o7777, 0o750);
    home.warren_with(&["cp", "-", &there("/home/user/input")], b"from a pipe").good();
    let printed = home.warren(&["cp", &there("/home/user/input"), "-"]).good().text();
    assert_eq!(printed, "from a pipe");
    // A directory travels as an archive.
    let archive = home.warren(&["cp", &there("/home/user"), "-"]).good();
    home.warren_with(&["cp", "-", &there("/home/user/again/")], &archive.stdout).good();
    assert_eq!(sandbox.exec(&["cat", "/home/user/again/input"])["stdout"], "from a pipe");
    // Into what is there: under its own name, or what is in it.
    fs::create_dir(at("d")).unwrap();
    fs::write(at("d/f"), "x").unwrap();
    sandbox.exec(&["mkdir", "/home/user/a", "/home/user/b"]);
    home.warren(&["cp", &at("d"), &there("/home/user/a")]).good();
    home.warren(&["cp", &at("d/."), &there("/home/user/b")]).good();
    let found = sandbox.exec(&["ls", "/home/user/a/d/f", "/home/user/b/f"]);
    assert_eq!(found["exit_code"], 0, "{found}");
}

#[test]
fn what_cannot_be_copied_says_why_and_leaves_nothing() {
    let home = Home::new();
    let sandbox = home.create(&json!({}));
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let there = |path: &str| format!("{}:{path}", sandbox.id);
    fs::write(at("f"), vec![7; 3 << 20]).unwrap();
    fs::create_dir(at("d")).unwrap();
    fs::write(at("d/f"), vec![7; 3 << 20]).unwrap();
    let refused = |from: &str, to: &str, words: &str| {
        let said = home.warren(&["cp", from, to]);
        assert!(!said.status.success(), "{from} {to}");
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(text.contains(words), "{from} {to}: {text}");
    };
    refused(&at("none"), &there("/home/user/x"), "No such file");
    refused(&at("d"), &there("/proc/x"), "'/proc/x'");
    refused(&at("f"), &there("/usr/x"), "/usr/x");
    refused(&at("d"), &there("/etc/hostname/x"), "/etc/hostname");
    refused(&at("d"), "nobodys:/x", "there is no sandbox");
    refused(&there("/no/such"), &at("x"), "'/no/such'");
    refused(&there("/etc/hostname"), &at("none/x"), "No such file");
    refused(&there("/dev/null"), &at("x"), "neither a file nor a directory");
    refused(&at("f"), &at("g"), "SANDBOX:PATH");
    symlink("f", at("link")).unwrap();
    refused(&there("/etc/hostname"), &at("link"), "is a link");
    refused(&there("/etc"), &at("f"), "expected a directory");
    let names: Vec<_> = listing(folder.path()).into_keys().collect();
    assert_eq!(names.len(), 4, "{names:?}");
}

/// An archive, nothing of it checked.
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

    fn link(self, name: &str, target: &str) -> Self {
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

/// Archives that try to leave the directory, with a word of the refusal.
fn hostile(outside: &str) -> Vec<(Archive, &'static str)> {
    let archive = Archive::default;
    vec![
        (archive().file("../escaped"), "`..`"),
        (archive().file("a/../../escaped"), "`..`"),
        (archive().file("/tmp/escaped"), "absolute"),
        (archive().link("l", "..").file("l/escaped"), "leads out"),
        (archive().link("l", outside).file("l/escaped"), "leads out"),
        (archive().link("l", "/proc/self/root").file("l/tmp/escaped"), "leads out"),
        (archive().hard_link("h", "../kept"), "`..`"),
        (archive().link("l", "..").hard_link("h", "l/kept"), "leads out"),
        (archive().entry(EntryType::GNULongName, "l", "", &[b'x'; 9000]), "a name or a header"),
        (archive().entry(EntryType::GNUSparse, "s", "", b""), "sparse"),
    ]
}

#[test]
fn hostile_archives_make_nothing_outside_of_their_directory_in_a_sandbox() {
    let home = Home::new();
    let sandbox = home.create(&json!({}));
    sandbox.root("mkdir -p /srv/box && echo kept > /srv/kept && chmod 644 /srv/kept");
    let put =
        |archive: &[u8]| sandbox.api("PUT", "/files/archive?path=/srv/box/in&user=root", archive);
    for (archive, words) in hostile("/srv") {
        let answer = put(&archive.end());
        assert_eq!((answer.status, &*answer.error_code()), (400, "invalid_argument"));
        assert!(answer.text().contains(words), "{words}: {}", answer.text());
    }
    for broken in [&b""[..], b"no archive", &[1; 2048], &[0x1f, 0x8b, 8, 0, 0]] {
        assert_eq!(put(broken).error_code(), "invalid_argument");
    }
    assert_eq!(sandbox.root("ls -A /srv/box; ls -A /srv; cat /srv/kept"), "box\nkept\nkept\n");
    assert_eq!(sandbox.root("stat -c '%h %a' /srv/kept"), "1 644\n");
    let devices = Archive::default()
        .entry(EntryType::Char, "null", "", b"")
        .entry(EntryType::Fifo, "pipe", "", b"")
        .file("f");
    let done = put(&devices.end()).json();
    assert_eq!((&done["entries"], &done["skipped"]), (&json!(1), &json!(2)), "{done}");
    assert_eq!(sandbox.root("ls -A /srv/box/in; stat -c '%A' /srv/box/in/f"), "f\n-rwxrwxrwx\n");
}

#[test]
fn a_million_entries_and_one_are_too_many() {
    let home = Home::new();
    let sandbox = home.create(&json!({}));
    let one = Archive::default().entry(EntryType::Directory, "./", "", b"").0;
    let compression = flate2::Compression::fast();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), compression);
    let thousand = one.repeat(1000);
    for _ in 0..1000 {
        encoder.write_all(&thousand).unwrap();
    }
    encoder.write_all(&Archive::default().file("last").end()).unwrap();
    let answer = sandbox.api("PUT", "/files/archive?path=bomb", &encoder.finish().unwrap());
    assert_eq!(answer.error_code(), "invalid_argument");
    assert!(answer.text().contains("more than 1000000 entries"), "{}", answer.text());
    assert_eq!(sandbox.exec(&["test", "-e", "bomb"])["exit_code"], 1, "nothing of it stays");
}

#[test]
fn a_watch_sees_what_commands_do() {
    let home = Home::new();
    let sandbox = home.create(&json!({}));
    sandbox.exec(&["mkdir", "-p", "/home/user/w/deep"]);
    let path = format!("/v1/sandboxes/{}/files/watch?path=w&recursive=true", sandbox.id);
    let mut stream = home.open("GET", &path, b"");
    assert_eq!(http::head(&mut stream).0, 200);
    let mut next = || -> Value {
        loop {
            // The lines of a chunked body; what is no JSON is the size of a chunk.
            let mut line = String::new();
            assert_ne!(stream.read_line(&mut line).expect("a line"), 0, "the watch ended");
            match serde_json::from_str::<Value>(&line) {
                Ok(event) if event.is_object() && event["type"] != "keepalive" => return event,
                _ => {}
            }
        }
    };
    assert_eq!(next(), json!({"type": "start", "path": "/home/user/w"}));
    let script = "cd w && echo x > deep/f && chmod 600 deep/f && mv deep/f g && rm g";
    assert_eq!(sandbox.exec(&["sh", "-c", script])["exit_code"], 0);
    let mut seen = Vec::new();
    while seen.last() != Some(&("remove".to_owned(), "/home/user/w/g".to_owned())) {
        let event = next();
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        seen.push((text("type"), text("path")));
    }
    for (kind, path) in [
        ("create", "/home/user/w/deep/f"),
        ("write", "/home/user/w/deep/f"),
        ("chmod", "/home/user/w/deep/f"),
        ("rename", "/home/user/w/deep/f"),
        ("create", "/home/user/w/g"),
    ] {
        let event = (kind.to_owned(), path.to_owned());
        assert!(seen.contains(&event), "{event:?} is not in {seen:?}");
    }
}

#[test]
fn paths_are_found_and_modes_changed() {
    let home = Home::new();
    let sandbox = home.create(&json!({}));
    sandbox.exec(&["sh", "-c", "mkdir -p p/src && touch p/a.rs p/src/b.rs p/src/c.txt"]);
    let found = sandbox.api("GET", "/files/glob?path=p&pattern=**/*.rs", b"").json();
    let paths = ["/home/user/p/a.rs", "/home/user/p/src/b.rs"];
    assert_eq!(found, json!({"paths": paths, "truncated": false}));
    let changed =
        sandbox.api("POST", "/files/chmod", br#"{"path": "p/a.rs", "mode": "0640"}"#).json();
    assert_eq!(changed["mode"], "0640");
    assert_eq!(sandbox.exec(&["stat", "-c", "%a", "p/a.rs"])["stdout"], "640\n");
    let refused = sandbox.api("POST", "/files/chmod", br#"{"path": "/usr", "mode": "0777"}"#);
    assert_eq!(refused.error_code(), "permission_denied");
    let printed = home.warren(&["files", "glob", &sandbox.id, "p", "**/*.txt"]).good().text();
    assert_eq!(printed, "/home/user/p/src/c.txt\n");
    let listed = home.warren(&["files", "ls", "--json", &sandbox.id, "p"]).good().text();
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["entries"].as_array().unwrap().len(), 2);
}

#[test]
fn a_new_sandbox_gets_a_copy_of_a_directory_before_its_command() {
    let home = Home::new();
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("src")).unwrap();
    fs::write(folder.path().join("src/f"), "copied").unwrap();
    let path = folder.path().to_str().unwrap();
    let run = home.warren(&["run", "--copy", path, "--", "cat", "src/f"]).good().text();
    assert_eq!(run, "copied", "commands start where the copy is");
    let file = format!("{path}/src/f:/home/user/x");
    let run = home.warren(&["run", "--copy", &file, "--", "cat", "x"]).good().text();
    assert_eq!(run, "copied");
    let refused = home.warren(&["run", "--copy", &format!("{path}:/usr/x"), "--", "true"]);
    assert_eq!(refused.code(), 125, "{}", refused.errors());
    let refused = home.warren(&["create", "--copy", "/no/such"]);
    assert!(refused.errors().contains("/no/such"), "{}", refused.errors());
    assert_eq!(home.warren(&["list", "-q"]).good().text(), "", "none of these is left");
}
