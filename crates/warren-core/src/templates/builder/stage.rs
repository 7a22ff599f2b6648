//! One stage, step by step.

use warren_dockerfile::{
    parse::metadata::port_range,
    recipe::{CommandLine, Instruction, Step},
    scope::Scope,
};

use super::{Builder, Built, key::Key, layer::StepSandbox};
use crate::{
    error::SandboxError,
    sandbox::Setup,
    spec::Network,
    store::{ObjectChange, ObjectKind, templates as rows},
    templates::table::CachedStep,
};

/// A stage as it is after some of its steps.
pub(super) struct Running<'a> {
    pub(super) builder: &'a Builder,
    pub(super) built: Built,
    pub(super) scope: Scope,
    /// Directories that are to be made before the next step that changes files.
    pub(super) directories: Vec<String>,
    /// Whether a step was done anew: then all that follow are.
    fresh: bool,
}

impl<'a> Running<'a> {
    pub(super) fn new(builder: &'a Builder, built: Built) -> Self {
        let scope = Scope::new(&builder.globals, built.config.env.clone());
        let fresh = builder.request.no_cache;
        Self { builder, built, scope, directories: Vec::new(), fresh }
    }

    /// Does a step. Says whether it had been done before.
    pub(super) async fn step(
        &mut self,
        step: &Step,
        stages: &[Option<Built>],
    ) -> Result<bool, SandboxError> {
        self.fresh |= step.force;
        match &step.instruction {
            Instruction::Run(run) => return self.run(run).await,
            Instruction::Copy(copy) => return self.copy(copy, stages).await,
            Instruction::Env(pairs) => {
                self.scope.set_env(pairs).map_err(unfilled)?;
                crate::plan::check_env("env", self.scope.env())?;
            }
            Instruction::Arg(arguments) => {
                for argument in arguments {
                    self.scope.declare(argument).map_err(unfilled)?;
                }
            }
            Instruction::Workdir(path) => {
                let path = self.absolute(&self.filled(path)?);
                crate::plan::check_absolute("WORKDIR", &path)?;
                self.directories.push(path.clone());
                self.built.config.workdir = Some(path);
            }
            Instruction::User(name) => {
                let name = self.filled(name)?;
                crate::plan::check_user("USER", &name)?;
                self.built.config.user = Some(name);
            }
            Instruction::Expose(ports) => self.expose(ports)?,
            Instruction::Label(pairs) => {
                for (name, value) in pairs {
                    let (name, value) = (self.filled(name)?, self.filled(value)?);
                    self.built.config.labels.insert(name, value);
                }
            }
            Instruction::Entrypoint(command) => {
                self.built.config.entrypoint = self.words(command);
                // What an image below had as arguments belonged to its own program.
                self.built.config.cmd.clear();
            }
            Instruction::Cmd(command) => self.built.config.cmd = self.words(command),
            Instruction::Shell(words) => self.built.shell.clone_from(words),
            Instruction::Healthcheck(_) => {
                let text = "HEALTHCHECK means nothing here: a template has a ready check";
                self.builder.say(crate::templates::Level::Warn, text);
            }
        }
        Ok(false)
    }

    /// What the stage made.
    pub(super) async fn finish(mut self) -> Result<Built, SandboxError> {
        if !self.directories.is_empty() {
            let key = self.key("directories").finish();
            if !self.found(&key) {
                let sandbox = self.open(Network::None).await?;
                self.keep(key, sandbox).await?;
            }
        }
        self.built.config.env = self.scope.env().clone();
        Ok(self.built)
    }

    /// The start of the key of the next step: what there was before it.
    pub(super) fn key(&self, kind: &str) -> Key {
        let directories = self.directories.iter().map(String::as_str);
        Key::new(kind).with(&self.built.key).with_all(directories)
    }

    /// Looks for what this step made before, and takes it.
    pub(super) fn found(&mut self, key: &str) -> bool {
        if self.fresh {
            return false;
        }
        let shared = self.builder.shared();
        let owner = self.builder.caller.owner();
        let step = shared.templates.step(owner, key, shared.clock.now());
        // One whose layers have gone meanwhile is not there.
        let held = |step: &CachedStep| self.builder.hold(step.image.layers()).is_ok();
        let Some(step) = step.filter(held) else {
            self.fresh = true;
            return false;
        };
        self.go_on(key.to_owned(), step);
        true
    }

    /// A sandbox on what there is so far, with the directories that are wanted.
    pub(super) async fn open(&self, network: Network) -> Result<StepSandbox, SandboxError> {
        let setup = Setup {
            env: self.scope.of_commands(),
            image_env: Default::default(),
            user: self.user().to_owned(),
            workdir: self.built.config.workdir.clone().unwrap_or_else(|| "/".to_owned()),
        };
        crate::plan::check_env("env", &setup.env)?;
        let sandbox = StepSandbox::open(self.builder, &self.built.image, setup, network).await?;
        let guest = sandbox.handle.guest();
        for path in &self.directories {
            if guest.stat(Some("root"), path).await.is_err() {
                let made = guest.make_directory(Some("root"), path).await;
                made.map_err(|error| sandbox.explain(error))?;
            }
        }
        Ok(sandbox)
    }

    /// Makes the files of a step's sandbox the next layer, and remembers it under its key.
    pub(super) async fn keep(
        &mut self,
        key: String,
        sandbox: StepSandbox,
    ) -> Result<(), SandboxError> {
        let shared = self.builder.shared();
        let (image, bytes) = sandbox.finish(self.builder).await?;
        let owner = self.builder.caller.owner().clone();
        let used_at = shared.clock.now();
        let step = CachedStep { key: key.clone(), owner: owner.clone(), image, bytes, used_at };
        let mut change = ObjectChange::default();
        change.put.push(rows::step_object(&step));
        let gone = shared.templates.put_step(step.clone());
        let row = |key: &String| (ObjectKind::BuildStep, rows::step_id(&owner, key));
        change.remove = gone.iter().map(row).collect();
        shared.write(change).await?;
        self.go_on(key, step);
        Ok(())
    }

    fn go_on(&mut self, key: String, step: CachedStep) {
        self.built.key = key;
        self.built.image = step.image;
        self.built.bytes += step.bytes;
        self.directories.clear();
    }

    /// Who commands run as now.
    pub(super) fn user(&self) -> &str {
        self.built.config.user.as_deref().unwrap_or("root")
    }

    pub(super) fn filled(&self, text: &str) -> Result<String, SandboxError> {
        self.scope.expand(text).map_err(unfilled)
    }

    /// A path as it is seen from the working directory.
    pub(super) fn absolute(&self, path: &str) -> String {
        let workdir = self.built.config.workdir.as_deref().unwrap_or("/");
        let joined = match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("{workdir}/{path}"),
        };
        match warren_dockerfile::ignore::clean(&joined).as_str() {
            "." => "/".to_owned(),
            clean => format!("/{clean}"),
        }
    }

    /// A command as words: a text for the shell with the shell before it.
    pub(super) fn words(&self, command: &CommandLine) -> Vec<String> {
        match command {
            CommandLine::Exec(words) => words.clone(),
            CommandLine::Shell(text) | CommandLine::Script(text) => {
                let mut words = self.built.shell.clone();
                words.push(text.clone());
                words
            }
        }
    }

    fn expose(&mut self, ports: &[String]) -> Result<(), SandboxError> {
        for port in ports {
            // One variable may hold several.
            for port in self.filled(port)?.split_whitespace() {
                port_range(port).map_err(|reason| SandboxError::invalid("EXPOSE", reason))?;
                let port = match port.contains('/') {
                    true => port.to_ascii_lowercase(),
                    false => format!("{port}/tcp"),
                };
                if !self.built.config.ports.contains(&port) {
                    self.built.config.ports.push(port);
                }
            }
        }
        Ok(())
    }
}

/// What a variable that cannot be filled in means to whoever builds.
pub(super) fn unfilled(error: warren_dockerfile::expand::ExpandError) -> SandboxError {
    SandboxError::invalid("dockerfile", error.to_string())
}
