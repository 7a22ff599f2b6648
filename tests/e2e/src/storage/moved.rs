//! What a data directory holds is moved into a pool and back, and is whole whenever that is cut off.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use warren_test_registry::{Image, Layer, Tree, write_layout};

use super::{Home, can_mount, has_limits, is_mounted};
use crate::{
    harness::{Sandbox, kill, wait_until},
    images::small_root,
};

/// How often moving is cut off.
const ROUNDS: usize = 14;
/// The pool that is made.
const MAKE: [&str; 6] = ["setup", "storage", "--size", "512MiB", "--driver", "btrfs"];
const REMOVE: [&str; 3] = ["setup", "storage", "--remove"];

/// What is in a data directory, and must stay.
struct Belongings {
    sandbox: String,
    sums: String,
    snapshot: String,
}

const SUMS: &str = "cd /root/t; cat 1 2 3 4 5 | sha256sum; stat -c '%a %u %h' 1 2; \
                    readlink link; stat -c %F fifo; stat -c %s holes";

impl Belongings {
    fn put_into(home: &Home) -> Self {
        import_image(home);
        home.warren(&["volume", "create", "data"]).good();
        home.warren_with(&["volume", "put", "-", "data", "a/file"], b"of the volume").good();
        let sandbox = home.create(&json!({"name": "a"}));
        sandbox.root(
            "mkdir /root/t; cd /root/t; for f in 1 2 3 4 5; do head -c 300000 /dev/urandom > $f; \
             done; chmod 4711 1; chown 1000 2; ln 2 hard; ln -s /etc/passwd link; mkfifo fifo; \
             truncate -s 1000000 holes; rm /usr/share/doc -rf; echo before > /root/word",
        );
        let saved = sandbox.api("POST", "/snapshots", b"{}").json();
        sandbox.root("echo after > /root/word");
        let sums = sandbox.root(SUMS);
        home.warren(&["stop", "a"]).good();
        let snapshot = saved["id"].as_str().expect("an id").to_owned();
        Self { sandbox: sandbox.id.clone(), sums, snapshot }
    }

    /// Everything is there and works.
    #[track_caller]
    fn check(&self, home: &Home) {
        let started = home.warren(&["start", &self.sandbox]);
        assert!(started.code() == 0, "{}\n{}", started.errors(), home.log());
        let sandbox = Sandbox { home, id: self.sandbox.clone(), created: Value::Null };
        assert_eq!(sandbox.root(SUMS), self.sums);
        assert_eq!(sandbox.root("cat /root/word"), "after\n");
        let saved = home.create(&json!({"snapshot": self.snapshot}));
        assert_eq!(saved.root("cat /root/word"), "before\n");
        home.warren(&["rm", "--force", &saved.id]).good();
        let read = home.warren(&["volume", "cat", "data", "a/file"]).good();
        assert_eq!(read.text(), "of the volume");
        let ran = home.warren(&["run", "--image", "team/tool:1", "--", "cat", "/srv/word"]).good();
        assert_eq!(ran.text(), "of the image\n");
        home.warren(&["stop", &self.sandbox]).good();
    }
}

fn import_image(home: &Home) {
    let base = Tree::of(small_root().path()).expect("a small root").into_tar();
    let top = Tree::default().directory("srv/").file("srv/word", b"of the image\n").into_tar();
    let image = Image::new(vec![Layer::gzip(&base), Layer::plain(top)], &json!({}));
    let place = tempfile::tempdir().expect("a directory");
    write_layout(&image, "team/tool:1", place.path()).expect("write an image");
    home.warren(&["image", "import", &place.path().display().to_string()]).good();
}

#[test]
fn what_there_is_goes_into_a_pool_and_back_out_of_it() {
    for driver in ["btrfs", "xfs"] {
        if !can_mount(driver) {
            continue;
        }
        let home = Home::new();
        let belongings = Belongings::put_into(&home);
        home.warren(&["start", "a"]).good();
        let make = ["setup", "storage", "--size", "512MiB", "--driver", driver];
        let refused = home.warren(&make);
        assert!(refused.errors().contains("that run"), "{}", refused.errors());
        home.warren(&["stop", "a"]).good();
        let made = home.warren(&make).good();
        let moved = "moved into it: images, builds, volumes, snapshots, stopped sandboxes";
        let moved = moved.replace("builds", "files of builds");
        assert!(made.errors().contains(&moved) || made.text().contains(&moved), "{made:?}");
        assert!(is_mounted(&home) && !home.data().join("volumes").exists());
        belongings.check(&home);
        // What is limited there cannot be moved to where nothing limits.
        if has_limits(&home) {
            home.warren(&["volume", "create", "sized", "--size", "64MiB"]).good();
            let refused = home.warren(&REMOVE);
            assert!(refused.errors().contains("has a size limit"), "{}", refused.errors());
            home.warren(&["volume", "resize", "sized", "none"]).good();
        }
        home.warren(&REMOVE).good();
        assert!(!is_mounted(&home) && home.data().join("volumes").exists());
        assert_eq!(left(&home), [""; 0]);
        belongings.check(&home);
    }
}

/// What there is of a pool.
fn left(home: &Home) -> Vec<String> {
    let names = fs::read_dir(home.data()).expect("the data directory").flatten();
    let names = names.map(|it| it.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("pool")).collect()
}

#[test]
fn what_does_not_fit_stays_where_it_is() {
    if !can_mount("btrfs") {
        return;
    }
    let home = Home::new();
    home.warren(&["volume", "create", "data"]).good();
    let large = vec![7; 400 << 20];
    home.warren_with(&["volume", "put", "-", "data", "large"], &large).good();
    let refused = home.warren(&["setup", "storage", "--size", "320MiB"]);
    assert!(refused.errors().contains("does not fit"), "{}", refused.errors());
    assert_eq!(left(&home), [""; 0]);
    let size = home.warren(&["volume", "ls", "data", "--json"]).good().text();
    assert!(size.contains(&large.len().to_string()), "{size}");
}

#[test]
fn whoever_dies_while_it_is_moved_leaves_the_old_or_the_new_whole() {
    if !can_mount("btrfs") {
        return;
    }
    let home = Home::new();
    let belongings = Belongings::put_into(&home);
    let mut ends = Vec::new();
    for round in 0..ROUNDS {
        let had = in_pool(&home);
        cut_off(&home, round, had);
        belongings.check(&home);
        let has = in_pool(&home);
        ends.push((had, has));
        // What does not count is gone with the next start of a server.
        let stale = if has { home.data().join("volumes") } else { home.data().join("pool.img") };
        assert!(!stale.exists(), "{} after round {round}", stale.display());
        assert_eq!(is_mounted(&home), has, "round {round}");
        for name in ["pool.record.intent", "pool.return"] {
            assert!(!home.data().join(name).exists(), "{name} after round {round}");
        }
        // Half of the rounds begin in a pool, however the last one ended.
        if has != (round % 4 >= 1 && round % 4 < 3) {
            home.warren(if has { &REMOVE } else { &MAKE }).good();
            belongings.check(&home);
        }
    }
    println!("in a pool before and after: {ends:?}");
}

fn in_pool(home: &Home) -> bool {
    home.data().join("pool.record").exists()
}

/// Begins to move, and dies at one moment or another.
fn cut_off(home: &Home, round: usize, had: bool) {
    let mut moving = home.command(if had { &REMOVE } else { &MAKE });
    let mut moving = moving.stderr(std::process::Stdio::null()).spawn().expect("start moving");
    let seen = moments(&home.data(), had);
    let seen = &seen[(round / 2) % seen.len()];
    wait_until("it comes so far", || seen() || moving.try_wait().expect("look at it").is_some());
    kill(moving.id());
    moving.wait().expect("it has ended");
}

type Moment = Box<dyn Fn() -> bool>;

/// What can be seen of a move, from its beginning to its end.
fn moments(data: &Path, had: bool) -> Vec<Moment> {
    let there = |name: &str| {
        let path = data.join(name);
        Box::new(move || path.exists()) as Moment
    };
    let gone = |path: PathBuf| Box::new(move || !path.exists()) as Moment;
    if had {
        let names = ["pool.return", "pool.return/snapshots", "pool.return/trash", "images"];
        let mut moments: Vec<_> = names.map(there).into();
        moments.push(gone(data.join("pool.record")));
        return moments;
    }
    let names = ["pool.img", "pool/images", "pool/snapshots", "pool/stopped", "pool.record"];
    let mut moments: Vec<_> = names.map(there).into();
    moments.push(gone(data.join("images")));
    moments
}
