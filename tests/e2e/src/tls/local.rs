//! The authority of this machine, for programs that are told of it and for browsers that trust it.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use serde_json::json;

use super::{Client, token};
use crate::{
    harness::{Home, command, needs, run},
    ports::{Browser, PREVIEW, Served, reported, serving},
    remote::Listening,
};

/// Makes the authority, and gives the file with its certificate.
fn authority(home: &Home) -> PathBuf {
    home.warren(&["ca", "init", "box.test"]).good();
    let shown = home.warren(&["ca", "show"]).good().text();
    let file = home.data().join("tls/ca.pem");
    assert_eq!(fs::read_to_string(&file).expect("a certificate").trim(), shown.trim());
    let key = fs::metadata(home.data().join("tls/ca.json")).expect("a key");
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    file
}

#[test]
fn the_local_authority_certifies_ports_and_this_machine_and_no_other_name() {
    needs!("python3");
    needs!("curl");
    let home = Home::new();
    let refused = home.warren(&["--set", "tls=local", "serve", "--listen", "127.0.0.1:0"]);
    assert!(refused.errors().contains("warren ca init"), "{refused:?}");
    let authority = authority(&home);
    let again = home.warren(&["ca", "init"]);
    assert!(again.code() != 0, "one is not replaced: {again:?}");
    let set = ["--set", "tls=local", "--set", "domain=box.test"];
    let server = Listening::at(&home, "127.0.0.1:0", &set);
    let client = Client { authority: &authority, server: server.address };
    let sandbox = serving(&home, &json!({}), "");
    let token = token(&home, &sandbox.id);
    let name = format!("3000-{}.box.test", sandbox.id);
    let page = client.ask(&name, "/x", Some(&token));
    assert_eq!(page["status"], 200, "{page}");
    assert_eq!(client.ask(&name, "/socket", Some(&token))["echo"], "hi");
    assert_eq!(client.ask_h2(&name, "/y", &token).0, "2");
    for own in ["localhost", "api.box.test", "127.0.0.1"] {
        assert_eq!(client.ask(own, "/v1/health", None)["status"], 200, "{own}");
    }
    for other in ["box.example", "localhost.example", "example.com"] {
        let found = client.ask(other, "/v1/health", None);
        assert!(found["error"].is_string(), "{other}: {found}");
    }
    // The command line trusts whom it is told to.
    let key = home.warren(&["--json", "key", "create", "test"]).good().text();
    let key: serde_json::Value = serde_json::from_str(&key).expect("a key");
    let mut list = home.command(&["list", "-q"]);
    list.env("WARREN_SERVER", format!("https://localhost:{}", server.address.port()));
    list.env("WARREN_API_KEY", key["key"].as_str().expect("a key")).env("WARREN_CA", &authority);
    assert_eq!(run(&mut list, b"").good().text().trim(), sandbox.id);
}

/// A place for a browser whose database trusts nobody yet, and a system without a bundle.
fn browser_home(home: &Home) -> (PathBuf, PathBuf) {
    let place = home.data().parent().expect("a home").to_owned();
    let (database, system) = (place.join(".pki/nssdb"), place.join("system"));
    fs::create_dir_all(&database).expect("a directory");
    let mut certutil = command("certutil");
    certutil.args(["-N", "--empty-password", "-d", &format!("sql:{}", database.display())]);
    run(&mut certutil, b"").good();
    fs::create_dir_all(system.join("usr/bin")).expect("a directory");
    symlink(Path::new("/usr/bin/certutil"), system.join("usr/bin/certutil")).expect("a link");
    (place, system)
}

#[test]
fn a_browser_trusts_the_local_authority_once_it_was_told_to() {
    needs!("python3");
    needs!("chromium");
    needs!("certutil");
    let home = Home::new();
    authority(&home);
    let (place, system) = browser_home(&home);
    let trust = ["ca", "trust", "--yes", "--root", system.to_str().expect("UTF-8")];
    let asked = home.warren(&["ca", "trust", "--root", system.to_str().expect("UTF-8")]);
    assert!(asked.code() != 0, "nobody is there to agree: {asked:?}");
    home.warren(&trust).good();
    let _server = Listening::at(&home, "127.0.0.1:0", &["--set", "tls=local"]);
    let served = Served::start(&home, &json!({}), PREVIEW);
    let url = served.link["url"].as_str().expect("an address");
    assert!(url.starts_with("https://"), "{url}");
    let mut browser = Browser::of(&place);
    browser.open(&format!("{url}page?warren_token={}", served.token()));
    let found = reported(&served);
    assert_eq!(found["address"], format!("{url}page"), "{found}");
    assert_eq!((&found["socket"], &found["secure"]), (&"hello".into(), &true.into()), "{found}");
    drop(browser);
    let listed = || {
        let mut listed = command("certutil");
        listed.args(["-L", "-d", &format!("sql:{}", place.join(".pki/nssdb").display())]);
        run(&mut listed, b"").good().text()
    };
    assert!(listed().contains("Warren"), "{}", listed());
    home.warren(&[&trust[..], &["--undo"]].concat()).good();
    assert!(!listed().contains("Warren"), "{}", listed());
}
