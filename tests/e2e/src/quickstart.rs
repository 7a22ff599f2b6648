//! `docs/quickstart.md`, step by step: its blocks are run in one shell, and print what it says.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use crate::harness::{Home, command, needs, run};

/// A block of the page and what is said to come of it.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    script: String,
    printed: Vec<String>,
}

/// The blocks for a shell, each with the text that follows it.
fn steps(page: &str) -> Vec<Step> {
    let mut steps = Vec::<Step>::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix("```") else { continue };
        let block: Vec<String> =
            lines.by_ref().take_while(|line| *line != "```").map(ToOwned::to_owned).collect();
        match (kind, steps.last_mut()) {
            ("sh", _) => steps.push(Step { script: block.join("\n"), printed: Vec::new() }),
            ("text", Some(step)) => step.printed = block,
            _ => panic!("a block of kind {kind:?}, or text without a step"),
        }
    }
    steps
}

/// Whether `line` is what the page shows, which leaves out parts by `...`.
fn shown(line: &str, pattern: &str) -> bool {
    let mut rest = line;
    let mut parts = pattern.split("...").peekable();
    let first = parts.next().unwrap_or_default();
    let Some(after) = rest.strip_prefix(first) else { return false };
    rest = after;
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.is_empty()
}

#[test]
fn every_step_of_the_quickstart_does_what_it_says() {
    needs!("curl");
    needs!("python3");
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/quickstart.md");
    let steps = steps(&fs::read_to_string(page).expect("the page"));
    assert!(steps.len() > 8, "{} steps", steps.len());

    let home = Home::new();
    let clone = home.data().with_file_name("clone");
    let release = clone.join("target/release");
    fs::create_dir_all(&release).expect("a clone");
    let template = home.command(&[]);
    std::os::unix::fs::symlink(template.get_program(), release.join("warren")).expect("a link");
    // Building takes minutes and is what the rest of the tests begin with.
    let tools = home.data().with_file_name("tools");
    fs::create_dir(&tools).expect("a directory");
    let cargo = tools.join("cargo");
    fs::write(&cargo, "#!/bin/sh\n[ \"$*\" = 'build --release' ]\n").expect("a stand-in");
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).expect("make it a program");

    let mut shell = command("bash");
    shell.envs(template.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", tools.display()));
    let mark = "=== the next step";
    let script: Vec<String> =
        steps.iter().map(|step| format!("{}\necho; echo '{mark}'\n", step.script)).collect();
    let script = script.concat().replace("7423", &free_port());
    shell.current_dir(&clone).args(["-euo", "pipefail", "-c", &script]);
    let output = run(&mut shell, b"").good();
    let text = output.text();
    let mut parts = text.split(mark);
    for step in &steps {
        let part = parts.next().expect("a part per step");
        let mut lines = part.lines();
        for pattern in &step.printed {
            assert!(
                lines.any(|line| shown(line, pattern)),
                "{}\nprinted\n{part}\nand not {pattern}",
                step.script
            );
        }
    }
}

/// A port of the loopback that nobody listens on now.
fn free_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port().to_string()
}

#[test]
fn what_the_page_leaves_out_is_left_out() {
    let check = |line, pattern, expected| assert_eq!(shown(line, pattern), expected, "{pattern}");
    check("abc", "abc", true);
    check("abc", "ab", false);
    check("abc", "a...", true);
    check("abcd", "a...c...", true);
    check("abcd", "...cd", true);
    check("abcd", "...d...c", false);
}

#[test]
fn steps_are_read_with_what_they_print() {
    let page = "x\n```sh\na\nb\n```\ny\n```text\nc\n```\n```sh\nd\n```\n";
    let step = |script: &str, printed: &[&str]| Step {
        script: script.into(),
        printed: printed.iter().map(|it| (*it).into()).collect(),
    };
    assert_eq!(steps(page), [step("a\nb", &["c"]), step("d", &[])]);
}
