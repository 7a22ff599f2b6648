//! What can be said on agentvm's command line.
//!
//! Scripts say it as they always did: the same commands, flags in the same places, the same words
//! where something is wrong. Where agentvm's own reading was an accident it is mended: flags stand on
//! either side of a name everywhere, a swarm takes its flags one by one, and what follows `--` is a
//! list of arguments that no shell ever sees.

mod words;

use std::collections::VecDeque;

use crate::{
    AgentName, Tags,
    env_file::{self, EnvError},
    name::NameError,
    tag::TagError,
};

use words::Words;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `help`.
    Help,
    /// `version`.
    Version,
    /// `spawn NAME`.
    Spawn {
        /// What it is called.
        name: AgentName,
        /// What it is.
        wanted: Wanted,
    },
    /// `run`: spawn, wait, print, remove.
    Run(Run),
    /// `swarm BASE COUNT`.
    Swarm {
        /// All their names.
        names: Vec<AgentName>,
        /// What each is.
        wanted: Wanted,
    },
    /// `restart NAME`.
    Restart(AgentName),
    /// `clone SRC DST`.
    Clone {
        /// What is copied.
        from: AgentName,
        /// What the copy is called.
        to: AgentName,
    },
    /// `rename OLD NEW`.
    Rename {
        /// What it was called.
        from: AgentName,
        /// What it is called from now on.
        to: AgentName,
    },
    /// `list`.
    List(List),
    /// `ps`.
    Ps {
        /// Whether dead ones are shown.
        all: bool,
        /// Whether it is for programs.
        json: bool,
    },
    /// `info NAME`.
    Info {
        /// Whose.
        name: AgentName,
        /// Whether it is for programs.
        json: bool,
    },
    /// `stats`.
    Stats,
    /// `history`.
    History {
        /// How many lines.
        count: usize,
        /// Of which event.
        event: Option<String>,
    },
    /// `diff NAME`.
    Diff(AgentName),
    /// `grid`.
    Grid,
    /// `open NAME`.
    Open(AgentName),
    /// `logs NAME`.
    Logs(Logs),
    /// `watch`.
    Watch {
        /// How often it looks.
        seconds: u64,
    },
    /// `attach NAME`.
    Attach(AgentName),
    /// `exec NAME`, and `send NAME FILE`.
    Exec {
        /// Who is typed to.
        name: AgentName,
        /// What is typed.
        typed: Typed,
        /// Whether Enter is pressed after it.
        enter: bool,
    },
    /// `broadcast WORDS`.
    Broadcast {
        /// Only to those with this tag.
        tag: Option<String>,
        /// What is typed.
        text: String,
    },
    /// `wait NAME`.
    Wait {
        /// For whom.
        name: AgentName,
        /// How long; without an end where 0.
        timeout_seconds: u64,
    },
    /// `kill NAME`.
    Kill(AgentName),
    /// `killall`.
    KillAll {
        /// Only those with this tag.
        tag: Option<String>,
        /// Whether nobody is asked.
        force: bool,
    },
    /// `clean`.
    Clean,
    /// `purge`.
    Purge {
        /// Whether nobody is asked.
        force: bool,
    },
    /// `profiles`.
    Profiles,
    /// `keys`.
    Keys,
    /// `env`: the file of keys.
    Env(Settings),
    /// `config`: the file of defaults.
    Config(Settings),
    /// `doctor`.
    Doctor,
    /// `completion SHELL`; none asks for its usage.
    Completion(Option<String>),
    /// `upgrade`.
    Upgrade,
    /// `root`.
    Root,
}

/// What a new agent is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Its profile.
    pub profile: Option<String>,
    /// The file of its first prompt.
    pub prompt: Option<String>,
    /// Its tags.
    pub tags: Tags,
    /// The directory that its workspace is a copy of.
    pub from_dir: Option<String>,
    /// The repository that its workspace is a clone of.
    pub from_git: Option<String>,
    /// The branch, tag or commit of that.
    pub from_git_ref: Option<String>,
    /// Whether it has an identity; none where nobody has said.
    pub identity: Option<bool>,
    /// The command in place of the profile's; empty where none was given.
    pub command: Vec<String>,
}

/// `run`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// What it is called; none for a name of the moment.
    pub name: Option<AgentName>,
    /// What it is.
    pub wanted: Wanted,
    /// How long it may take; without an end where 0.
    pub timeout_seconds: u64,
    /// Whether it stays when it has ended.
    pub keep: bool,
}

/// `list`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// Only those with this tag.
    pub tag: Option<String>,
    /// Only those of this status, `running` or `dead`; none are of any other.
    pub status: Option<String>,
    /// Names alone.
    pub quiet: bool,
    /// Whether it is for programs.
    pub json: bool,
}

/// `logs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logs {
    /// Whose.
    pub name: AgentName,
    /// How many of the last lines.
    pub lines: usize,
    /// Whether it goes on with what comes.
    pub follow: bool,
    /// Whether escape codes stay.
    pub raw: bool,
}

/// What is typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed {
    /// This text.
    Text(String),
    /// What is in this file.
    File(String),
}

/// What is done to a file of settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settings {
    /// All of it is shown.
    List,
    /// One value is printed.
    Get(String),
    /// One value is set.
    Set {
        /// Its name.
        key: String,
        /// The value.
        value: String,
    },
    /// One value is removed.
    Unset(String),
    /// It is opened in an editor.
    Edit,
    /// Where it is is printed.
    Path,
    /// Something else: how it is used is printed.
    Usage,
}

/// Why a command line is none. Its text stands behind `error: `, and the exit status is 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// There is no such command.
    #[error("Unknown command '{0}'.\nRun 'agentvm help' for the commands there are.")]
    Unknown(String),
    /// The command has no such flag.
    #[error("Unknown flag '{flag}' for {command}")]
    Flag {
        /// What was said.
        flag: String,
        /// To which command.
        command: &'static str,
    },
    /// A flag lacks its value.
    #[error("{0} requires an argument")]
    Value(String),
    /// Something is missing.
    #[error("Usage: agentvm {0}")]
    Usage(&'static str),
    /// There is one word too many.
    #[error("Unexpected argument '{0}'. Use -- to separate a command.")]
    Unexpected(String),
    /// A number was expected.
    #[error("{flag} expects {expected} (got '{got}')")]
    Number {
        /// The flag, or what the word stands for.
        flag: &'static str,
        /// What was expected.
        expected: &'static str,
        /// What was said.
        got: String,
    },
    /// Both names are the same.
    #[error("The new name must be different")]
    SameName,
    /// A name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A tag is none.
    #[error(transparent)]
    Tag(#[from] TagError),
    /// A key or a value cannot be set.
    #[error(transparent)]
    Setting(#[from] EnvError),
}

/// The most agents of one swarm.
const MOST_IN_SWARM: u32 = 1000;

/// Reads a command line, without the name of the program.
///
/// # Errors
///
/// [`CommandError`] with agentvm's words.
pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Command, CommandError> {
    let mut arguments: VecDeque<String> = arguments.into_iter().collect();
    let Some(command) = arguments.pop_front() else { return Ok(Command::Help) };
    let words = |name| Words::new(name, arguments.clone());
    Ok(match command.as_str() {
        "help" | "--help" | "-h" => Command::Help,
        "version" | "--version" | "-v" => Command::Version,
        "spawn" => words("spawn").spawn()?,
        "run" => words("run").run()?,
        "swarm" => words("swarm").swarm()?,
        "restart" => Command::Restart(words("restart").only_name("restart <name>")?),
        "clone" | "cp" => {
            let (from, to) = words("clone").two_names("clone <src> <dst>")?;
            Command::Clone { from, to }
        }
        "rename" | "mv" => {
            let (from, to) = words("rename").two_names("rename <old> <new>")?;
            Command::Rename { from, to }
        }
        "list" | "ls" => words("list").list()?,
        "ps" => words("ps").ps()?,
        "info" => words("info").info()?,
        "stats" => words("stats").nothing(Command::Stats)?,
        "history" => words("history").history()?,
        "diff" => Command::Diff(words("diff").only_name("diff <name>")?),
        "grid" => words("grid").nothing(Command::Grid)?,
        "open" => Command::Open(words("open").only_name("open <name>")?),
        "logs" => words("logs").logs()?,
        "watch" => words("watch").watch()?,
        "attach" => Command::Attach(words("attach").only_name("attach <name>")?),
        "exec" => words("exec").exec()?,
        "send" => words("send").send()?,
        "broadcast" => words("broadcast").broadcast()?,
        "wait" => words("wait").wait()?,
        "kill" => Command::Kill(words("kill").only_name("kill <name>")?),
        "killall" => words("killall").kill_all()?,
        "clean" => words("clean").nothing(Command::Clean)?,
        "purge" => words("purge").purge()?,
        "profiles" => words("profiles").nothing(Command::Profiles)?,
        "keys" => words("keys").nothing(Command::Keys)?,
        "env" => {
            let settings = words("env").settings()?;
            if let Settings::Set { key, value } = &settings {
                env_file::check_key(key, value)?;
            }
            Command::Env(settings)
        }
        "config" => Command::Config(words("config").settings()?),
        "doctor" => words("doctor").nothing(Command::Doctor)?,
        "completion" => Command::Completion(arguments.pop_front()),
        "upgrade" => words("upgrade").nothing(Command::Upgrade)?,
        "root" => words("root").nothing(Command::Root)?,
        _ => return Err(CommandError::Unknown(crate::text::shown(&command))),
    })
}

#[cfg(test)]
mod tests;
