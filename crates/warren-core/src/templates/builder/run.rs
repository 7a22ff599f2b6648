//! `RUN`: a command, what it writes, and what it sees while it runs.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use tokio::time::Instant;
use warren_dockerfile::recipe::{CommandLine, Mount, Run, SecretMount};

use super::{layer::StepSandbox, stage::Running};
use crate::{
    error::SandboxError,
    exec::{Command, Exec, ExecEnd, ExecEvent, OutputStream},
    guest::filesystem::FileKind,
    sandboxes::Upload,
    spec::Network,
    templates::log::{Level, Lines},
};

/// Where secrets are: in memory, gone with the sandbox.
const SECRETS: &str = "/run/secrets";
/// Where a script of a step is.
const SCRIPT: &str = "/run/warren-build-script";

/// What is to be taken away before the files become a layer.
#[derive(Default)]
struct Leftovers {
    /// Links to secrets.
    links: Vec<String>,
    /// Directories whose contents were never to stay.
    emptied: Vec<String>,
}

impl Running<'_> {
    /// Runs a command. Says whether its result was found.
    pub(super) async fn run(&mut self, run: &Run) -> Result<bool, SandboxError> {
        let user = match &run.user {
            Some(user) => {
                let user = self.filled(user)?;
                crate::plan::check_user("RUN", &user)?;
                user
            }
            None => self.user().to_owned(),
        };
        let words = self.words(&run.command);
        let key = self.run_key(run, &words, &user);
        if self.found(&key) {
            return Ok(true);
        }
        let network = if run.offline { Network::None } else { Network::Open };
        let sandbox = self.open(network).await?;
        let (env, leftovers) = self.mount(run, &sandbox, &user).await?;
        let argv = match &run.command {
            CommandLine::Script(script) => {
                let script = Bytes::copy_from_slice(script.as_bytes());
                write(&sandbox, SCRIPT, script, 0o755).await?;
                vec![SCRIPT.to_owned()]
            }
            _ => words,
        };
        let left = self.builder.deadline.saturating_duration_since(Instant::now());
        let command =
            Command { argv, env, user: Some(user), timeout: Some(left), ..Command::default() };
        self.execute(&sandbox, &command).await?;
        clear(&sandbox, leftovers).await?;
        self.keep(key, sandbox).await?;
        Ok(false)
    }

    fn run_key(&self, run: &Run, words: &[String], user: &str) -> String {
        let workdir = self.built.config.workdir.as_deref().unwrap_or("/");
        let mounts: Vec<_> = run.mounts.iter().map(|mount| format!("{mount:?}")).collect();
        let env = self.scope.of_cache();
        self.key("run")
            .with_all(words.iter().map(String::as_str))
            .with_all([user, workdir, if run.offline { "offline" } else { "" }])
            .with_all(mounts.iter().map(String::as_str))
            .with_all(env.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]))
            .finish()
    }

    /// Runs a command to its end; what it writes goes to the log.
    async fn execute(&self, sandbox: &StepSandbox, command: &Command) -> Result<(), SandboxError> {
        let mut exec = Exec::start(Arc::clone(&sandbox.handle), command).await?;
        let (mut out, mut err) = (Lines::default(), Lines::default());
        let end = loop {
            match exec.next().await? {
                Some(ExecEvent::Output { stream: OutputStream::Stderr, bytes, .. }) => {
                    err.push(&bytes, |line| self.builder.say(Level::Warn, line));
                }
                Some(ExecEvent::Output { bytes, .. }) => {
                    out.push(&bytes, |line| self.builder.say(Level::Debug, line));
                }
                Some(ExecEvent::End(end)) => break end,
                Some(ExecEvent::Keepalive) => {}
                None => return Err(SandboxError::Broken("a command without an end")),
            }
        };
        out.flush(|line| self.builder.say(Level::Debug, line));
        err.flush(|line| self.builder.say(Level::Warn, line));
        match failure(&end) {
            None => Ok(()),
            Some(reason) => Err(SandboxError::BuildFailed { reason }),
        }
    }

    /// Gives a command what it is to see, and says what must not stay.
    async fn mount(
        &self,
        run: &Run,
        sandbox: &StepSandbox,
        user: &str,
    ) -> Result<(BTreeMap<String, String>, Leftovers), SandboxError> {
        let (mut env, mut leftovers) = (BTreeMap::new(), Leftovers::default());
        for mount in &run.mounts {
            match mount {
                Mount::Secret(secret) => {
                    let Some(value) = self.builder.request.secrets.get(&secret.id) else {
                        self.missing(secret)?;
                        continue;
                    };
                    if let Some(name) = &secret.env {
                        let value = std::str::from_utf8(value).map_err(|_binary| {
                            let reason = format!("`{}` is no text for a variable", secret.id);
                            SandboxError::invalid("secrets", reason)
                        })?;
                        env.insert(name.clone(), value.to_owned());
                    }
                    if secret.env.is_none() || secret.target.is_some() {
                        let link = self.show(sandbox, secret, value.clone(), user).await?;
                        leftovers.links.extend(link);
                    }
                }
                Mount::Tmpfs { target, .. } => {
                    let target = self.absolute(&self.filled(target)?);
                    empty_directory(sandbox, &target).await?;
                    leftovers.emptied.push(target);
                }
            }
        }
        Ok((env, leftovers))
    }

    fn missing(&self, secret: &SecretMount) -> Result<(), SandboxError> {
        let id = &secret.id;
        if secret.required {
            let reason = format!("the step needs `{id}`: give it with `--secret id={id},...`");
            return Err(SandboxError::invalid("secrets", reason));
        }
        self.builder.say(Level::Warn, &format!("there is no secret `{id}`"));
        Ok(())
    }

    /// Writes a secret to memory, and a link to it where it is wanted elsewhere. Gives the link.
    async fn show(
        &self,
        sandbox: &StepSandbox,
        secret: &SecretMount,
        value: Bytes,
        user: &str,
    ) -> Result<Option<String>, SandboxError> {
        // The sandbox is this step's alone: whoever it runs as may read it.
        let mode = if user == "root" { secret.mode } else { secret.mode | 0o444 };
        let file = format!("{SECRETS}/{}", secret.id);
        write(sandbox, &file, value, mode).await?;
        let Some(target) = &secret.target else { return Ok(None) };
        let target = self.absolute(&self.filled(target)?);
        if target == file {
            return Ok(None);
        }
        let guest = sandbox.handle.guest();
        if guest.stat(Some("root"), &target).await.is_ok() {
            let reason = format!("`{target}` is there already: a secret does not cover it");
            return Err(SandboxError::invalid("secrets", reason));
        }
        let parent = target.rsplit_once('/').map_or("/", |(parent, _)| parent);
        if !parent.is_empty() && guest.stat(Some("root"), parent).await.is_err() {
            let made = guest.make_directory(Some("root"), parent).await;
            made.map_err(|error| sandbox.explain(error))?;
        }
        let argv = ["ln", "-s", "--", &file, &target].map(str::to_owned).to_vec();
        let command = Command { argv, user: Some("root".to_owned()), ..Command::default() };
        self.execute(sandbox, &command).await?;
        Ok(Some(target))
    }
}

/// Writes a file as root.
async fn write(
    sandbox: &StepSandbox,
    path: &str,
    contents: Bytes,
    mode: u32,
) -> Result<(), SandboxError> {
    let length = Some(contents.len() as u64);
    let contents = stream::once(async { Ok(contents) }).boxed();
    let upload = Upload { contents, length, mode: Some(mode) };
    let written = sandbox.handle.guest().write_file(Some("root"), path, upload).await;
    written.map(drop).map_err(|error| sandbox.explain(error))
}

/// Makes sure of a directory with nothing in it.
async fn empty_directory(sandbox: &StepSandbox, path: &str) -> Result<(), SandboxError> {
    let guest = sandbox.handle.guest();
    if guest.stat(Some("root"), path).await.is_err() {
        let made = guest.make_directory(Some("root"), path).await;
        return made.map(drop).map_err(|error| sandbox.explain(error));
    }
    let listed = guest.list_directory(Some("root"), path, 1).await;
    match listed.map_err(|error| sandbox.explain(error))?.first() {
        None => Ok(()),
        Some(first) => {
            let reason = format!(
                "`{path}` holds {} already: expected an empty directory for `type=tmpfs`",
                first.name
            );
            Err(SandboxError::BuildFailed { reason })
        }
    }
}

/// Takes away what must not become a part of the layer.
async fn clear(sandbox: &StepSandbox, leftovers: Leftovers) -> Result<(), SandboxError> {
    let guest = sandbox.handle.guest();
    for link in leftovers.links {
        // What the step made of it is the step's; the link is not.
        match guest.stat(Some("root"), &link).await {
            Ok(found) if found.symlink_target.is_some() || found.kind == FileKind::Symlink => {}
            _ => continue,
        }
        guest.remove(Some("root"), &link).await.map_err(|error| sandbox.explain(error))?;
    }
    for directory in leftovers.emptied {
        let listed = guest.list_directory(Some("root"), &directory, 1).await;
        let listed = listed.map_err(|error| sandbox.explain(error))?;
        for entry in listed {
            let removed = guest.remove(Some("root"), &entry.path).await;
            removed.map_err(|error| sandbox.explain(error))?;
        }
    }
    Ok(())
}

fn failure(end: &ExecEnd) -> Option<String> {
    if let Some(limit) = end.out_of_memory {
        return Some(format!("it went over its memory limit of {limit} bytes"));
    }
    if end.timed_out {
        return Some("the time of the build was over".to_owned());
    }
    match (end.exit_code, end.signal) {
        (0, _) => None,
        (_, Some(signal)) => Some(format!("signal {signal} ended it")),
        (code, None) => Some(format!("it ended with status {code}")),
    }
}
