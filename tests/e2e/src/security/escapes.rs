//! Every known way out, as `warren selftest` tries them.
//!
//! That these attacks get through where there are no walls is shown beside their definitions.

use serde_json::Value;

use crate::harness::Home;

#[test]
fn every_attack_of_the_selftest_is_held_off_in_both_profiles() {
    let home = Home::new();
    let ended = home.warren(&["selftest", "--json"]);
    let report: Value = serde_json::from_str(&ended.text()).expect("a report");
    let rows = report["rows"].as_array().expect("rows");
    let of = |outcome: &str| rows.iter().filter(|row| row["outcome"] == outcome).count();
    let through: Vec<_> = rows.iter().filter(|row| row["outcome"] == "fail").collect();
    assert!(through.is_empty(), "{through:#?}");
    assert_eq!((&report["held"], ended.code()), (&Value::Bool(true), 0), "{}", ended.errors());
    for profile in ["default", "strict"] {
        let count = rows.iter().filter(|row| row["profile"] == profile).count();
        assert!(count > 60, "{count} attacks from the profile {profile}");
    }
    assert_eq!(home.warren(&["list", "--quiet"]).good().text(), "", "it removes its sandboxes");
    crate::harness::needs!("python3");
    assert_eq!(of("skipped"), 0, "{rows:#?}");
}

#[test]
fn the_selftest_says_what_it_could_not_try() {
    let root = crate::images::small_root();
    let user = "user:x:1000:1000::/home/user:/bin/sh\n";
    std::fs::write(root.path().join("etc/passwd"), user).expect("write a file");
    let home = Home::new();
    let image = format!("dir:{}", root.path().display());
    let ended = home.warren(&["selftest", "--json", "--profile", "strict", "--image", &image]);
    let report: Value = serde_json::from_str(&ended.text()).expect("a report");
    let rows = report["rows"].as_array().expect("rows");
    let skipped: Vec<_> = rows.iter().filter(|row| row["outcome"] == "skipped").collect();
    assert!(skipped.len() > 40, "{rows:#?}");
    for row in skipped {
        assert!(row["detail"].as_str().expect("a reason").contains("there is no"), "{row}");
    }
    assert!(rows.iter().all(|row| row["profile"] == "strict"), "{rows:#?}");
}
