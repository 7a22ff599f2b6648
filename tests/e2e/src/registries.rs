//! Registries that want a password, and ways to them.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use serde_json::json;
use warren_test_registry::{HttpProxy, Registry, RegistryError};

use crate::{
    harness::Home,
    pulled::{registry, tool},
};

const USER: &str = "builder";
const PASSWORD: &str = "correct horse";
/// Of the password, by bcrypt with a cost of 5.
const HASH: &str = "$2b$05$warrenwarrenwarrenwaredP2VTN7uqddwkzG9o6uKdO9YS3E0Gqi";

const HELLO: &str = "hello from the image\nyes\n";

/// A registry for [`USER`] alone, with one image.
fn closed() -> Option<(Registry, String)> {
    let registry = match Registry::start_with_user(USER, HASH) {
        Err(RegistryError::NotInstalled) => {
            println!("SKIPPED: docker-registry is not installed");
            return None;
        }
        other => other.expect("a registry"),
    };
    registry.put("team/tool", "1", &tool()).unwrap();
    let name = format!("{}/team/tool:1", registry.address());
    Some((registry, name))
}

/// What `docker login` writes.
fn login(registry: &Registry, password: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let auth = STANDARD.encode(format!("{USER}:{password}"));
    json!({"auths": {registry.address(): {"auth": auth}}}).to_string()
}

/// A home whose user has this configuration of Docker.
fn with_config(place: &Path, config: &str) -> Home {
    let file = place.join("config.json");
    fs::write(&file, config).unwrap();
    let file = file.to_str().unwrap();
    Home::with(&[("WARREN_BLANKS", "0"), ("WARREN_PARKED", "0"), ("WARREN_DOCKER_CONFIG", file)])
}

#[test]
fn a_registry_with_a_password_is_asked_with_what_docker_has_kept() {
    let Some((registry, name)) = closed() else { return };
    let place = tempfile::tempdir().unwrap();
    let wrong = login(&registry, "wrong horse");
    let cases = [("{}", "wants a user and a password"), (&wrong, "authentication required")];
    for (config, words) in cases {
        let home = with_config(place.path(), config);
        let ended = home.warren(&["image", "pull", &name]);
        assert_eq!(ended.code(), 1, "{}", ended.text());
        let error = ended.errors();
        assert!(error.contains(registry.address()) && error.contains(words), "{error}");
        assert!(!error.contains("horse"), "{error}");
    }
    let home = with_config(place.path(), &login(&registry, PASSWORD));
    assert_eq!(home.warren(&["run", "--image", &name]).good().text(), HELLO);
    let copy = format!("{}/copies/tool:2", registry.address());
    home.warren(&["image", "push", &name, &copy]).good();
    home.create(&json!({"image": name, "name": "work"})).root("echo one > /work/one");
    home.warren(&["snapshot", "create", "work", "--name", "built"]).good();
    let saved = format!("{}/saved/work:1", registry.address());
    home.warren(&["snapshot", "push", "built", &saved]).good();
    let other = with_config(place.path(), &login(&registry, PASSWORD));
    assert_eq!(other.warren(&["run", "--image", &copy]).good().text(), HELLO);
    other.warren(&["snapshot", "pull", &saved, "--name", "came"]).good();
    assert!(!home.log().contains(PASSWORD) && !other.log().contains(PASSWORD));
}

#[test]
fn a_helper_of_docker_is_asked_for_the_password() {
    let Some((registry, name)) = closed() else { return };
    let place = tempfile::tempdir().unwrap();
    let asked = place.path().join("asked");
    let helper = place.path().join("docker-credential-test");
    let answer = json!({"ServerURL": registry.address(), "Username": USER, "Secret": PASSWORD});
    let script =
        format!("#!/bin/sh\ncat > {}\n[ \"$1\" = get ] && echo '{answer}'\n", asked.display());
    fs::write(&helper, script).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let config = json!({"credHelpers": {registry.address(): "test"}}).to_string();
    let mut home = with_config(place.path(), &config);
    let file = place.path().join("config.json");
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", place.path().display());
    home.set(&[("PATH", &path), ("WARREN_DOCKER_CONFIG", file.to_str().unwrap())]);
    assert_eq!(home.warren(&["run", "--image", &name]).good().text(), HELLO);
    assert_eq!(fs::read_to_string(asked).unwrap().trim(), registry.address());
}

#[test]
fn a_registry_is_reached_by_a_proxy() {
    let Some(registry) = registry() else { return };
    registry.put("team/tool", "1", &tool()).unwrap();
    let proxy = HttpProxy::start(registry.address()).unwrap();
    let address = format!("http://{}", proxy.address());
    // A name that only the proxy can do something with.
    let settings = [
        ("WARREN_BLANKS", "0"),
        ("WARREN_REGISTRY_PROXY", address.as_str()),
        ("WARREN_PLAIN_REGISTRIES", "registry.invalid:5000"),
    ];
    let home = Home::with(&settings);
    let name = "registry.invalid:5000/team/tool:1";
    assert_eq!(home.warren(&["run", "--image", name]).good().text(), HELLO);
    home.warren(&["image", "push", name, "registry.invalid:5000/copies/tool:2"]).good();
    let requests = proxy.requests();
    let asked = |start: &str| requests.iter().any(|it| it.starts_with(start));
    assert!(asked("GET http://registry.invalid:5000/v2/team/tool/manifests/1 "), "{requests:?}");
    assert!(asked("PUT http://registry.invalid:5000/v2/copies/tool/manifests/2 "), "{requests:?}");
    // What is on this machine is asked without one, as Docker does.
    let near = format!("{}/copies/tool:2", registry.address());
    home.warren(&["image", "pull", &near]).good();
    assert_eq!(proxy.requests().len(), requests.len());
}

#[test]
fn without_a_way_to_a_registry_the_error_says_what_needs_none() {
    // Nothing listens there, and no name is looked up.
    let settings = [("WARREN_BLANKS", "0"), ("WARREN_REGISTRY_PROXY", "http://127.0.0.1:9")];
    let home = Home::with(&settings);
    let ended = home.warren(&["run", "--image", "python:3.12", "--", "true"]);
    assert_eq!(ended.code(), 125);
    let error = ended.errors();
    for words in ["could not reach the registry docker.io", "`host`", "warren image import"] {
        assert!(error.contains(words), "{error}");
    }
}
