//! Snapshots by way of a registry.

use serde_json::{Value, json};
use warren_test_registry::{Proxy, Registry};

use crate::{
    harness::{Home, Sandbox, wait_until},
    pulled::{list, registry, tool},
};

/// What the command line prints as JSON.
#[track_caller]
fn said(home: &Home, arguments: &[&str]) -> Value {
    let text = home.warren(&[&["--json"], arguments].concat()).good().text();
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("not JSON: {text}"))
}

#[track_caller]
fn snapshots(home: &Home) -> usize {
    said(home, &["snapshot", "list"])["snapshots"].as_array().expect("a list").len()
}

/// A sandbox on an image of the registry with two snapshots, of which the second is `later`.
fn saved<'a>(home: &'a Home, registry: &Registry) -> Sandbox<'a> {
    registry.put("team/tool", "1", &tool()).unwrap();
    let image = format!("{}/team/tool:1", registry.address());
    let first = home.create(&json!({"image": image, "name": "work"}));
    first.root("echo one > /work/one; : > /work/greeting");
    home.warren(&["snapshot", "create", "work", "--name", "built"]).good();
    let second = home.create(&json!({"snapshot": "built", "name": "more"}));
    second.root("echo two > /work/two");
    home.warren(&["snapshot", "create", "more", "--name", "later"]).good();
    second
}

#[test]
fn a_snapshot_on_an_image_goes_through_a_registry_with_all_that_it_lies_on() {
    let Some(registry) = registry() else { return };
    let (here, there) = (Home::new(), Home::new());
    saved(&here, &registry);
    let name = format!("{}/saved/work:later", registry.address());
    let push = ["snapshot", "push", "later", &name];
    let digest = here.warren(&push).good().text();
    assert!(digest.starts_with("sha256:"), "{digest}");
    assert_eq!(here.warren(&push).good().text(), digest, "the same files are the same image");

    let pull = ["snapshot", "pull", &name, "--name", "came", "--tag", "far"];
    let came = said(&there, &pull);
    assert_eq!((came["name"].as_str(), came["tags"][0].as_str()), (Some("came"), Some("far")));
    assert_eq!(came["layers"], 1);
    let other = there.create(&json!({"snapshot": "came"}));
    let read = "cat /work/one /work/two /work/greeting; echo $FROM_IMAGE";
    assert_eq!(other.root(read), "one\ntwo\nyes\n");
    // Who commands run as, and where, is the image's word.
    let asked = other.exec(&["/bin/sh", "-c", "pwd; /bin/ls -n /proc/self/status"]);
    let asked = asked["stdout"].as_str().expect("text").to_owned();
    assert!(asked.starts_with("/work\n") && asked.contains(" 1000 "), "{asked}");

    // The image came along without a name, and stays for as long as it is needed.
    let images = list(&there);
    assert_eq!(images["images"][0]["references"], json!([]));
    assert_eq!(images["images"][0]["in_use"], true);
    there.warren(&["image", "prune", "--all"]).good();
    assert_eq!(there.create(&json!({"snapshot": "came"})).root(read), "one\ntwo\nyes\n");
    there.warren(&["rm", "--all", "--force"]).good();
    there.warren(&["snapshot", "rm", "came"]).good();
    crate::harness::wait_until("the image can go", || {
        there.warren(&["image", "prune"]).good();
        list(&there)["images"] == json!([])
    });

    // Where the image is, none comes along: by digest this time.
    let by_digest = format!("{}/saved/work@{}", registry.address(), digest.trim());
    said(&here, &["snapshot", "pull", &by_digest, "--name", "back"]);
    assert_eq!(list(&here)["images"].as_array().unwrap().len(), 1);
    let same = here.warren(&["snapshot", "diff", "later", "back"]).good().text();
    assert_eq!(same, "");
}

#[test]
fn a_file_with_a_snapshot_on_an_image_wants_that_image() {
    let Some(registry) = registry() else { return };
    let (here, there) = (Home::new(), Home::new());
    saved(&here, &registry);
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("later.tar");
    let file = file.to_str().unwrap();
    here.warren(&["snapshot", "export", "later", file]).good();
    let import = ["snapshot", "import", file, "--name", "came"];
    let refused = there.warren(&import);
    let image = format!("{}/team/tool:1", registry.address());
    let error = refused.errors();
    assert!(error.contains(&image) && error.contains("pull that first"), "{error}");
    assert_eq!(snapshots(&there), 0);
    there.warren(&["image", "pull", &image]).good();
    there.warren(&import).good();
    let other = there.create(&json!({"snapshot": "came"}));
    let read = "cat /work/one /work/two /work/greeting; echo $FROM_IMAGE; /bin/ls /etc";
    let told = other.root(read);
    assert!(told.starts_with("one\ntwo\nyes\n") && !told.contains("motd"), "{told}");
    assert_eq!(list(&there)["images"][0]["in_use"], true);
}

#[test]
fn a_snapshot_of_the_host_image_goes_through_a_registry_alone() {
    let Some(registry) = registry() else { return };
    let (here, there) = (Home::new(), Home::new());
    let sandbox = here.create(&json!({"name": "work"}));
    sandbox.root("mkdir /srv/d && echo one > /srv/d/f && chown 1000:7 /srv/d && rm /etc/shells");
    here.warren(&["snapshot", "create", "work", "--name", "built"]).good();
    let name = format!("{}/saved/work", registry.address());
    here.warren(&["snapshot", "push", "built", &name]).good();
    there.warren(&["snapshot", "pull", &name, "--name", "came"]).good();
    let other = there.create(&json!({"snapshot": "came"}));
    let read = "cat /srv/d/f; stat -c %u:%g /srv/d; ls /etc/shells 2>/dev/null | wc -l; hostname";
    let told = other.root(read);
    assert!(told.starts_with("one\n1000:7\n0\n") && !told.contains("work"), "{told}");
    assert_eq!(list(&there)["images"], json!([]));
}

#[test]
fn what_cannot_be_pulled_as_a_snapshot_is_said_and_leaves_nothing() {
    let Some(registry) = registry() else { return };
    let home = Home::new();
    saved(&home, &registry);
    let name = |rest: &str| format!("{}/{rest}", registry.address());
    let before = list(&home);
    let check = |arguments: &[&str], words: &str| {
        let ended = home.warren(arguments);
        assert_ne!(ended.code(), 0, "{arguments:?}: {}", ended.text());
        assert!(ended.errors().contains(words), "{arguments:?}: {}", ended.errors());
        assert_eq!(snapshots(&home), 2);
        // What was fetched to be looked at goes once nobody holds it.
        wait_until("nothing of it is left", || list(&home) == before);
    };
    check(&["snapshot", "pull", &name("team/tool:1")], "no snapshot of ours");
    check(&["snapshot", "pull", &name("team/none:1")], "has no");
    check(&["snapshot", "pull", "127.0.0.1:1/x:y"], "could not reach the registry 127.0.0.1:1");
    check(&["snapshot", "pull", "Not A Name"], "reference");
    check(&["snapshot", "push", "later", "Not A Name"], "target");
    check(&["snapshot", "push", "none", &name("x:y")], "no snapshot none");
    check(&["snapshot", "push", "later", "127.0.0.1:1/x:y"], "could not reach the registry");
    home.warren(&["snapshot", "push", "later", &name("saved/work:1")]).good();
    check(&["snapshot", "pull", &name("saved/work:1"), "--name", "built"], "built exists");
}

#[test]
fn a_server_that_is_killed_while_it_pulls_a_snapshot_has_none() {
    let Some(registry) = registry() else { return };
    let (here, there) = (Home::new(), Home::new());
    let sandbox = here.create(&json!({"name": "work"}));
    sandbox.root("head -c 3000000 /dev/urandom > /srv/noise");
    here.warren(&["snapshot", "create", "work", "--name", "built"]).good();
    let proxy = Proxy::start(registry.address()).unwrap();
    let name = format!("{}/saved/work:1", proxy.address());
    here.warren(&["snapshot", "push", "built", &name]).good();
    there.warren(&["list"]).good();
    for bytes in [600, 100_000, 2_000_000] {
        proxy.stall_after(bytes);
        let mut pulling = there.command(&["snapshot", "pull", &name, "--name", "came"]);
        let mut pulling = pulling.spawn().expect("start a pull");
        proxy.wait_until_cut();
        there.kill_server();
        pulling.wait().expect("it ends");
        proxy.heal();
        assert_eq!(snapshots(&there), 0, "after {bytes}");
        for directory in ["images/blobs/sha256", "images/partial", "snapshots"] {
            let left = std::fs::read_dir(there.data().join(directory)).unwrap().count();
            assert_eq!(left, 0, "{directory} after {bytes}");
        }
    }
    // A connection that is lost is made again, and goes on where it was.
    proxy.cut_after(1_000_000);
    let mut pulling = there.command(&["snapshot", "pull", &name, "--name", "came"]);
    let mut pulling = pulling.spawn().expect("start a pull");
    proxy.wait_until_cut();
    proxy.heal();
    assert!(pulling.wait().expect("it ends").success());
    let sum = "sha256sum < /srv/noise";
    assert_eq!(there.create(&json!({"snapshot": "came"})).root(sum), sandbox.root(sum));
}
