//! Profiles in both forms, those that are shipped, and those that want more than they may.

use std::{fs, path::Path};

use proptest::prelude::*;

use super::*;

fn places() -> Places {
    Places { home: "/home/me".into(), script_dir: "/home/me/.agentvm".into() }
}

const SEED: &str = r#"
# profiles/my-profile.env
PROFILE_LABEL="My Agent"
PROFILE_CMD="my-agent --auto"
PROFILE_RO_PATHS="${HOME}/.local/bin:$HOME/.nvm:~/x"         # : separated
PROFILE_RW_PATHS="${HOME}/.my-agent"          # : separated
PROFILE_ENV_VARS="MY_API_KEY:MY_BASE_URL"     # : separated
PROFILE_STATE_DIRS=".my-agent:.config/my-agent"
PROFILE_STARTUP_KEYS="Enter C-c"
PROFILE_POST_CREATE_SCRIPT="$SCRIPT_DIR/profiles/setup-my-profile.sh"
"#;

#[test]
fn profiles_of_agentvm_are_read_without_a_shell() {
    let profile = seed::parse(SEED.as_bytes(), &places()).unwrap();
    let words = |words: &[&str]| words.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
    assert_eq!(profile.label, "My Agent");
    assert_eq!(profile.command, words(&["my-agent", "--auto"]));
    let expected = ["/home/me/.local/bin", "/home/me/.nvm", "/home/me/x"];
    assert_eq!(profile.read_only, words(&expected));
    assert_eq!(profile.read_write, words(&["/home/me/.my-agent"]));
    assert_eq!(profile.env, words(&["MY_API_KEY", "MY_BASE_URL"]));
    assert_eq!(profile.copied, words(&[".my-agent", ".config/my-agent"]));
    assert_eq!(profile.startup_keys, words(&["Enter", "C-c"]));
    let setup = "/home/me/.agentvm/profiles/setup-my-profile.sh";
    assert_eq!(profile.setup.as_deref(), Some(setup));
    assert_eq!(profile.network, Network::Open);
}

#[test]
fn what_would_need_a_shell_is_refused() {
    let base = tempfile::tempdir().unwrap();
    let marker = base.path().join("marker").display().to_string();
    for text in [
        format!("PROFILE_CMD=\"$(touch {marker})\"\n"),
        format!("PROFILE_CMD='`touch {marker}`'\n"),
        format!("touch {marker}\nPROFILE_CMD=x\n"),
        format!("PROFILE_CMD=x\nsource {marker}\n"),
        "PROFILE_RO_PATHS=\"$PATH\"\n".to_owned(),
        "PROFILE_RO_PATHS=\"$HOMES/x\"\n".to_owned(),
        "PROFILE_RO_PATHS=\"${HOME:-/x}\"\n".to_owned(),
        "PROFILE_RO_PATHS=relative\n".to_owned(),
        "PROFILE_RW_PATHS=\"$HOME/../other\"\n".to_owned(),
        "PROFILE_STATE_DIRS=../x\n".to_owned(),
        "PROFILE_STATE_DIRS=/etc\n".to_owned(),
        "PROFILE_ENV_VARS='A B'\n".to_owned(),
        "PROFILE_ENV_VARS='A=B'\n".to_owned(),
        "PROFILE_POST_CREATE_SCRIPT=setup.sh\n".to_owned(),
        "PROFILE_CMD='open\n".to_owned(),
    ] {
        assert!(seed::parse(text.as_bytes(), &places()).is_err(), "{text}");
    }
    // What stays text does nothing; a shell would part it at `;`.
    let profile = seed::parse(b"PROFILE_CMD='a; b && c'\n", &places()).unwrap();
    assert_eq!(profile.command, ["a;", "b", "&&", "c"]);
    assert!(!Path::new(&marker).exists());
}

#[test]
fn every_shipped_profile_makes_sense() {
    let base = tempfile::tempdir().unwrap();
    let home = Home::open(base.path()).unwrap();
    let names: Vec<_> = Profile::names(&home).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["aider", "claude-code", "codex", "gemini", "opencode", "shell"]);
    for name in &names {
        let profile = Profile::find(&home, &places(), name).unwrap();
        assert!(!profile.label.is_empty() && !profile.ready.is_empty(), "{name}");
        // Nothing of the host that an agent writes is read by the host's own programs.
        assert!(profile.read_write.is_empty() && profile.setup.is_none(), "{name}");
        for credential in &profile.credentials {
            assert!(profile.env.contains(&credential.env), "{name}: {}", credential.env);
            assert!(profile.domains.contains(&credential.host), "{name}: {}", credential.host);
            assert!(credential.base_url.iter().all(|it| profile.env.contains(it)), "{name}");
        }
        let is_shell = name == "shell";
        assert_eq!(profile.command.is_empty(), is_shell, "{name}");
        assert_eq!(profile.env.is_empty(), is_shell, "{name}");
    }
    let claude = Profile::find(&home, &places(), "claude-code").unwrap();
    assert_eq!(claude.command, ["claude", "--dangerously-skip-permissions"]);
    let file = claude.first_run[0].apply(None, "/work/x").unwrap();
    let file: serde_json::Value = serde_json::from_slice(&file).unwrap();
    assert_eq!(file["projects"]["/work/x"]["hasTrustDialogAccepted"], true);
}

#[test]
fn a_persons_own_profiles_stand_before_the_shipped() {
    let base = tempfile::tempdir().unwrap();
    let home = Home::open(base.path()).unwrap();
    let directory = base.path().join("profiles");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("codex.env"), "PROFILE_CMD='mine'\n").unwrap();
    assert_eq!(Profile::find(&home, &places(), "codex").unwrap().command, ["mine"]);
    fs::write(directory.join("codex.toml"), "command = [\"newer\"]\n").unwrap();
    assert_eq!(Profile::find(&home, &places(), "codex").unwrap().command, ["newer"]);
    fs::write(directory.join("broken.toml"), "comand = [\"x\"]\n").unwrap();
    let error = Profile::find(&home, &places(), "broken").unwrap_err().to_string();
    assert!(error.starts_with("profile 'broken': ") && error.contains("comand"), "{error}");
    let error = Profile::find(&home, &places(), "none").unwrap_err().to_string();
    let expected = "Profile 'none' not found. There are: aider, broken, claude-code, codex, ";
    assert!(error.starts_with(expected), "{error}");
    for name in ["../codex", "", "/etc/passwd", "a.b"] {
        let error = Profile::find(&home, &places(), name).unwrap_err();
        assert!(matches!(error, ProfileError::Name(_)), "{name}");
    }
}

#[test]
fn profiles_of_toml_are_read_and_checked() {
    let text = r#"
label = "Mine"
command = ["mine", "--flag with blanks"]
read-only = ["~/.local/bin", "/opt/mine"]
env = ["MY_KEY"]
network = "listed"
domains = ["api.example.com", "*.example.org:8443"]
startup-keys = ["Enter"]

[[credential]]
env = "MY_KEY"
host = "api.example.com"
header = "Authorization"
value = "Bearer {}"

[[first-run]]
path = ".mine/config.toml"
toml = "trusted = true"
"#;
    let profile = document::parse(text, &places()).unwrap();
    assert_eq!(profile.command, ["mine", "--flag with blanks"]);
    assert_eq!(profile.read_only, ["/home/me/.local/bin", "/opt/mine"]);
    assert_eq!(profile.network, Network::Listed);
    assert_eq!(profile.credentials[0].value, "Bearer {}");
    for (wrong, reason) in [
        ("network = \"some\"", "off"),
        ("comand = []", "comand"),
        ("command = \"x y\"", "sequence"),
        ("read-only = [\"x\"]", "absolute"),
        ("read-only = [\"/a/../b\"]", "without `..`"),
        ("read-only = [\"/a\\u001b[2J\"]", "without `..`"),
        ("copied = [\"/etc/passwd\"]", "below HOME"),
        ("copied = [\"a/../../b\"]", "below HOME"),
        ("copied = [\"\"]", "below HOME"),
        ("env = [\"a-b\"]", "variable"),
        ("domains = [\"https://x.org\"]", "no host"),
        ("domains = [\"*\"]", "no host"),
        ("domains = [\"x.org:0\"]", "no host"),
        ("domains = [\"localhost\"]", "no host"),
        ("command = [\"a\\u0000b\"]", "NUL"),
        ("[[first-run]]\npath = \"x\"", "needs `json` or `toml`"),
        ("[[first-run]]\npath = \"x\"\njson = \"{\"", "first-run `x`"),
        ("[[first-run]]\npath = \"../x\"\njson = \"{}\"", "below HOME"),
    ] {
        let error = document::parse(wrong, &places()).unwrap_err();
        assert!(error.contains(reason), "{wrong}: {error}");
    }
    let credential =
        "[[credential]]\nenv = \"A\"\nhost = \"x.org\"\nheader = \"h\"\nvalue = \"{}\"\n";
    document::parse(credential, &places()).unwrap();
    for (from, to) in [
        ("x.org", "*.x.org"),
        ("\"h\"", "\"h: x\""),
        ("{}", "none"),
        ("{}", "{}{}"),
        ("{}", "a\\n{}"),
        ("\"A\"", "\"a b\""),
    ] {
        assert!(document::parse(&credential.replace(from, to), &places()).is_err(), "{to}");
    }
}

#[test]
fn no_profile_shows_an_agent_the_others() {
    let check = |path: &str| {
        check_mount(Path::new(path), Path::new("/home/me/.agentvm"), Path::new("/home/me"))
    };
    for good in ["/home/me/.local/bin", "/opt/x", "/home/me/.agentvm2", "/home/other"] {
        check(good).unwrap();
    }
    for bad in ["/", "/home", "/home/me", "/home/me/.agentvm", "/home/me/.agentvm/workspaces/x"] {
        assert!(check(bad).is_err(), "{bad}");
    }
    let elsewhere = check_mount(Path::new("/srv"), Path::new("/srv/agents"), Path::new("/root"));
    assert!(elsewhere.is_err());
}

proptest! {
    #[test]
    fn any_text_is_a_profile_or_none(text in "(PROFILE_(CMD|RO_PATHS|ENV_VARS|STATE_DIRS)=)?\\PC{0,60}") {
        drop(seed::parse(text.as_bytes(), &places()));
        drop(document::parse(&text, &places()));
    }
}
