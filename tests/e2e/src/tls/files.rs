//! Certificates of files: a wildcard for ports, and files that change while the server runs.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use serde_json::json;

use super::{Client, token, warnings};
use crate::{
    harness::{Home, needs, wait_until},
    ports::serving,
    remote::Listening,
};

const DOMAIN: &str = "box.test";

/// Writes a certificate for the domain and all names below it, which is its own authority.
fn write(directory: &Path) -> [PathBuf; 2] {
    let names = [DOMAIN.to_owned(), format!("*.{DOMAIN}")];
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let [certificate, key] = ["server.pem", "server.key"].map(|name| directory.join(name));
    for (path, text) in [(&certificate, made.cert.pem()), (&key, made.key_pair.serialize_pem())] {
        // As certbot does it: whole, by renaming.
        let new = path.with_extension("new");
        fs::write(&new, text).expect("write a file");
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).expect("close it");
        fs::rename(&new, path).expect("put it there");
    }
    [certificate, key]
}

#[test]
fn ports_are_served_with_a_wildcard_that_changes_while_the_server_runs() {
    needs!("python3");
    needs!("curl");
    let home = Home::new();
    let directory = tempfile::tempdir().expect("a directory");
    let files = write(directory.path());
    let [certificate, key] = files.each_ref().map(|it| it.to_str().expect("UTF-8"));
    let set = ["--set", "domain=box.test", "--tls-cert", certificate, "--tls-key", key];
    let server = Listening::at(&home, "127.0.0.1:0", &set);
    let client = Client { authority: &files[0], server: server.address };
    let sandbox = serving(&home, &json!({}), "");
    let token = token(&home, &sandbox.id);
    let name = format!("3000-{}.{DOMAIN}", sandbox.id);

    let page = client.ask(&name, "/x", Some(&token));
    assert_eq!(page["body"], format!("GET /x host={name}:{}", server.address.port()), "{page}");
    assert_eq!(client.ask(&name, "/x", None)["status"], 404, "private");
    assert_eq!(client.ask(&name, "/socket", Some(&token))["echo"], "hi");
    let (version, body) = client.ask_h2(&name, "/y", &token);
    assert_eq!((&*version, body.starts_with("GET /y ")), ("2", true), "{body}");
    // The API by its own names, and by none of the ports'.
    assert_eq!(client.ask("api.box.test", "/v1/sandboxes", None)["status"], 401);
    assert_eq!(client.ask("other.box.test", "/v1/sandboxes", None)["status"], 404);
    let link = home.warren(&["port", &sandbox.id, "3000"]).good().text();
    assert!(link.starts_with(&format!("https://{name}:{}/", server.address.port())), "{link}");

    // Another certificate: connections from then on have it, without a signal.
    write(directory.path());
    let before = page["serial"].clone();
    wait_until("the new certificate is shown", || {
        let page = client.ask(&name, "/x", Some(&token));
        page["status"] == 200 && page["serial"] != before
    });
    let serial = client.ask(&name, "/x", Some(&token))["serial"].clone();
    assert_eq!(warnings(&home), "null");

    // One that is of no use: the last one goes on, and that is said.
    fs::write(&files[1], "nonsense").expect("write a file");
    wait_until("it is told", || warnings(&home).contains("of no use"));
    let trusted = directory.path().join("trusted.pem");
    fs::copy(&files[0], &trusted).expect("copy a file");
    fs::write(&files[0], "nonsense").expect("write a file");
    let old = Client { authority: &trusted, server: server.address };
    assert_eq!(old.ask(&name, "/x", Some(&token))["serial"], serial);
    let metrics = home.api("GET", "/v1/metrics", b"").text();
    assert!(metrics.contains("warren_certificates{state=\"failing\"} 1"), "{metrics}");
    write(directory.path());
    wait_until("all is well again", || warnings(&home) == "null");
    assert_ne!(client.ask(&name, "/x", Some(&token))["serial"], serial);
}

#[test]
fn a_key_that_others_can_read_and_files_that_do_not_fit_are_told() {
    let home = Home::new();
    let directory = tempfile::tempdir().expect("a directory");
    let files = write(directory.path());
    let other = directory.path().join("other");
    fs::create_dir(&other).expect("a directory");
    let [_, strange] = write(&other);
    let [certificate, key, strange] =
        [&files[0], &files[1], &strange].map(|it| it.to_str().expect("UTF-8"));
    let serve = |key: &str| {
        let arguments = ["serve", "--listen", "127.0.0.1:0", "--tls-cert", certificate];
        home.warren(&[&arguments[..], &["--tls-key", key]].concat())
    };
    let refused = serve(strange);
    assert!(refused.code() != 0, "{refused:?}");
    assert!(refused.errors().contains("is not that of the first certificate"), "{refused:?}");
    fs::set_permissions(&files[1], fs::Permissions::from_mode(0o644)).expect("open it");
    let doctor = |name: &str| {
        let (name, key) = (format!("tls_cert={name}"), format!("tls_key={key}"));
        home.warren(&["--set", &name, "--set", &key, "--json", "doctor"]).text()
    };
    assert!(doctor(certificate).contains("more days"), "good");
    assert!(doctor(certificate).contains("everybody on this machine can read"), "its key");
    assert!(doctor(key).contains("there is no certificate in"), "none");
}
