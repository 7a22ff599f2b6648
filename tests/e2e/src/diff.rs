//! How the files of sandboxes differ.

use serde_json::{Value, json};

use crate::harness::Home;

/// The differences as JSON, one per line.
fn entries(home: &Home, arguments: &[&str]) -> Vec<Value> {
    let output = home.warren(&[&["diff", "--json"], arguments].concat()).good();
    output.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn paths(entries: &[Value]) -> Vec<(&str, &str)> {
    let text = |value: &Value, name: &str| value[name].as_str().unwrap().to_owned();
    entries
        .iter()
        .map(|it| {
            assert!(!text(it, "path").is_empty());
            (it["change"].as_str().unwrap(), it["path"].as_str().unwrap())
        })
        .collect()
}

#[test]
fn what_a_sandbox_has_changed_is_shown() {
    let home = Home::new();
    let sandbox = home.create(&json!({}));
    // A new sandbox has changed nothing.
    assert_eq!(paths(&entries(&home, &[&sandbox.id])), []);
    sandbox.root(
        "mkdir /srv/d && echo one > /srv/d/f && ln -s f /srv/d/l && echo more >> /etc/profile \
         && rm /etc/shells && chmod 700 /home && rm -r /var/tmp && mkdir /var/tmp",
    );
    let found = entries(&home, &[&sandbox.id, "--patch"]);
    let expected = [
        ("changed", "/etc/profile"),
        ("removed", "/etc/shells"),
        ("changed", "/home"),
        ("added", "/srv/d"),
        ("added", "/srv/d/f"),
        ("added", "/srv/d/l"),
    ];
    let all = paths(&found);
    let seen: Vec<_> = all.into_iter().filter(|it| it.1 != "/var/tmp").collect();
    assert_eq!(seen, expected);
    let entry = |path: &str| found.iter().find(|it| it["path"] == path).unwrap();
    let patch = entry("/etc/profile")["patch"].as_str().unwrap();
    assert!(patch.contains("+++ b/etc/profile\n") && patch.ends_with("+more\n"), "{patch}");
    assert_eq!(entry("/home")["differs_in"], json!(["mode"]));
    assert_eq!(entry("/srv/d/f")["after"]["size"], 4);
    assert_eq!(entry("/srv/d/l")["after"]["symlink_target"], "f");
    let text = home.warren(&["diff", &sandbox.id]).good().text();
    assert!(text.contains("A  /srv/d/f  (") && text.contains("D  /etc/shells"), "{text}");
    // Its name is no difference, unless it is asked for.
    let with = entries(&home, &[&sandbox.id, "--identity"]);
    assert!(paths(&with).iter().any(|it| it.1 == "/etc/hostname"), "{with:?}");
}

#[test]
fn two_sandboxes_are_compared_also_when_they_are_stopped() {
    let home = Home::new();
    let one = home.create(&json!({"name": "one"}));
    let two = home.create(&json!({"name": "two"}));
    one.root("echo same > /srv/same; printf 'a\\nb\\n' > /srv/f; echo x > /srv/one");
    two.root("echo same > /srv/same; printf 'a\\nc\\n' > /srv/f");
    let expected = [("changed", "/srv/f"), ("removed", "/srv/one")];
    assert_eq!(paths(&entries(&home, &["one", "two"])), expected);
    home.warren(&["stop", "one"]).good();
    assert_eq!(paths(&entries(&home, &["sandbox:one", "two"])), expected);
    let patch = home.warren(&["diff", "one", "two", "-p"]).good().text();
    assert!(patch.contains("@@ -1,2 +1,2 @@\n a\n-b\n+c"), "{patch}");
    let gone = home.warren(&["diff", "one", "three"]);
    assert_ne!(gone.code(), 0);
    assert!(gone.errors().contains("there is no sandbox or snapshot three"), "{}", gone.errors());
    let bad = home.api("GET", "/v1/diff?to=one&patch=maybe", b"");
    assert_eq!(bad.status, 400);
    assert_eq!(home.api("GET", "/v1/diff?from=one", b"").status, 400);
}

#[test]
fn snapshots_are_compared() {
    let home = Home::new();
    let sandbox = home.create(&json!({"name": "work"}));
    sandbox.root("echo one > /srv/f");
    home.warren(&["snapshot", "create", "work", "--name", "first"]).good();
    sandbox.root("echo two > /srv/f; echo new > /srv/g");
    home.warren(&["snapshot", "create", "work", "--name", "second"]).good();
    let text = |arguments: &[&str]| home.warren(arguments).good().text();
    let between = text(&["snapshot", "diff", "first", "second", "--patch"]);
    assert!(between.contains("M  /srv/f") && between.contains("-one\n+two"), "{between}");
    assert!(between.contains("A  /srv/g"), "{between}");
    let all = entries(&home, &["snapshot:first"]);
    assert_eq!(paths(&all), [("added", "/srv/f")]);
    let back = entries(&home, &["second", "first"]);
    assert_eq!(paths(&back), [("changed", "/srv/f"), ("removed", "/srv/g")]);
    // What was made from it has changed nothing, and then something.
    let other = home.create(&json!({"snapshot": "first", "name": "other"}));
    assert_eq!(paths(&entries(&home, &["other"])), []);
    other.root("rm /srv/f");
    assert_eq!(paths(&entries(&home, &["other"])), [("removed", "/srv/f")]);
    assert_eq!(paths(&entries(&home, &["first", "other"])), [("removed", "/srv/f")]);
}
