//! Commands in the caller's sandboxes.

use std::sync::Arc;

use crate::{
    caller::Caller,
    clock::Timestamp,
    error::SandboxError,
    exec::{Command, Exec, ExecInfo, Signal, convert_end},
    id::ExecId,
    logs::{self, LogEntry, LogQuery, LogReader},
    plan::{check_env, check_user},
};

use super::Sandboxes;

/// How many bytes a command line may have in all.
const COMMAND_BYTES: usize = 128 << 10;

/// How many kept commands of one sandbox are listed.
const LISTED: usize = 4096;

impl Sandboxes {
    /// Starts a command in a running sandbox. It is running when this returns. One without words
    /// is the one that the sandbox's image names.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NotFound`], [`SandboxError::NotRunning`], [`SandboxError::Invalid`];
    /// [`SandboxError::Guest`] when the guest has no such program, user or directory.
    pub async fn exec(
        &self,
        caller: &Caller,
        id_or_name: &str,
        command: &Command,
    ) -> Result<Exec, SandboxError> {
        let handle = self.find(caller, id_or_name)?;
        let filled;
        let command = match command.argv.is_empty() {
            true => {
                filled = Command { argv: self.command_of_image(&handle), ..command.clone() };
                &filled
            }
            false => command,
        };
        check(command)?;
        handle.require_running()?;
        Exec::start(handle, command).await
    }

    /// Starts a command whose output nobody waits for. The server follows it and keeps what it
    /// writes in the sandbox's log.
    ///
    /// # Errors
    ///
    /// As [`Sandboxes::exec`].
    pub async fn exec_detached(
        &self,
        caller: &Caller,
        id_or_name: &str,
        command: &Command,
    ) -> Result<(ExecId, u32), SandboxError> {
        let mut exec = self.exec(caller, id_or_name, command).await?;
        let started = (exec.id(), exec.pid());
        if let Some(feeding) = exec.take_feeding() {
            self.shared.store.tasks().spawn(feeding);
        }
        self.in_background(logs::follow::follow(Arc::clone(&self.shared), exec));
        Ok(started)
    }

    /// The entries of a sandbox's log that `query` lets pass, in order, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NotFound`], [`SandboxError::Store`].
    pub async fn logs(
        &self,
        caller: &Caller,
        id_or_name: &str,
        query: LogQuery,
        limit: u32,
    ) -> Result<Vec<LogEntry>, SandboxError> {
        let handle = self.find(caller, id_or_name)?;
        let found = self.shared.store.logs().read(handle.id(), query, limit).await;
        found.map_err(SandboxError::store("read the log"))
    }

    /// A sandbox's log from some place on, and what is added to it until the sandbox ends.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NotFound`].
    pub fn follow_logs(
        &self,
        caller: &Caller,
        id_or_name: &str,
        query: LogQuery,
    ) -> Result<LogReader, SandboxError> {
        let handle = self.find(caller, id_or_name)?;
        Ok(LogReader::open(self.shared.store.clone(), &handle, query))
    }

    /// Opens the output of a command that was started before: what is kept of it from byte
    /// `offset` on, then what follows.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NoSuchExec`], and as [`Sandboxes::exec`].
    pub async fn exec_output(
        &self,
        caller: &Caller,
        id_or_name: &str,
        exec: ExecId,
        offset: u64,
    ) -> Result<Exec, SandboxError> {
        let handle = self.find(caller, id_or_name)?;
        handle.require_running()?;
        Exec::reconnect(handle, exec, offset).await
    }

    /// The commands that run in a sandbox, and those that ended and are still kept.
    ///
    /// # Errors
    ///
    /// As [`Sandboxes::exec`].
    pub async fn execs(
        &self,
        caller: &Caller,
        id_or_name: &str,
    ) -> Result<Vec<ExecInfo>, SandboxError> {
        let handle = self.find(caller, id_or_name)?;
        handle.require_running()?;
        let listed = handle.guest().processes().await.map_err(|error| handle.explain(error))?;
        let mut execs: Vec<_> = listed
            .processes
            .into_iter()
            .take(LISTED)
            .filter_map(|process| {
                // What was started past this API has no id here.
                let id = process.exec_id.as_deref()?.parse().ok()?;
                let started = process.started_unix_ms;
                let mut argv = vec![process.config.cmd.clone()];
                argv.extend(process.config.args.iter().cloned());
                Some(ExecInfo {
                    id,
                    pid: process.pid,
                    argv,
                    started_at: (started > 0).then(|| Timestamp::from_millis(started)),
                    end: process.end.as_option().map(convert_end),
                })
            })
            .collect();
        execs.sort_by_key(|exec| (exec.started_at, exec.pid));
        Ok(execs)
    }

    /// Sends a signal to a command; [`Signal::KILL`] reaches everything it started.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NoSuchExec`] when it has ended, and as [`Sandboxes::exec`].
    pub async fn signal_exec(
        &self,
        caller: &Caller,
        id_or_name: &str,
        exec: ExecId,
        signal: Signal,
    ) -> Result<(), SandboxError> {
        let handle = self.find(caller, id_or_name)?;
        handle.require_running()?;
        handle.signal(exec, signal).await
    }
}

fn check(command: &Command) -> Result<(), SandboxError> {
    let program = command.argv.first().map(String::as_str).unwrap_or_default();
    if program.is_empty() {
        return Err(SandboxError::invalid(
            "command",
            "expected a program and its arguments, for the sandbox's image names none",
        ));
    }
    let bytes: usize = command.argv.iter().map(|argument| argument.len() + 1).sum();
    if bytes > COMMAND_BYTES || command.argv.iter().any(|argument| argument.contains('\0')) {
        return Err(SandboxError::invalid("command", "at most 128 KiB are allowed, without NUL"));
    }
    check_env("env", &command.env)?;
    if let Some(user) = &command.user {
        check_user("user", user)?;
    }
    if let Some(workdir) = &command.workdir
        && (workdir.len() > 4096 || workdir.contains('\0'))
    {
        return Err(SandboxError::invalid("workdir", "at most 4096 bytes are allowed"));
    }
    if command.terminal.is_some_and(|size| size.cols == 0 || size.rows == 0) {
        return Err(SandboxError::invalid("tty", "a terminal has at least one column and one row"));
    }
    Ok(())
}
