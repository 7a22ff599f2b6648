//! The main job without rights.

use crate::harness::{Home, Leftovers, is_root, skip, wait_until};

/// A user that nobody is.
const UID: u32 = 47_110;

/// A home of somebody without rights, or why there is none.
fn somebody() -> Result<Home, String> {
    if !is_root() {
        return Ok(Home::new());
    }
    let allowed = std::fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
    if allowed.trim() == "0" {
        return Err("user namespaces are switched off".to_owned());
    }
    Ok(Home::of_user(UID))
}

#[test]
fn an_ordinary_user_runs_a_program() {
    let home = match somebody() {
        Ok(home) => home,
        Err(why) => skip!("{why}"),
    };
    let said = home.warren(&["run", "--", "sh", "-c", "echo hello; exit 3"]);
    assert_eq!((said.text().as_str(), said.code()), ("hello\n", 3), "{}", said.errors());
}

#[test]
fn an_ordinary_users_sandbox_says_what_is_weaker() {
    let home = match somebody() {
        Ok(home) => home,
        Err(why) => skip!("{why}"),
    };
    let sandbox = home.create_by_command();
    assert!(sandbox.created["warnings"].is_array(), "{}", sandbox.created);
    assert_eq!(home.warren(&["exec", &sandbox.id, "--", "echo", "in"]).good().text(), "in\n");
    home.warren(&["rm", &sandbox.id]).good();
    let report = home.warren(&["doctor", "--json"]).text();
    assert!(report.contains("checks"), "{report}");
}

#[test]
fn an_ordinary_users_sandbox_outlives_its_server() {
    let home = match somebody() {
        Ok(home) => home,
        Err(why) => skip!("{why}"),
    };
    let sandbox = home.create_by_command();
    home.kill_server();
    assert_eq!(home.warren(&["exec", &sandbox.id, "--", "echo", "on"]).good().text(), "on\n");
}

/// Removes all of a home, whose server may be dead.
#[track_caller]
fn uninstall(home: &Home) {
    home.warren(&["setup", "uninstall", "--yes"]).good();
    for path in [home.data(), home.run_directory()] {
        assert!(!path.exists(), "{} is still there", path.display());
    }
    assert_eq!(Leftovers::of(home).0, std::collections::BTreeSet::new());
}

#[test]
fn an_ordinary_users_server_goes_without_a_trace() {
    let home = match somebody() {
        Ok(home) => home,
        Err(why) => skip!("{why}"),
    };
    let sandbox = home.create_by_command();
    // Files of every id that there is inside.
    let line = "mkdir -p a/b; touch a/b/c; sudo -n touch a/root 2>/dev/null; chmod 0 a; true";
    home.warren(&["exec", &sandbox.id, "--", "sh", "-c", line]).good();
    let keepers = Leftovers::keepers(&home);
    uninstall(&home);
    let gone = |pid: &u32| !std::fs::exists(format!("/proc/{pid}")).unwrap_or(false);
    wait_until("the keepers have ended", || keepers.iter().all(gone));
}

#[test]
fn an_ordinary_users_dead_server_goes_without_a_trace() {
    let home = match somebody() {
        Ok(home) => home,
        Err(why) => skip!("{why}"),
    };
    let sandbox = home.create_by_command();
    home.warren(&["exec", &sandbox.id, "--", "sh", "-c", "mkdir a; touch a/b; chmod 0 a"]).good();
    home.kill_server();
    uninstall(&home);
}
