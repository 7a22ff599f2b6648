//! A host with a small internet and nothing else: what is tested of networks is tested there.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use warren_test_internet::{Internet, InternetError, NAME_SERVER};

use super::{Home, Sandbox};

/// Attempts of a sandbox to reach something, made by the interpreter inside of it.
const PROBE: &str = include_str!("probe.py");

/// A user that nobody is, beside those of other tests.
const UID: u32 = 47_111;

/// A home on that host.
#[derive(Debug)]
pub(crate) struct World<'a> {
    pub(crate) internet: &'a Internet,
    pub(crate) home: Home,
}

/// Nothing is kept ready: tests see what they asked for and no more.
const SETTINGS: [(&str, &str); 2] = [("WARREN_BLANKS", "0"), ("WARREN_PARKED", "0")];

/// Runs a test on a thread of a host of its own, which is a network namespace; or says why not.
pub(crate) fn in_world(test: impl FnOnce(&World<'_>) + Send) {
    let internet = match Internet::start() {
        Err(InternetError::NotPossible(why)) => super::skip!("{why}"),
        other => other.expect("a small internet"),
    };
    let ran = internet.as_host(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let authority = directory.path().join("authority.pem");
        fs::write(&authority, internet.authority_pem()).expect("write a certificate");
        let name_servers = NAME_SERVER.to_string();
        let authority = authority.to_str().expect("a path in UTF-8");
        // Whom to ask, and whom the server itself trusts when it speaks for a sandbox.
        let more =
            [("WARREN_NAME_SERVERS", name_servers.as_str()), ("WARREN_EGRESS_CA", authority)];
        let home = Home::with(&[&SETTINGS[..], &more].concat());
        test(&World { internet: &internet, home });
    });
    ran.expect("enter the host's namespace");
}

/// The programs that carry the packets of an ordinary user's server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WayOut {
    Pasta,
    Slirp4netns,
}

/// The same for a server of somebody without rights, whose packets this program carries.
pub(crate) fn in_users_world(way: WayOut, test: impl FnOnce(&World<'_>) + Send) {
    let program = match way {
        WayOut::Pasta => "pasta",
        WayOut::Slirp4netns => "slirp4netns",
    };
    if !Path::new("/usr/bin").join(program).exists() {
        super::skip!("{program} is not installed");
    }
    let internet = match Internet::start() {
        Err(InternetError::NotPossible(why)) => super::skip!("{why}"),
        other => other.expect("a small internet"),
    };
    let ran = internet.as_host(|| {
        match warren_test_internet::let_out(UID) {
            Err(InternetError::NotPossible(why)) => super::skip!("{why}"),
            other => other.expect("users have a way out"),
        }
        let mut home = Home::of_user(UID);
        let authority = home.file("authority.pem", internet.authority_pem().as_bytes());
        let authority = authority.to_str().expect("a path in UTF-8");
        let more = [("WARREN_UPLINK", program), ("WARREN_EGRESS_CA", authority)];
        home.set(&[&SETTINGS[..], &more].concat());
        test(&World { internet: &internet, home });
    });
    ran.expect("enter the host's namespace");
}

impl World<'_> {
    /// A sandbox with this network, as a request has it.
    #[track_caller]
    pub(crate) fn create(&self, network: &Value) -> Sandbox<'_> {
        self.home.create(&json!({"network": network}))
    }

    /// A sandbox that may reach this and nothing else.
    #[track_caller]
    pub(crate) fn allowing(&self, rules: &[&str]) -> Sandbox<'_> {
        self.create(&allowing(rules))
    }

    /// Puts the certificate of the internet's authority into a sandbox, and gives its path there.
    #[track_caller]
    pub(crate) fn trust(&self, sandbox: &Sandbox<'_>) -> PathBuf {
        let pem = self.internet.authority_pem();
        sandbox.root(&format!("cat > /etc/world.pem <<'END'\n{pem}END\nchmod 644 /etc/world.pem"));
        PathBuf::from("/etc/world.pem")
    }
}

/// A network of these rules, which allow, and nothing else.
pub(crate) fn allowing(rules: &[&str]) -> Value {
    let rule = |to: &&str| json!({"action": "allow", "to": to});
    json!({"rules": rules.iter().map(rule).collect::<Vec<_>>(), "otherwise": "deny"})
}

/// A network of everything but what these rules deny.
pub(crate) fn denying(rules: &[&str]) -> Value {
    let rule = |to: &&str| json!({"action": "deny", "to": to});
    json!({"rules": rules.iter().map(rule).collect::<Vec<_>>(), "otherwise": "allow"})
}

impl Sandbox<'_> {
    /// What comes of attempts, in their order: what was answered, or `!` and why nothing was.
    ///
    /// | attempt | what |
    /// |---|---|
    /// | `tcp HOST PORT` | connects, and reads until the other side ends or is silent |
    /// | `udp HOST PORT [BYTES]` | sends a datagram; the length of what comes back |
    /// | `icmp HOST` | an echo request |
    /// | `name NAME`, `name6 NAME` | the addresses of IPv4, of IPv6 |
    /// | `ask SERVER NAME [tcp]` | the same, asked at this server; a number of addresses |
    /// | `web ADDRESS PORT HOST` | a request of HTTP there, with this name |
    /// | `websocket HOST PORT` | a WebSocket that echoes a word |
    /// | `tls ADDRESS SNI HOST` | one of HTTPS, with this name in TLS, `-` for none, and this in it |
    #[track_caller]
    pub(crate) fn attempts(&self, attempts: &[&str]) -> Vec<String> {
        let command = json!(["python3", "-c", PROBE, json!(attempts).to_string()]);
        let request = json!({"command": command, "timeout_ms": 80_000});
        let outcome = self.exec_as(&request);
        assert_eq!(outcome["exit_code"], 0, "{outcome}");
        serde_json::from_str(outcome["stdout"].as_str().expect("text")).expect("JSON")
    }

    /// Makes attempts, and fails the test with all that differ from what is expected of them.
    #[track_caller]
    pub(crate) fn expect(&self, expected: &[(&str, bool)]) {
        let attempts: Vec<&str> = expected.iter().map(|(attempt, _)| *attempt).collect();
        let results = self.attempts(&attempts);
        let wrong: Vec<String> = expected
            .iter()
            .zip(&results)
            .filter(|((_, reached), result)| *reached == result.starts_with('!'))
            .map(|((attempt, reached), result)| {
                let not = if *reached { "" } else { "not " };
                format!("`{attempt}` is {not}to succeed: {result}")
            })
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}\nof {expected:#?}");
    }

    /// Changes what it may reach.
    #[track_caller]
    pub(crate) fn set_network(&self, network: &Value) -> Value {
        let body = json!({"network": network}).to_string();
        self.api("PUT", "/network", body.as_bytes()).json()
    }
}
