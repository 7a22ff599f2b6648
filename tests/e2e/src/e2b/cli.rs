//! E2B's command line.

use super::{Clients, Server};
use crate::harness::{Home, Output, command, run, skip};

/// The command line, told where a server is.
struct CommandLine<'a> {
    clients: &'a Clients,
    server: &'a Server<'a>,
    home: &'a Home,
}

impl CommandLine<'_> {
    fn run(&self, words: &[&str], input: &[u8]) -> Output {
        let mut e2b = command("node");
        e2b.arg(self.clients.node.join("@e2b/cli/dist/index.js")).args(words);
        e2b.env("HOME", self.home.data().with_file_name("e2b")).env("NO_COLOR", "1");
        run(self.server.told(&mut e2b), input)
    }

    /// What it says, without what makes it colourful.
    #[track_caller]
    fn says(&self, words: &[&str]) -> String {
        let output = self.run(words, b"").good();
        output.text() + &output.errors()
    }
}

/// The first id of a sandbox in a text.
#[track_caller]
fn id_in(text: &str) -> String {
    let at = text.find("sb-").unwrap_or_else(|| panic!("no id: {text}"));
    text[at..at + 19].to_owned()
}

#[test]
fn the_command_line_works_unchanged() {
    let Some(clients) = Clients::of("newest") else { skip!("E2B's packages are not installed") };
    let home = Home::new();
    let server = Server::start(&home);
    let e2b = CommandLine { clients: &clients, server: &server, home: &home };
    let id = id_in(&e2b.says(&["sandbox", "create", "base", "--detach"]));
    assert!(e2b.says(&["sandbox", "list"]).contains(&id));
    assert!(e2b.says(&["sandbox", "info", &id]).contains(&id));

    let said = e2b.run(&["sandbox", "exec", &id, "echo", "from", "inside"], b"").good();
    assert_eq!(said.text(), "from inside\n");
    let failed = e2b.run(&["sandbox", "exec", &id, "exit 7"], b"");
    assert_eq!(failed.code(), 7, "{failed:?}");
    // Bytes that are no text, more of them than a pipe holds.
    let input: Vec<u8> = (0..65_537_u32).map(|number| (number % 251) as u8).collect();
    let sum = run(command("sha256sum").arg("-"), &input).good().text();
    let there = e2b.run(&["sandbox", "exec", &id, "sha256sum"], &input).good().text();
    assert_eq!(there.split(' ').next(), sum.split(' ').next());

    e2b.says(&["sandbox", "pause", &id]);
    assert!(e2b.says(&["sandbox", "list", "--state", "paused"]).contains(&id));
    e2b.says(&["sandbox", "resume", &id]);
    e2b.says(&["sandbox", "metrics", &id]);
    e2b.says(&["sandbox", "logs", &id]);
    e2b.says(&["sandbox", "kill", &id]);
    assert!(!e2b.says(&["sandbox", "list"]).contains(&id));
}
