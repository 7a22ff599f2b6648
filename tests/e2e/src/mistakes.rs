//! What only a real sandbox finds wrong: it is said, and nothing half-made stays.

use crate::harness::{Home, Leftovers};

#[test]
fn a_mistake_leaves_nothing_on_the_host() {
    let home = Home::new();
    home.warren(&["create", "--name", "x"]).good();
    let before = Leftovers::of(&home);
    let mistakes: &[(&[&str], i32, &str)] = &[
        (&["create", "--image", "dir:/nowhere/root"], 1, "/nowhere/root"),
        (&["create", "--image", "dir:/proc/version"], 1, "/proc/version"),
        (&["create", "--image", "tar:/etc/passwd"], 1, "/etc/passwd"),
        (&["create", "--image", "No Image"], 1, "image"),
        (&["run", "--image", "tar:/nowhere.tar", "--", "true"], 125, "/nowhere.tar"),
        (&["run", "--user", "nobody-here", "--", "true"], 125, "nobody-here"),
        (&["run", "--workdir", "/nowhere", "--", "true"], 125, "/nowhere"),
        (&["run", "--detach", "--workdir", "/nowhere", "--", "true"], 125, "/nowhere"),
        (&["run", "--", "no-such-program"], 125, "no-such-program"),
        (&["run", "--", "/etc/passwd"], 125, "/etc/passwd"),
        (&["run", "--memory", "1KiB", "--", "true"], 125, "memory"),
        (&["run", "--pids", "0", "--", "true"], 125, "pids"),
        (&["exec", "--user", "nobody-here", "x", "--", "true"], 125, "nobody-here"),
        (&["exec", "--workdir", "/nowhere", "x", "--", "true"], 125, "/nowhere"),
        (&["exec", "x", "--", ""], 125, "command"),
        (&["kill", "x", "ex-aaaaaaaaaaaaaaaa"], 1, "there is no command"),
    ];
    let mut wrong = Vec::new();
    for (arguments, status, words) in mistakes {
        let outcome = home.warren(arguments);
        if outcome.code() != *status || !outcome.errors().contains(words) {
            wrong.push(format!("{arguments:?}: {} {}", outcome.code(), outcome.errors()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(home.warren(&["list", "-q"]).good().text().lines().count(), 1);
    crate::harness::wait_until("what failed is gone", || Leftovers::of(&home) == before);
}
