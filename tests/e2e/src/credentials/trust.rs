//! Programs inside trust the hosts that are stood in for.

use std::path::Path;

use serde_json::{Value, json};

use super::{bearer, given, keep, rule, with_credentials};
use crate::harness::{Sandbox, World, in_world, needs};

/// Asks for a page as programs in Java do, and prints its status.
const JAVA: &str = r#"
import java.net.*;
public class Ask {
    public static void main(String[] words) throws Exception {
        var connection = (HttpURLConnection) new URL("https://one.example/").openConnection();
        System.out.println(connection.getResponseCode());
    }
}
"#;

#[track_caller]
fn succeeds(world: &World<'_>, outcome: &Value, said: &str) {
    assert!(outcome["stdout"].as_str().is_some_and(|it| it.contains(said)), "{outcome}");
    assert_eq!(given(world, "one.example"), Some(bearer()), "{outcome}");
}

fn has(sandbox: &Sandbox<'_>, program: &str) -> bool {
    let outcome = sandbox.exec(&["sh", "-c", &format!("command -v {program}")]);
    outcome["exit_code"] == 0
}

#[test]
fn programs_trust_the_host_that_is_stood_in_for() {
    needs!("curl");
    needs!("openssl");
    needs!("python3");
    in_world(|world| {
        let sandbox = with_credentials(world);
        let python = "import urllib.request as u; print(u.urlopen('https://one.example/').status)";
        succeeds(world, &sandbox.exec(&["/usr/bin/python3", "-c", python]), "200");
        let openssl = "openssl s_client -connect one.example:443 -servername one.example \
                       -verify_return_error < /dev/null 2>&1";
        let outcome = sandbox.exec(&["sh", "-c", openssl]);
        assert!(outcome["stdout"].as_str().is_some_and(|it| it.contains("(ok)")), "{outcome}");
        if has(&sandbox, "git") {
            // There is no repository: the answer to that comes from behind TLS.
            let outcome = sandbox.exec(&["git", "ls-remote", "https://one.example/some.git"]);
            let said = outcome["stderr"].as_str().expect("text");
            assert!(!said.contains("certificate"), "{outcome}");
            assert_eq!(given(world, "one.example"), Some(bearer()), "{outcome}");
        }
        if has(&sandbox, "wget") {
            succeeds(
                world,
                &sandbox.exec(&["wget", "-q", "-O", "-", "https://one.example/"]),
                "one.example",
            );
        }
        if has(&sandbox, "node") {
            let script = "fetch('https://one.example/').then(it => console.log(it.status))";
            succeeds(world, &sandbox.exec(&["node", "-e", script]), "200");
        }
    });
}

#[test]
fn java_trusts_it_too() {
    needs!("javac");
    if !Path::new("/etc/ssl/certs/java/cacerts").exists() {
        crate::harness::skip!("the system has no list of authorities for Java");
    }
    in_world(|world| {
        let sandbox = with_credentials(world);
        let line = format!(
            "mkdir -p /tmp/ask && cat > /tmp/ask/Ask.java <<'END'\n{JAVA}END\njava /tmp/ask/Ask.java"
        );
        let request = json!({"command": ["sh", "-c", line], "timeout_ms": 80_000});
        succeeds(world, &sandbox.exec_as(&request), "200");
        // The list is a whole one still.
        let listed = sandbox.root("keytool -list -cacerts -storepass changeit 2> /dev/null");
        assert!(listed.contains("warren-sandbox"), "{listed}");
    });
}

#[test]
fn programs_trust_it_in_a_sandbox_that_is_given_credentials_later() {
    needs!("curl");
    needs!("python3");
    in_world(|world| {
        keep(world);
        let sandbox = world.create(&json!("open"));
        sandbox.set_credentials(&json!({"rules": [rule(&json!({}))]}));
        succeeds(world, &sandbox.exec(&["curl", "-sS", "https://one.example/"]), "one.example");
        let python = "import urllib.request as u; print(u.urlopen('https://one.example/').status)";
        succeeds(world, &sandbox.exec(&["/usr/bin/python3", "-c", python]), "200");
    });
}
