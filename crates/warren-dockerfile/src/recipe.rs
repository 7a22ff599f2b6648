//! What a parsed build is: stages of instructions, with variables not yet filled in.

use std::time::Duration;

/// A whole Dockerfile, or a list of steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// `ARG`s before the first `FROM`: what `FROM` may use.
    pub arguments: Vec<Argument>,
    /// The stages in the order they were written; never empty.
    pub stages: Vec<Stage>,
    /// The character that takes the meaning of the next one away, and joins lines.
    pub escape: char,
    /// What was read and does less than somebody may expect.
    pub warnings: Vec<Warning>,
}

/// Something that is accepted and may surprise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Where, counted from 1.
    pub line: u32,
    /// A sentence for people.
    pub text: String,
}

/// One `FROM` and what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Where it begins, counted from 1.
    pub line: u32,
    /// What it stands on, variables not filled in.
    pub base: String,
    /// `--platform`, variables not filled in.
    pub platform: Option<String>,
    /// Its name in lower case, where it has one.
    pub name: Option<String>,
    /// What is done, in order.
    pub steps: Vec<Step>,
}

/// One instruction, and where it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where it begins, counted from 1. In a list of steps: the step's number.
    pub line: u32,
    /// The instruction as it was written, in one line, for the log.
    pub text: String,
    /// What it says.
    pub instruction: Instruction,
    /// Whether it is to be done although the cache has its result.
    pub force: bool,
}

/// What a step does. Texts have their variables not filled in unless it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// Runs a command.
    Run(Run),
    /// Copies files.
    Copy(Copy),
    /// Sets variables for everything that follows, names first.
    Env(Vec<(String, String)>),
    /// Declares variables of the build alone.
    Arg(Vec<Argument>),
    /// Changes the working directory, which is made where it is missing.
    Workdir(String),
    /// Changes who commands run as.
    User(String),
    /// Names ports: `80`, `80/tcp`, `8000-8010`.
    Expose(Vec<String>),
    /// What a sandbox runs.
    Entrypoint(CommandLine),
    /// What a sandbox runs, or what the entry point gets as arguments.
    Cmd(CommandLine),
    /// Free text, names first.
    Label(Vec<(String, String)>),
    /// What shell forms are run by; variables mean nothing here.
    Shell(Vec<String>),
    /// How to see whether what a sandbox runs is well; none for not at all.
    Healthcheck(Option<Healthcheck>),
}

/// A command as it was written; the shell fills variables in, or nobody does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandLine {
    /// A text for the shell.
    Shell(String),
    /// A program and its arguments.
    Exec(Vec<String>),
    /// A script that names its interpreter in its first line.
    Script(String),
}

/// What `RUN` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The command.
    pub command: CommandLine,
    /// What it sees besides the files of the stage.
    pub mounts: Vec<Mount>,
    /// Whether it reaches nothing: `--network=none`.
    pub offline: bool,
    /// Who it runs as, where that differs from the stage's user.
    pub user: Option<String>,
}

/// Something a command sees while it runs and that never becomes a part of the template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mount {
    /// A secret of the build.
    Secret(SecretMount),
    /// An empty directory in memory.
    Tmpfs {
        /// Where.
        target: String,
        /// The most it may hold in bytes.
        size_bytes: Option<u64>,
    },
}

/// Where a secret is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretMount {
    /// Its name among the secrets of the build.
    pub id: String,
    /// The file; `/run/secrets/<id>` where there is neither this nor `env`.
    pub target: Option<String>,
    /// The environment variable that holds it.
    pub env: Option<String>,
    /// Whether the step fails where the build has no such secret.
    pub required: bool,
    /// The mode of the file.
    pub mode: u32,
}

/// What `COPY` and `ADD` say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Where the files come from.
    pub from: CopyFrom,
    /// Which: never empty.
    pub sources: Vec<CopySource>,
    /// Where they go.
    pub destination: String,
    /// `user[:group]`, by name or number.
    pub chown: Option<String>,
    /// Octal, such as `755`.
    pub chmod: Option<String>,
    /// Whether local tar archives are unpacked: `ADD`.
    pub unpack: bool,
    /// Files that are left out: patterns as in `.dockerignore`.
    pub exclude: Vec<String>,
}

/// Where copied files come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyFrom {
    /// The build context.
    Context,
    /// An earlier stage, by its place in [`Recipe::stages`].
    Stage(usize),
    /// An image or a template that is no stage.
    Image(String),
    /// An archive that was uploaded on its own: 64 hexadecimal digits.
    Files(String),
}

/// One source of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopySource {
    /// A path or a pattern.
    Path(String),
    /// A file that is written out in the recipe itself.
    Inline {
        /// Its name.
        name: String,
        /// What it holds.
        content: String,
        /// Whether variables in it are filled in.
        expand: bool,
    },
}

/// A declared variable of the build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// Where, counted from 1.
    pub line: u32,
    /// Its name.
    pub name: String,
    /// What it is where the build does not say, variables not filled in.
    pub default: Option<String>,
}

/// What `HEALTHCHECK` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Healthcheck {
    /// The command: well where it ends with 0.
    pub command: CommandLine,
    /// How long between two.
    pub interval: Option<Duration>,
    /// How long one may take.
    pub timeout: Option<Duration>,
    /// How long it may fail at first.
    pub start_period: Option<Duration>,
    /// How often it may fail in a row.
    pub retries: Option<u32>,
}

impl Instruction {
    /// Its keyword.
    #[must_use]
    pub fn keyword(&self) -> &'static str {
        match self {
            Self::Run(_) => "RUN",
            Self::Copy(copy) if copy.unpack => "ADD",
            Self::Copy(_) => "COPY",
            Self::Env(_) => "ENV",
            Self::Arg(_) => "ARG",
            Self::Workdir(_) => "WORKDIR",
            Self::User(_) => "USER",
            Self::Expose(_) => "EXPOSE",
            Self::Entrypoint(_) => "ENTRYPOINT",
            Self::Cmd(_) => "CMD",
            Self::Label(_) => "LABEL",
            Self::Shell(_) => "SHELL",
            Self::Healthcheck(_) => "HEALTHCHECK",
        }
    }
}
