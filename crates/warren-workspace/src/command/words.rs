//! The words after a command, read from the left.

use std::collections::VecDeque;

use super::{Command, CommandError, List, Logs, MOST_IN_SWARM, Run, Settings, Typed, Wanted};
use crate::{AgentName, env_file, text};

/// What is left of a command line.
#[derive(Debug)]
pub(super) struct Words {
    command: &'static str,
    rest: VecDeque<String>,
}

/// What the next word is.
enum Next {
    /// It begins with a hyphen.
    Flag(String),
    /// It does not.
    Plain(String),
    /// `--`: the rest is as it is.
    Rest,
}

type Parsed<T = Command> = Result<T, CommandError>;

impl Words {
    pub(super) fn new(command: &'static str, rest: VecDeque<String>) -> Self {
        Self { command, rest }
    }

    fn next(&mut self) -> Option<Next> {
        let word = self.rest.pop_front()?;
        Some(match word.as_str() {
            "--" => Next::Rest,
            // A hyphen alone is a word.
            text if text.len() > 1 && text.starts_with('-') => Next::Flag(word),
            _ => Next::Plain(word),
        })
    }

    fn value(&mut self, flag: &str) -> Parsed<String> {
        self.rest.pop_front().ok_or_else(|| CommandError::Value(flag.to_owned()))
    }

    fn number<T: std::str::FromStr>(&mut self, flag: &'static str) -> Parsed<T> {
        let value = self.value(flag)?;
        number(flag, "a number", &value)
    }

    fn rest(&mut self) -> Vec<String> {
        std::mem::take(&mut self.rest).into()
    }

    fn unknown(&self, flag: &str) -> CommandError {
        CommandError::Flag { flag: text::shown(flag), command: self.command }
    }

    /// Reads the rest: flags by `flag`, which says whether it knows one, and at most `most` words.
    fn read(
        &mut self,
        most: usize,
        mut flag: impl FnMut(&mut Self, &str) -> Parsed<bool>,
    ) -> Parsed<VecDeque<String>> {
        let mut plain = VecDeque::new();
        while let Some(next) = self.next() {
            match next {
                Next::Flag(word) => {
                    if !flag(self, &word)? {
                        return Err(self.unknown(&word));
                    }
                }
                Next::Plain(word) if plain.len() < most => plain.push_back(word),
                Next::Plain(word) => return Err(CommandError::Unexpected(text::shown(&word))),
                Next::Rest => {
                    for word in self.rest() {
                        if plain.len() == most {
                            return Err(CommandError::Unexpected(text::shown(&word)));
                        }
                        plain.push_back(word);
                    }
                }
            }
        }
        Ok(plain)
    }

    /// A command without words.
    pub(super) fn nothing(mut self, command: Command) -> Parsed {
        self.read(0, |_, _| Ok(false))?;
        Ok(command)
    }

    /// A command of one name.
    pub(super) fn only_name(mut self, usage: &'static str) -> Parsed<AgentName> {
        let mut plain = self.read(1, |_, _| Ok(false))?;
        name(plain.pop_front(), usage)
    }

    /// A command of two names, which are not the same.
    pub(super) fn two_names(mut self, usage: &'static str) -> Parsed<(AgentName, AgentName)> {
        let mut plain = self.read(2, |_, _| Ok(false))?;
        let (from, to) = (name(plain.pop_front(), usage)?, name(plain.pop_front(), usage)?);
        if from == to { Err(CommandError::SameName) } else { Ok((from, to)) }
    }

    /// A flag of what a new agent is to be. Says whether it is one.
    fn wanted(&mut self, wanted: &mut Wanted, flag: &str) -> Parsed<bool> {
        match flag {
            "--profile" | "-p" => wanted.profile = Some(self.value("--profile")?),
            "--prompt" | "-P" => wanted.prompt = Some(self.value("--prompt")?),
            "--tag" | "-t" => wanted.tags.add(&self.value("--tag")?)?,
            "--from-dir" => wanted.from_dir = Some(self.value(flag)?),
            "--from-git" => wanted.from_git = Some(self.value(flag)?),
            "--ref" | "--branch" => wanted.from_git_ref = Some(self.value(flag)?),
            "--gitlawb" | "--id" => wanted.identity = Some(true),
            "--no-gitlawb" | "--no-id" => wanted.identity = Some(false),
            _ => return Ok(false),
        }
        Ok(true)
    }

    pub(super) fn spawn(mut self) -> Parsed {
        const USAGE: &str = "spawn <name> [flags] [-- cmd...]";
        let mut wanted = Wanted::default();
        let mut plain = None;
        while let Some(next) = self.next() {
            match next {
                Next::Flag(flag) if self.wanted(&mut wanted, &flag)? => {}
                Next::Flag(flag) => return Err(self.unknown(&flag)),
                Next::Plain(word) if plain.is_none() => plain = Some(word),
                Next::Plain(word) => return Err(CommandError::Unexpected(text::shown(&word))),
                Next::Rest => wanted.command = self.rest(),
            }
        }
        Ok(Command::Spawn { name: name(plain, USAGE)?, wanted })
    }

    pub(super) fn run(mut self) -> Parsed {
        let mut run = Run::default();
        while let Some(next) = self.next() {
            match next {
                Next::Flag(flag) => match flag.as_str() {
                    "--timeout" => run.timeout_seconds = self.number("--timeout")?,
                    "--keep" => run.keep = true,
                    "--name" => run.name = Some(self.value("--name")?.parse()?),
                    _ if self.wanted(&mut run.wanted, &flag)? => {}
                    _ => return Err(self.unknown(&flag)),
                },
                // The first word is where the command begins.
                Next::Plain(word) => {
                    run.wanted.command = [vec![word], self.rest()].concat();
                }
                Next::Rest => run.wanted.command = self.rest(),
            }
        }
        Ok(Command::Run(run))
    }

    pub(super) fn swarm(mut self) -> Parsed {
        const USAGE: &str = "swarm <base> <n> [flags] [-- cmd...]";
        let mut wanted = Wanted::default();
        let mut plain = VecDeque::new();
        let mut count = None;
        while let Some(next) = self.next() {
            match next {
                Next::Flag(flag) => match flag.as_str() {
                    "--count" | "-n" => count = Some(self.value("--count")?),
                    _ if self.wanted(&mut wanted, &flag)? => {}
                    _ => return Err(self.unknown(&flag)),
                },
                Next::Plain(word) if plain.len() < 2 => plain.push_back(word),
                Next::Plain(word) => return Err(CommandError::Unexpected(text::shown(&word))),
                Next::Rest => wanted.command = self.rest(),
            }
        }
        let base = plain.pop_front().ok_or(CommandError::Usage(USAGE))?;
        let count = match (plain.pop_front(), count) {
            (Some(word), Some(_)) => return Err(CommandError::Unexpected(text::shown(&word))),
            (one, other) => one.or(other).ok_or(CommandError::Usage(USAGE))?,
        };
        let expected = "a number from 1 to 1000";
        let number = number::<u32>("swarm", expected, &count)?;
        if !(1..=MOST_IN_SWARM).contains(&number) {
            return Err(CommandError::Number { flag: "swarm", expected, got: count });
        }
        Ok(Command::Swarm { names: AgentName::swarm(&base, number)?, wanted })
    }

    pub(super) fn list(mut self) -> Parsed {
        let mut list = List::default();
        self.read(0, |words, flag| {
            match flag {
                "--json" => list.json = true,
                "--quiet" | "-q" => list.quiet = true,
                "--tag" | "-t" => list.tag = Some(words.value("--tag")?),
                "--status" | "-s" => list.status = Some(words.value("--status")?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(Command::List(list))
    }

    pub(super) fn ps(mut self) -> Parsed {
        let (mut all, mut json) = (false, false);
        self.read(0, |_, flag| {
            match flag {
                "--all" | "-a" => all = true,
                "--json" => json = true,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(Command::Ps { all, json })
    }

    pub(super) fn info(mut self) -> Parsed {
        let mut json = false;
        let mut plain = self.read(1, |_, flag| {
            json |= flag == "--json";
            Ok(flag == "--json")
        })?;
        Ok(Command::Info { name: name(plain.pop_front(), "info <name> [--json]")?, json })
    }

    pub(super) fn history(mut self) -> Parsed {
        let (mut count, mut event) = (50, None);
        self.read(0, |words, flag| {
            match flag {
                "-n" | "--lines" => count = words.number("-n")?,
                "-e" | "--event" => event = Some(words.value("-e")?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(Command::History { count, event })
    }

    pub(super) fn logs(mut self) -> Parsed {
        let (mut lines, mut follow, mut raw) = (200, false, false);
        let mut plain = self.read(1, |words, flag| {
            match flag {
                "-n" | "--lines" => lines = words.number("-n")?,
                "-f" | "--follow" => follow = true,
                "--raw" => raw = true,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let name = name(plain.pop_front(), "logs <name> [-n <lines>] [-f] [--raw]")?;
        Ok(Command::Logs(Logs { name, lines, follow, raw }))
    }

    pub(super) fn watch(mut self) -> Parsed {
        let mut seconds = 2;
        self.read(0, |words, flag| {
            let known = matches!(flag, "-n" | "--interval");
            if known {
                seconds = words.number("-n")?;
            }
            Ok(known)
        })?;
        Ok(Command::Watch { seconds })
    }

    /// Flags count only before the first word of the text.
    pub(super) fn exec(mut self) -> Parsed {
        const USAGE: &str = "exec <name> [--file <f>] [--no-enter] <cmd...>";
        let name = name(self.rest.pop_front(), USAGE)?;
        let (mut file, mut enter, mut text) = (None, true, Vec::new());
        while let Some(next) = self.next() {
            match next {
                Next::Flag(flag) => match flag.as_str() {
                    "--file" | "-f" => file = Some(self.value("--file")?),
                    "--no-enter" => enter = false,
                    _ => return Err(self.unknown(&flag)),
                },
                Next::Plain(word) => text = [vec![word], self.rest()].concat(),
                Next::Rest => text = self.rest(),
            }
        }
        let typed = match (file, text.is_empty()) {
            (Some(file), true) => Typed::File(file),
            (None, false) => Typed::Text(text.join(" ")),
            _ => return Err(CommandError::Usage(USAGE)),
        };
        Ok(Command::Exec { name, typed, enter })
    }

    pub(super) fn send(mut self) -> Parsed {
        const USAGE: &str = "send <name> <file>";
        let mut plain = self.read(2, |_, _| Ok(false))?;
        let name = name(plain.pop_front(), USAGE)?;
        let file = plain.pop_front().ok_or(CommandError::Usage(USAGE))?;
        Ok(Command::Exec { name, typed: Typed::File(file), enter: true })
    }

    pub(super) fn broadcast(mut self) -> Parsed {
        const USAGE: &str = "broadcast [--tag K=V] <cmd...>";
        let (mut tag, mut text) = (None, Vec::new());
        while let Some(next) = self.next() {
            match next {
                Next::Flag(flag) => match flag.as_str() {
                    "--tag" | "-t" => tag = Some(self.value("--tag")?),
                    _ => return Err(self.unknown(&flag)),
                },
                Next::Plain(word) => text = [vec![word], self.rest()].concat(),
                Next::Rest => text = self.rest(),
            }
        }
        if text.is_empty() {
            return Err(CommandError::Usage(USAGE));
        }
        Ok(Command::Broadcast { tag, text: text.join(" ") })
    }

    pub(super) fn wait(mut self) -> Parsed {
        let mut timeout_seconds = 0;
        let mut plain = self.read(1, |words, flag| {
            if flag == "--timeout" {
                timeout_seconds = words.number("--timeout")?;
            }
            Ok(flag == "--timeout")
        })?;
        let name = name(plain.pop_front(), "wait <name> [--timeout <s>]")?;
        Ok(Command::Wait { name, timeout_seconds })
    }

    pub(super) fn kill_all(mut self) -> Parsed {
        let (mut tag, mut force) = (None, false);
        self.read(0, |words, flag| {
            match flag {
                "--tag" | "-t" => tag = Some(words.value("--tag")?),
                "--force" | "-f" => force = true,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(Command::KillAll { tag, force })
    }

    pub(super) fn purge(mut self) -> Parsed {
        let mut force = false;
        self.read(0, |_, flag| {
            let known = matches!(flag, "--force" | "-f");
            force |= known;
            Ok(known)
        })?;
        Ok(Command::Purge { force })
    }

    /// `list`, `get K`, `set K=V`, `set K V`, `unset K`, `edit`, `path`.
    pub(super) fn settings(mut self) -> Parsed<Settings> {
        let usage = if self.command == "env" {
            ["env get <KEY>", "env set <KEY=VALUE>", "env unset <KEY>"]
        } else {
            ["config get <KEY>", "config set <KEY=VALUE>", "config unset <KEY>"]
        };
        let [get, set, unset] = usage.map(CommandError::Usage);
        let what = self.rest.pop_front().unwrap_or_else(|| "list".to_owned());
        // A value may begin with a hyphen.
        let (first, second) = (self.rest.pop_front(), self.rest.pop_front());
        if let Some(word) = self.rest.pop_front() {
            return Err(CommandError::Unexpected(text::shown(&word)));
        }
        Ok(match what.as_str() {
            "list" | "ls" => Settings::List,
            "get" => Settings::Get(first.ok_or(get)?),
            "set" => {
                let Some(first) = first else { return Err(set) };
                let (key, value) = if let Some(value) = second {
                    (first, value)
                } else if let Some((key, value)) = first.split_once('=') {
                    (key.to_owned(), value.to_owned())
                } else {
                    return Err(set);
                };
                if !env_file::is_variable(&key) {
                    return Err(env_file::EnvError::Key(text::shown(&key)).into());
                }
                Settings::Set { key, value }
            }
            "unset" | "rm" => Settings::Unset(first.ok_or(unset)?),
            "edit" => Settings::Edit,
            "path" => Settings::Path,
            _ => Settings::Usage,
        })
    }
}

fn name(word: Option<String>, usage: &'static str) -> Parsed<AgentName> {
    Ok(word.ok_or(CommandError::Usage(usage))?.parse()?)
}

fn number<T: std::str::FromStr>(
    flag: &'static str,
    expected: &'static str,
    word: &str,
) -> Parsed<T> {
    let wrong = |_error| CommandError::Number { flag, expected, got: text::shown(word) };
    word.parse().map_err(wrong)
}
