//! Volumes: seen by many sandboxes, kept by none.

use serde_json::{Value, json};

use crate::{
    harness::{Home, Sandbox, is_root, skip, wait_until},
    storage::{has_limits, pool},
};

/// Makes a volume; gives its id.
#[track_caller]
fn volume(home: &Home, arguments: &[&str]) -> String {
    let made = home.warren(&[&["volume", "create"], arguments].concat()).good();
    made.text().trim().to_owned()
}

/// A sandbox with a volume at `/data`.
#[track_caller]
fn with_volume<'a>(home: &'a Home, name: &str, read_only: bool) -> Sandbox<'a> {
    let volume = json!({"volume": name, "target": "/data", "read_only": read_only});
    home.create(&json!({"volumes": [volume]}))
}

#[track_caller]
fn info(home: &Home, name: &str) -> Value {
    let text = home.warren(&["volume", "info", name, "--json"]).good().text();
    serde_json::from_str(&text).expect("a volume")
}

#[test]
fn a_volume_outlives_sandboxes_and_servers_and_is_shared() {
    let home = Home::new();
    let id = volume(&home, &["data"]);
    let writer = with_volume(&home, "data", false);
    let wrote = writer.exec(&["sh", "-c", "id -u; echo hello > /data/file; mkdir /data/d"]);
    assert_eq!((&wrote["exit_code"], &wrote["stdout"]), (&json!(0), &json!("1000\n")), "{wrote}");
    writer.root("echo root > /data/roots; chmod 600 /data/roots");
    let reader = with_volume(&home, &id, true);
    let seen = "cat /data/file; stat -c %u:%g /data/file /data/roots; touch /data/no 2>&1";
    let read = reader.exec_as(&json!({"command": ["sh", "-c", seen], "user": "root"}));
    let said = read["stdout"].as_str().expect("text");
    assert!(said.starts_with("hello\n1000:1000\n0:0\n"), "{read}");
    assert!(said.contains("Read-only file system"), "{read}");
    assert_eq!(info(&home, "data")["sandboxes"], 2);
    let refused = home.warren(&["volume", "rm", "data"]);
    assert!(refused.errors().contains("is used by 2 sandboxes"), "{}", refused.errors());

    home.warren(&["stop", &writer.id]).good();
    home.kill_server();
    let refused = home.warren(&["volume", "rm", "data"]);
    assert!(refused.errors().contains("is used by 2 sandboxes"), "{}", refused.errors());
    home.warren(&["start", &writer.id]).good();
    assert_eq!(writer.root("cat /data/file"), "hello\n");
    reader.root("grep -q hello /data/file");

    home.warren(&["rm", "--all", "--force"]).good();
    assert_eq!(home.warren(&["volume", "cat", "data", "/file"]).good().text(), "hello\n");
    home.warren(&["volume", "rm", "data"]).good();
    assert!(!home.data().join("volumes").join(&id).exists(), "its files are gone");
    let gone = home.warren(&["run", "--volume", "data:/data", "--", "true"]);
    assert!(gone.errors().contains("there is no volume data"), "{}", gone.errors());
}

#[test]
fn files_go_in_and_out_without_a_sandbox() {
    let home = Home::new();
    volume(&home, &["data"]);
    let large: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    home.warren_with(&["volume", "put", "-", "data", "a/b/large"], &large).good();
    let got = home.warren(&["volume", "cat", "data", "a/b/large"]).good();
    assert!(got.stdout == large, "it came back as it went in");
    let target = home.data().join("../got");
    home.warren(&["volume", "get", "data", "/a/b/large", &target.display().to_string()]).good();
    assert!(std::fs::read(&target).expect("the file") == large);
    let listed = home.warren(&["volume", "ls", "data", "--depth", "3", "--json"]).good().text();
    let listed: Value = serde_json::from_str(&listed).expect("a list");
    let paths: Vec<_> =
        listed["entries"].as_array().expect("entries").iter().map(|it| &it["path"]).collect();
    assert_eq!(paths, ["/a", "/a/b", "/a/b/large"]);
    let part =
        home.api_with("GET", "/v1/volumes/data/files?path=/a/b/large", "range: bytes=4-7", b"");
    assert_eq!((part.status, part.body.as_slice()), (206, &1_u32.to_le_bytes()[..]));
    home.warren(&["volume", "mkdir", "data", "x/y"]).good();
    home.warren(&["volume", "remove", "data", "/a", "/x"]).good();
    let empty = home.warren(&["volume", "ls", "data", "--quiet"]).good();
    assert_eq!(empty.text(), "");
    for (path, expected) in [("/nothing", "no such file"), ("../../warren.db", "out of the volume")]
    {
        let refused = home.warren(&["volume", "cat", "data", path]);
        assert!(refused.errors().contains(expected), "{}", refused.errors());
    }
}

#[test]
fn what_a_guest_leaves_in_a_volume_leads_nowhere() {
    let home = Home::new();
    volume(&home, &["data"]);
    let hostile = with_volume(&home, "data", false);
    hostile.root(
        "ln -s /etc/shadow /data/absolute; ln -s ../../../../etc/shadow /data/relative; \
         ln -s / /data/root; mkfifo /data/fifo; ln -s loop /data/loop",
    );
    for (path, expected) in [
        ("absolute", "out of the volume"),
        ("relative", "out of the volume"),
        ("root/etc/shadow", "out of the volume"),
        ("loop", "out of the volume"),
        ("fifo", "no file that can be used"),
    ] {
        let refused = home.warren(&["volume", "cat", "data", path]);
        assert!(refused.errors().contains(expected), "{path}: {}", refused.errors());
    }
    let refused =
        home.warren_with(&["volume", "put", "-", "data", "root/tmp/warren-escaped"], b"x");
    assert!(refused.errors().contains("out of the volume"), "{}", refused.errors());
    assert!(!std::path::Path::new("/tmp/warren-escaped").exists());
    // Set-id programs of one sandbox give nothing to another.
    hostile.root("cp /usr/bin/id /data/id && chmod 4755 /data/id");
    let other = with_volume(&home, "data", true);
    let ran = other.exec(&["/data/id", "-u"]);
    assert_eq!(ran["stdout"], "1000\n", "{ran}");
}

#[test]
fn another_project_sees_nothing_of_it() {
    let home = Home::new();
    let id = volume(&home, &["data"]);
    home.warren(&["project", "create", "other"]).good();
    for name in ["data", &id] {
        let refused = home.warren(&["--project", "other", "volume", "info", name]);
        assert!(refused.errors().contains("there is no volume"), "{}", refused.errors());
        let mount = format!("{name}:/data");
        let refused = home.warren(&["--project", "other", "run", "--volume", &mount, "--", "true"]);
        assert!(refused.errors().contains("there is no volume"), "{}", refused.errors());
    }
    volume_of_project(&home);
}

fn volume_of_project(home: &Home) {
    home.warren(&["--project", "other", "volume", "create", "data"]).good();
    let refused = home.warren(&["project", "rm", "other"]);
    assert!(refused.errors().contains("has 1 volumes"), "{}", refused.errors());
    home.warren(&["--project", "other", "volume", "rm", "data"]).good();
    home.warren(&["project", "rm", "other"]).good();
}

#[test]
fn copies_are_their_own_and_snapshots_nobodys_to_change() {
    let home = Home::new();
    copies(&home);
    if !is_root() {
        skip!("sizes need a storage pool, which needs root");
    }
    let refused = home.warren(&["volume", "create", "sized", "--size", "64MiB"]);
    assert!(refused.errors().contains("warren setup storage"), "{}", refused.errors());
    let refused = home.warren(&["create", "--disk", "64MiB"]);
    assert!(refused.errors().contains("warren setup storage"), "{}", refused.errors());
}

fn copies(home: &Home) {
    volume(home, &["data"]);
    home.warren_with(&["volume", "put", "-", "data", "file"], b"one").good();
    home.warren(&["volume", "snapshot", "data", "saved"]).good();
    home.warren(&["volume", "clone", "data", "copy"]).good();
    home.warren_with(&["volume", "put", "-", "copy", "file"], b"two").good();
    home.warren(&["volume", "remove", "data", "file"]).good();
    assert_eq!(home.warren(&["volume", "cat", "saved", "file"]).good().text(), "one");
    assert_eq!(home.warren(&["volume", "cat", "copy", "file"]).good().text(), "two");
    let refused = home.warren_with(&["volume", "put", "-", "saved", "file"], b"three");
    assert!(refused.errors().contains("is a snapshot"), "{}", refused.errors());
    let refused = home.warren(&["run", "--volume", "saved:/data", "--", "true"]);
    assert!(refused.errors().contains("read-only alone"), "{}", refused.errors());
    let run = ["run", "--volume", "saved:/data:ro", "--", "cat", "/data/file"];
    assert_eq!(home.warren(&run).good().text(), "one");
    home.warren(&["volume", "clone", "saved", "again"]).good();
    home.warren_with(&["volume", "put", "-", "again", "file"], b"four").good();
}

#[test]
fn sizes_of_volumes_and_disks_hold() {
    let Some(home) = pool("btrfs", "512MiB") else { return };
    // Nobody gets around a limit by subvolumes of their own.
    let escape = "import fcntl,os,struct; d=os.open('/data',os.O_RDONLY); \
        fcntl.ioctl(d,0x5000940e,bytearray(struct.pack('q4088s',0,b'sub')))";
    sizes_hold(&home, "Disk quota exceeded", escape, "not permitted");
}

#[test]
fn sizes_of_volumes_and_disks_hold_on_xfs() {
    let Some(home) = pool("xfs", "512MiB") else { return };
    if !has_limits(&home) {
        skip!("this kernel has no quotas for xfs");
    }
    // Nor by files of another project.
    let escape = "import fcntl,os,struct; d=os.open('/root',os.O_RDONLY); \
        a=bytearray(28); fcntl.ioctl(d,0x801c581f,a); a[12:16]=bytes(4); \
        fcntl.ioctl(d,0x401c5820,a)";
    sizes_hold(&home, "No space left on device", escape, "Invalid argument");
}

/// `full_says` is what the kernel says, `escape` a way around it and `refused` what becomes of that.
fn sizes_hold(home: &Home, full_says: &str, escape: &str, refused: &str) {
    copies(home);
    volume(home, &["small", "--size", "32MiB"]);
    let sandbox = home.create(&json!({
        "disk_bytes": 48 << 20,
        "volumes": [{"volume": "small", "target": "/data"}],
    }));
    assert_eq!(sandbox.get()["limits"]["disk_bytes"], 48 << 20);
    for (place, limit) in [("/data/full", 32_u64 << 20), ("/root/full", 48 << 20)] {
        let line = format!("head -c 200M /dev/urandom > {place}; stat -c %s {place}");
        let full = sandbox.exec_as(&json!({"command": ["sh", "-c", line], "user": "root"}));
        assert!(full["stderr"].as_str().expect("text").contains(full_says), "{full}");
        let size: u64 = full["stdout"].as_str().expect("text").trim().parse().expect("a size");
        assert!(size <= limit && size > limit / 2, "{place}: {size} of {limit}");
    }
    wait_until("the event of the full disk", || {
        let metrics = sandbox.api("GET", "/metrics", b"").json();
        metrics["disk_bytes"].as_u64().expect("counted") > 40 << 20
    });
    let kinds = home.events(&sandbox.id, "disk.full");
    assert_eq!(kinds.last().expect("an event"), "disk.full");
    let used = info(home, "small")["used_bytes"].as_u64().expect("counted");
    assert!(used > 16 << 20 && used <= 33 << 20, "{used}");
    // A larger one takes more at once; no other sandbox has noticed anything.
    home.warren(&["volume", "resize", "small", "64MiB"]).good();
    sandbox.root("head -c 8M /dev/urandom > /data/more");
    home.warren(&["run", "--", "sh", "-c", "head -c 100M /dev/urandom > x"]).good();
    // A full one can be stopped, started, and made room in.
    home.warren(&["stop", &sandbox.id]).good();
    home.warren(&["start", &sandbox.id]).good();
    let full = "head -c 100M /dev/urandom > /root/again";
    let full = sandbox.exec_as(&json!({"command": ["sh", "-c", full], "user": "root"}));
    assert_ne!(full["exit_code"], 0, "its limit is there again: {full}");
    sandbox.root("rm /root/full /root/again; head -c 8M /dev/urandom > /root/fits");
    let tried = sandbox.exec_as(&json!({"command": ["python3", "-c", escape], "user": "root"}));
    assert!(tried["stderr"].as_str().expect("text").contains(refused), "{tried}");
    home.warren(&["rm", "--force", &sandbox.id]).good();
    home.warren(&["volume", "rm", "small"]).good();
}
