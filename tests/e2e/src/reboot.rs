//! The host is switched off and on again.
//!
//! What a reboot does is done by hand: every process of the server ends, the run directory is gone,
//! and the journal's entries are of a boot that was before this one.

use std::fs;

use serde_json::json;

use crate::harness::{Home, Leftovers, Sandbox, kill, wait_until};

/// Switches the host off, as far as this server can tell.
fn reboot(home: &Home, keepers: &[u32]) {
    let guests: Vec<u32> = journal(home).iter().filter_map(|(_, text)| pid_in(text)).collect();
    home.kill_server();
    keepers.iter().for_each(|pid| kill(*pid));
    Leftovers::thaw(home);
    for pid in guests {
        kill(pid);
        wait_until("a guest has ended", || {
            fs::read_to_string(format!("/proc/{pid}/stat"))
                .map_or(true, |stat| stat.contains(") Z "))
        });
    }
    for (path, text) in journal(home) {
        let lines = text.lines().map(|line| match line.starts_with("boot ") {
            true => "boot 00000000-0000-4000-8000-000000000000".to_owned(),
            false => line.to_owned(),
        });
        fs::write(path, lines.collect::<Vec<_>>().join("\n") + "\n").expect("write an entry");
    }
    fs::remove_dir_all(home.run_directory()).expect("empty the run directory");
}

/// Entries of sandboxes and blanks: where they are and what they say.
fn journal(home: &Home) -> Vec<(std::path::PathBuf, String)> {
    let directories = ["sandboxes", "blanks"].map(|name| home.data().join(name));
    let entries =
        directories.iter().flat_map(|it| fs::read_dir(it).into_iter().flatten().flatten());
    let files = entries.map(|entry| entry.path().join("guest"));
    files.filter_map(|path| Some((path.clone(), fs::read_to_string(path).ok()?))).collect()
}

fn pid_in(record: &str) -> Option<u32> {
    record.lines().find_map(|line| line.strip_prefix("pid "))?.parse().ok()
}

#[test]
fn a_reboot_leaves_sandboxes_stopped_with_their_files() {
    let home = Home::with(&[("WARREN_BLANKS", "1"), ("WARREN_PARKED", "0")]);
    let running = home.create(&json!({"name": "running", "labels": {"a": "b"}}));
    let paused = home.create(&json!({"name": "paused"}));
    let stopped = home.create(&json!({"name": "stopped"}));
    let brief = home.create(&json!({"name": "brief", "lifetime_seconds": 3600}));
    for sandbox in [&running, &paused, &stopped, &brief] {
        sandbox.exec(&[
            "sh",
            "-c",
            "hostname > ~/file; sync; (setsid sleep 996 >/dev/null 2>&1 &)",
        ]);
    }
    stopped.api("POST", "/stop", b"").json();
    let can_pause = paused.api("POST", "/pause", b"").status == 200;
    let keepers = Leftovers::keepers(&home);
    reboot(&home, &keepers);

    home.warren(&["list"]).good();
    for sandbox in [&running, &paused, &stopped, &brief] {
        let now = sandbox.get();
        assert_eq!((&now["state"], &now["startable"]), (&json!("stopped"), &json!(true)), "{now}");
        let reason = if sandbox.id == stopped.id { "killed" } else { "host" };
        assert!(now["end"]["reason"] == reason || sandbox.id == stopped.id, "{now}");
    }
    assert_eq!(running.get()["labels"]["a"], "b");
    println!("pausing was {}", if can_pause { "tried" } else { "not possible" });
    for sandbox in [&running, &paused, &stopped, &brief] {
        start_and_look(sandbox);
    }
    assert!(brief.get()["expires_at"].is_string(), "it has a lifetime again: {}", brief.get());
    for sandbox in [&running, &paused, &stopped, &brief] {
        assert_eq!(sandbox.api("DELETE", "", b"").status, 204);
    }
}

/// It runs again, with its files and without its processes.
fn start_and_look(sandbox: &Sandbox<'_>) {
    let started = sandbox.api("POST", "/start", b"").json();
    assert_eq!(started["state"], "running", "{started}");
    let look = "cat ~/file; pgrep -c sleep; hostname";
    let said = sandbox.exec(&["sh", "-c", look]);
    let text = said["stdout"].as_str().unwrap();
    let words: Vec<_> = text.lines().collect();
    assert!(words.len() == 3 && words[0] == words[2] && words[1] == "0", "{said}");
}

#[test]
fn a_lifetime_that_was_over_during_a_reboot_is_acted_on() {
    let home = Home::new();
    let sandbox = home.create(&json!({"lifetime_seconds": 2}));
    let keepers = Leftovers::keepers(&home);
    reboot(&home, &keepers);
    let expires = sandbox.created["expires_at"].as_str().expect("a moment").to_owned();
    wait_until("its time is over", || {
        let now =
            crate::harness::run(crate::harness::command("date").args(["-u", "+%FT%T.%3NZ"]), b"");
        now.text().trim() > expires.as_str()
    });
    home.warren(&["list"]).good();
    let now = sandbox.api("GET", "", b"");
    assert!(now.status == 404 || now.json()["state"] == "stopped", "{}", now.text());
    wait_until("nothing of it runs", || {
        Leftovers::of(&home).0.iter().all(|it| it.starts_with("directory"))
    });
}
