//! A list of steps to a [`Recipe`]: the form of builders that are libraries, and of TOML files.

use crate::{
    ParseError, Recipe,
    recipe::{CommandLine, Copy, CopyFrom, CopySource, Instruction, Run, Stage, Step},
};

/// A build as a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steps {
    /// What it stands on: an image or a template.
    pub base: String,
    /// What commands are run by; `/bin/sh -c` where it is empty.
    pub shell: Vec<String>,
    /// What is done, in order.
    pub steps: Vec<ListedStep>,
}

/// One step of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedStep {
    /// What is done.
    pub action: Action,
    /// Whether it is done although the cache has its result.
    pub force: bool,
}

/// What a step of a list does. `$NAME` in it is filled in as in a Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Runs a command by the shell.
    Run {
        /// The command.
        command: String,
        /// Who it runs as; the user so far where absent.
        user: Option<String>,
    },
    /// Copies files.
    Copy {
        /// A path or pattern in the context.
        source: String,
        /// Where it goes.
        destination: String,
        /// `user[:group]`.
        user: Option<String>,
        /// Octal.
        mode: Option<String>,
        /// The archive that holds the files, where each has one of its own: 64 hexadecimal digits.
        files: Option<String>,
    },
    /// Sets variables.
    Env(Vec<(String, String)>),
    /// Changes the working directory.
    Workdir(String),
    /// Changes the user.
    User(String),
}

impl Steps {
    /// The same as a recipe of one stage. Lines of it are numbers of steps, counted from 1.
    ///
    /// # Errors
    ///
    /// [`ParseError`] for the first step that says nothing that can be done.
    pub fn recipe(self) -> Result<Recipe, ParseError> {
        if self.base.is_empty() || self.base.contains(char::is_whitespace) {
            return Err(ParseError::at(1, "expected an image or a template to stand on"));
        }
        let mut steps = Vec::with_capacity(self.steps.len() + 1);
        if !self.shell.is_empty() {
            let text = format!("SHELL {}", self.shell.join(" "));
            let instruction = Instruction::Shell(self.shell);
            steps.push(Step { line: 1, text, instruction, force: false });
        }
        for (index, step) in self.steps.into_iter().enumerate() {
            let line = u32::try_from(index + 1).unwrap_or(u32::MAX);
            let text = step.action.shown();
            let instruction = step.action.instruction(line)?;
            steps.push(Step { line, text, instruction, force: step.force });
        }
        let stage = Stage { line: 1, base: self.base, platform: None, name: None, steps };
        Ok(Recipe {
            arguments: Vec::new(),
            stages: vec![stage],
            escape: '\\',
            warnings: Vec::new(),
        })
    }
}

impl Action {
    fn shown(&self) -> String {
        let text = match self {
            Self::Run { command, .. } => format!("RUN {command}"),
            Self::Copy { source, destination, .. } => format!("COPY {source} {destination}"),
            // Values may be what nobody is to read in a log.
            Self::Env(pairs) => {
                let names: Vec<_> = pairs.iter().map(|(name, _)| name.as_str()).collect();
                format!("ENV {}", names.join(" "))
            }
            Self::Workdir(path) => format!("WORKDIR {path}"),
            Self::User(name) => format!("USER {name}"),
        };
        text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(200).collect()
    }

    fn instruction(self, line: u32) -> Result<Instruction, ParseError> {
        let error = |reason: &str| Err(ParseError::at(line, reason));
        Ok(match self {
            Self::Run { command, .. } if command.trim().is_empty() => {
                return error("RUN needs a command");
            }
            Self::Run { command, user } => Instruction::Run(Run {
                command: CommandLine::Shell(command),
                mounts: Vec::new(),
                offline: false,
                user,
            }),
            Self::Copy { source, destination, user, mode, files } => {
                if source.is_empty() || destination.is_empty() {
                    return error("COPY needs a source and a destination");
                }
                let from = match files {
                    None => CopyFrom::Context,
                    Some(hash) if is_hash(&hash) => CopyFrom::Files(hash),
                    Some(_) => return error("expected a hash of 64 hexadecimal digits"),
                };
                Instruction::Copy(Copy {
                    from,
                    sources: vec![CopySource::Path(source)],
                    destination,
                    chown: user,
                    chmod: mode,
                    unpack: false,
                    exclude: Vec::new(),
                })
            }
            Self::Env(pairs) => {
                if pairs.iter().any(|(name, _)| name.is_empty() || name.contains('=')) {
                    return error("ENV needs names without `=`");
                }
                Instruction::Env(pairs)
            }
            Self::Workdir(path) if path.is_empty() => return error("WORKDIR needs a path"),
            Self::Workdir(path) => Instruction::Workdir(path),
            Self::User(name) if name.is_empty() => return error("USER needs a name"),
            Self::User(name) => Instruction::User(name),
        })
    }
}

/// Whether a text is a SHA-256 in hexadecimal digits.
#[must_use]
pub fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
