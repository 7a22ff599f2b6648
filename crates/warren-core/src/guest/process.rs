//! Commands: the service `process.Process` of the agent.

use std::time::Duration;

use bytes::Bytes;
use warren_proto::{
    WireMessage,
    process::{
        CloseStdinRequest, CloseStdinResponse, ConnectRequest, ListRequest, ListResponse, PTY,
        ProcessConfig, ProcessEvent, ProcessInput, ProcessSelector, SendInputRequest,
        SendInputResponse, SendSignalRequest, SendSignalResponse, StartRequest, StartResponse,
        UpdateRequest, UpdateResponse, process_event::Event, process_input::Input,
        process_selector::Selector, pty::Size,
    },
};

use super::{CALL, Guest, GuestError, messages::Messages, within};
use crate::{
    exec::{Command, TerminalSize},
    id::ExecId,
};

/// The events of one process, as they arrive.
///
/// The messages of both calls that answer with it are one event in field 1.
#[derive(Debug)]
pub(crate) struct ProcessStream(Messages<StartResponse>);

impl Guest {
    /// Starts a process; its first event is `start`.
    ///
    /// The process does not end with the stream.
    pub(crate) async fn start(
        &self,
        exec: ExecId,
        command: &Command,
    ) -> Result<ProcessStream, GuestError> {
        let request = start_request(exec, command);
        self.stream("/process.Process/Start", command.user.as_deref(), &request).await
    }

    /// Runs `/bin/true` to its end and keeps nothing of it: the first program of a guest meets cold
    /// caches and an agent whose pages are still the keeper's, which costs milliseconds.
    ///
    /// # Errors
    ///
    /// As [`Guest::start`]; an image without the program refuses, and is as warm as it will be.
    pub(crate) async fn warm_up(&self) -> Result<(), GuestError> {
        let request = StartRequest {
            process: ProcessConfig { cmd: "/bin/true".to_owned(), ..ProcessConfig::default() }
                .into(),
            stdin: Some(false),
            kill_tree_on_timeout: millis(CALL),
            ..StartRequest::default()
        };
        let run = async {
            let mut stream = self.stream("/process.Process/Start", None, &request).await?;
            while stream.next().await?.is_some() {}
            self.keep_stream(stream);
            Ok(())
        };
        within(CALL, run).await
    }

    /// Opens the events of a process that was started before: what is kept of its output from
    /// byte `offset` on, then what follows.
    pub(crate) async fn reconnect(
        &self,
        exec: ExecId,
        offset: u64,
    ) -> Result<ProcessStream, GuestError> {
        let request = ConnectRequest { process: select(exec).into(), offset: Some(offset) };
        self.stream("/process.Process/Connect", None, &request).await
    }

    /// Every process that runs, and those that ended and are still kept.
    pub(crate) async fn processes(&self) -> Result<ListResponse, GuestError> {
        self.unary("/process.Process/List", None, &ListRequest {}).await
    }

    /// Writes to a process's standard input, or to its terminal. Takes as long as the process
    /// takes to read.
    pub(crate) async fn send_input(
        &self,
        exec: ExecId,
        bytes: Bytes,
        terminal: bool,
    ) -> Result<(), GuestError> {
        let input = if terminal { Input::Pty(bytes) } else { Input::Stdin(bytes) };
        let input = ProcessInput { input: Some(input) };
        let request = SendInputRequest { process: select(exec).into(), input: input.into() };
        let _sent: SendInputResponse =
            self.unhurried("/process.Process/SendInput", None, &request).await?;
        Ok(())
    }

    /// Ends a process's standard input.
    pub(crate) async fn close_stdin(&self, exec: ExecId) -> Result<(), GuestError> {
        let request = CloseStdinRequest { process: select(exec).into() };
        let _closed: CloseStdinResponse =
            self.unary("/process.Process/CloseStdin", None, &request).await?;
        Ok(())
    }

    /// Sends a signal to a process, or to it and everything it started.
    pub(crate) async fn send_signal(
        &self,
        exec: ExecId,
        signal: u8,
        tree: bool,
    ) -> Result<(), GuestError> {
        let signal = i32::from(signal).into();
        let request = SendSignalRequest { process: select(exec).into(), signal, tree };
        let _sent: SendSignalResponse =
            self.unary("/process.Process/SendSignal", None, &request).await?;
        Ok(())
    }

    /// Changes the size of a process's terminal.
    pub(crate) async fn resize(&self, exec: ExecId, size: TerminalSize) -> Result<(), GuestError> {
        let request = UpdateRequest { process: select(exec).into(), pty: pty(size).into() };
        let _resized: UpdateResponse =
            self.unary("/process.Process/Update", None, &request).await?;
        Ok(())
    }

    /// Keeps the connection of a stream that came to its end for the next request.
    pub(crate) fn keep_stream(&self, stream: ProcessStream) {
        self.keep(stream.0.into_answer());
    }

    async fn stream<Q: WireMessage>(
        &self,
        path: &'static str,
        user: Option<&str>,
        question: &Q,
    ) -> Result<ProcessStream, GuestError> {
        Ok(ProcessStream(self.messages(path, user, question).await?))
    }
}

impl ProcessStream {
    /// The next event; none at the end. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// [`GuestError::Refused`] when the agent ended the stream with an error; it then is at its
    /// end. Any other error breaks it.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, GuestError> {
        while let Some(message) = self.0.next().await? {
            if let Some(ProcessEvent { event: Some(event), .. }) = message.event.into_option() {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }
}

/// The process with this id, for the agent.
fn select(exec: ExecId) -> ProcessSelector {
    ProcessSelector { selector: Some(Selector::ExecId(exec.to_string())) }
}

fn pty(size: TerminalSize) -> PTY {
    PTY { size: Size { cols: size.cols.into(), rows: size.rows.into() }.into() }
}

fn start_request(exec: ExecId, command: &Command) -> StartRequest {
    let (program, arguments) =
        command.argv.split_first().map_or((None, &[][..]), |(first, rest)| (Some(first), rest));
    StartRequest {
        process: ProcessConfig {
            cmd: program.cloned().unwrap_or_default(),
            args: arguments.to_vec(),
            envs: command.env.clone().into_iter().collect(),
            cwd: command.workdir.clone(),
        }
        .into(),
        pty: command.terminal.map(pty).into(),
        stdin: Some(command.stdin || command.stdin_data.is_some()),
        spool: true,
        kill_tree_on_timeout: command.timeout.map_or(0, millis),
        exec_id: Some(exec.to_string()),
        ..StartRequest::default()
    }
}

/// At least 1, for 0 means no limit on the wire.
fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX).max(1)
}
