//! Snapshots, forks, and going back, of real sandboxes.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::{Home, Leftovers, wait_until};

/// What a command in a sandbox prints.
fn inside(home: &Home, sandbox: &str, line: &str) -> String {
    home.warren(&["exec", sandbox, "--", "sh", "-c", line]).good().text()
}

fn create(home: &Home, flags: &[&str]) -> String {
    let arguments: Vec<&str> = ["create"].iter().chain(flags).copied().collect();
    home.warren(&arguments).good().text().trim().to_owned()
}

fn json(home: &Home, arguments: &[&str]) -> Value {
    let arguments: Vec<&str> = arguments.iter().chain(&["--json"]).copied().collect();
    serde_json::from_str(&home.warren(&arguments).good().text()).unwrap()
}

fn refused(home: &Home, arguments: &[&str], why: &str) {
    let output = home.warren(arguments);
    assert_ne!(output.code(), 0, "{arguments:?}");
    assert!(output.errors().contains(why), "{}", output.errors());
}

#[test]
fn a_snapshot_holds_what_was_and_its_sandbox_goes_on() {
    let home = Home::new();
    let first = create(&home, &["--name", "first", "--env", "TOKEN=secret"]);
    let prepare = "mkdir -p work/deep; echo one > work/file; ln -s file work/link; \
        echo gone > work/gone; chmod 4755 work/deep; sudo touch /root/roots; sudo rm /etc/issue; \
        (while :; do date +%N >> work/counter; sleep 0.01; done) > /dev/null 2>&1 &";
    home.warren(&["exec", "--detach", "first", "--", "sh", "-c", prepare]).good();
    wait_until("it counts", || inside(&home, "first", "ls work").contains("counter"));
    let before =
        inside(&home, "first", "pgrep -f '[d]ate' | head -1; cat /proc/sys/kernel/hostname");
    let made = json(&home, &["snapshot", "create", "first", "--name", "base", "--tag", "t1"]);
    assert_eq!(made["sandbox_id"], first.as_str());
    assert!(made["files"].as_u64().unwrap() >= 7, "{made}");
    // It goes on: the count grows.
    let lines = |sandbox: &str| -> u64 {
        inside(&home, sandbox, "wc -l < work/counter").trim().parse().unwrap()
    };
    let now = lines("first");
    wait_until("the sandbox goes on", || lines("first") > now);
    assert!(!before.is_empty());
    inside(&home, "first", "echo two > work/file; rm work/gone; echo more > work/more");

    let second = create(&home, &["--snapshot", "base", "--name", "second"]);
    let seen = inside(
        &home,
        "second",
        "cat work/file work/link work/gone; stat -c %a work/deep; \
        test -e work/more || echo none; sudo ls /root/roots; test -e /etc/issue || echo removed; \
        echo [$TOKEN]; cat /etc/hostname",
    );
    let expected = format!("one\none\ngone\n4755\nnone\n/root/roots\nremoved\n[]\n{second}\n");
    assert_eq!(seen, expected);
    // Nothing moves in it: what ran in the first runs there alone.
    let count = lines("second");
    assert_eq!(lines("second"), count);
    let ids: BTreeSet<_> =
        ["first", "second"].map(|it| inside(&home, it, "cat /etc/machine-id")).into();
    assert_eq!(ids.len(), 2);

    let next = json(&home, &["snapshot", "create", "second", "--name", "next"]);
    assert_eq!(next["parent"], made["id"]);
    let tree = home.warren(&["snapshot", "list"]).good().text();
    let places: Vec<_> =
        [&made, &next].iter().map(|it| tree.find(it["id"].as_str().unwrap()).unwrap()).collect();
    assert!(places[0] < places[1] && tree.contains(&format!("  {}", next["id"].as_str().unwrap())));
    // The files of a removed one stay as long as something is made of them.
    home.warren(&["snapshot", "rm", "base"]).good();
    home.warren(&["rm", "first"]).good();
    let third = create(&home, &["--snapshot", "next"]);
    assert_eq!(inside(&home, &third, "cat work/file"), "one\n");
    home.warren(&["rm", "second", &third]).good();
    home.warren(&["snapshot", "rm", "next"]).good();
    let places = || std::fs::read_dir(home.data().join("snapshots")).unwrap().count();
    wait_until("the files of all snapshots are gone", || places() == 0);
    wait_until("nothing is left", || Leftovers::of(&home).0.is_empty());
}

#[test]
fn a_sandbox_goes_back_in_place_and_keeps_who_it_is() {
    let home = Home::new();
    let id = create(&home, &["--name", "box", "--env", "A=b"]);
    inside(&home, "box", "echo good > state");
    let machine = inside(&home, "box", "cat /etc/machine-id");
    home.warren(&["snapshot", "create", "box", "--name", "good"]).good();
    inside(&home, "box", "echo bad > state; echo junk > junk; sleep 1000 > /dev/null 2>&1 &");
    let back = json(&home, &["rollback", "box", "good"]);
    assert_eq!((back["id"].as_str(), back["state"].as_str()), (Some(&*id), Some("running")));
    let seen = inside(
        &home,
        "box",
        "cat state; test -e junk || echo none; echo $A; \
        pgrep -x sleep || echo idle; cat /etc/machine-id",
    );
    assert_eq!(seen, format!("good\nnone\nb\nidle\n{machine}"));
    // Stopped and started, it is what it went back to, with what came since.
    inside(&home, "box", "echo new > new");
    home.warren(&["stop", "box"]).good();
    home.warren(&["start", "box"]).good();
    assert_eq!(inside(&home, "box", "cat state new"), "good\nnew\n");
    home.warren(&["stop", "box"]).good();
    home.warren(&["rollback", "box", "good"]).good();
    assert_eq!(inside(&home, "box", "cat state; test -e new || echo none"), "good\nnone\n");
    refused(&home, &["rollback", "box", "missing"], "there is no snapshot missing");
}

#[test]
fn forks_are_independent_and_the_best_is_kept() {
    let home = Home::new();
    let parent = create(&home, &["--name", "parent", "--env", "TOKEN=secret", "--label", "a=b"]);
    inside(&home, "parent", "mkdir w; for i in $(seq 200); do echo $i > w/$i; done");
    home.warren(&["fork", "parent", "-n", "4", "--name", "try", "--env", "N=1"]).good();
    let mut seen = BTreeSet::new();
    for number in 1..=4 {
        let name = format!("try-{number}");
        let line = "cat w/200; echo [$TOKEN$N]; cat /etc/machine-id /etc/hostname; hostname -I";
        let text = inside(&home, &name, line);
        assert!(text.starts_with("200\n[1]\n"), "{text}");
        seen.extend(text.lines().skip(2).map(str::to_owned));
        inside(&home, &name, &format!("echo {number} > result; rm w/1; echo {number} > w/2"));
    }
    assert_eq!(seen.len(), 12, "machine-id, hostname and address of each are its own: {seen:?}");
    let info = json(&home, &["info", "try-1"]);
    assert_eq!((&info["parent"], &info["labels"]["a"]), (&parent.clone().into(), &"b".into()));
    assert_eq!(inside(&home, "parent", "cat w/1 w/2; test -e result || echo none"), "1\n2\nnone\n");

    home.warren(&["keep", "try-3", "--rm"]).good();
    let kept = inside(&home, "parent", "cat result w/2; test -e w/1 || echo none; echo $TOKEN");
    assert_eq!(kept, "3\n3\nnone\nsecret\n");
    refused(&home, &["info", "try-3"], "there is no sandbox try-3");
    assert_eq!(inside(&home, "try-4", "cat result"), "4\n");
    refused(&home, &["keep", "parent"], "not a fork");
    // Forks of forks, one on the other.
    let mut last = "try-4".to_owned();
    for depth in 0..5 {
        let text = home.warren(&["fork", &last]).good().text();
        last = text.trim().to_owned();
        inside(&home, &last, &format!("echo {depth} >> depth"));
    }
    assert_eq!(inside(&home, &last, "cat depth result"), "0\n1\n2\n3\n4\n4\n");
    home.warren(&["rm", "--all", "--force"]).good();
    let places = || std::fs::read_dir(home.data().join("snapshots")).unwrap().count();
    wait_until("the files of all forks are gone", || places() == 0);
}
