//! A conversation with a command in a sandbox: its output here, our input, terminal and signals
//! there.

mod follow;

use std::io;

use bytes::Bytes;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};
use warren_api::{
    Code,
    client::{Client, ClientError, ExecMessage, ExecReceiver, ExecSender},
    exec::{ExecEnd, ExecEvent, ExecInput, ExecRequest, OutputStream},
};

pub(crate) use follow::Follower;

use crate::{
    error::{CliError, Kind},
    output::{Output, waiting},
    terminal::{self, RawMode},
};

/// How much of standard input is read at once.
const INPUT_BYTES: usize = 64 << 10;

/// What a signal to this process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnSignal {
    /// Ends the conversation with [`Kind::Interrupted`].
    Leave,
    /// Goes to the command; a second one of the same kind ends the conversation.
    Forward,
}

/// Signals that ask this process to end, watched from before there is anything to clean up.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    resize: Signal,
}

impl Signals {
    /// Starts to watch; from here on these signals do nothing by themselves.
    pub(crate) fn watch() -> Result<Self, CliError> {
        let watch = |kind| signal(kind).map_err(CliError::local("watch for signals"));
        Ok(Self {
            interrupt: watch(SignalKind::interrupt())?,
            terminate: watch(SignalKind::terminate())?,
            hangup: watch(SignalKind::hangup())?,
            resize: watch(SignalKind::window_change())?,
        })
    }

    /// Waits for a signal that asks us to end, as the error that a command ends with.
    pub(crate) async fn end(&mut self) -> CliError {
        loop {
            if let Notice::End { name, number } = self.next().await {
                return interrupted(name, number);
            }
        }
    }

    async fn next(&mut self) -> Notice {
        tokio::select! {
            _ = self.interrupt.recv() => Notice::End { name: "INT", number: 2 },
            _ = self.terminate.recv() => Notice::End { name: "TERM", number: 15 },
            _ = self.hangup.recv() => Notice::End { name: "HUP", number: 1 },
            _ = self.resize.recv() => Notice::Resize,
        }
    }
}

/// What a signal says.
#[derive(Clone, Copy, Debug)]
enum Notice {
    /// This process is asked to end.
    End { name: &'static str, number: i32 },
    /// The terminal has another size.
    Resize,
}

fn interrupted(name: &str, number: i32) -> CliError {
    CliError::new(Kind::Interrupted(number), format!("ended by SIG{name}"))
}

/// Runs `request` in a sandbox and converses with it until it ends.
///
/// With `request.stdin` our standard input is its; with `request.tty` our terminal is raw for as
/// long, when it is one. A command without input outlives its server here: it is followed at the
/// next one.
pub(crate) async fn converse(
    client: &Client,
    sandbox: &str,
    request: &ExecRequest,
    on_signal: OnSignal,
    signals: &mut Signals,
    output: Output,
) -> Result<ExecEnd, CliError> {
    // Until it is open nothing was asked for, so leaving leaves nothing.
    let opening = waiting(output, "starting the command", client.exec_socket(sandbox, request));
    let (sender, receiver) = tokio::select! {
        opened = opening => opened?,
        end = signals.end() => return Err(end),
    };
    let raw = (request.tty.is_some() && request.stdin && terminal::is_input())
        .then(RawMode::enter)
        .transpose()
        .map_err(CliError::local("set up the terminal"))?;
    let input = request.stdin.then(read_input);
    let mut conversation = Conversation {
        sender,
        receiver,
        input,
        output,
        forwarded: None,
        exec_id: None,
        printed: 0,
    };
    let result = conversation.go_on(on_signal, signals).await;
    drop(raw);
    let printed = conversation.printed;
    match (result, conversation.exec_id.as_deref()) {
        (Err(error), Some(exec_id)) if server_left(&error) && !request.stdin => {
            let mut follower = Follower::new(client, sandbox, exec_id, printed, output);
            follower.follow(on_signal, signals).await
        }
        (Err(error), Some(exec_id)) if server_left(&error) => {
            Err(error.hint(format!("the command goes on as {exec_id}, without this terminal")))
        }
        (result, _) => result,
    }
}

/// Whether the server went away, which the command does not mind.
fn server_left(error: &CliError) -> bool {
    matches!(error.kind, Kind::Unreachable | Kind::Refused(Code::Unavailable))
}

struct Conversation {
    sender: ExecSender,
    receiver: ExecReceiver,
    input: Option<mpsc::Receiver<Bytes>>,
    output: Output,
    /// The last signal that was passed on.
    forwarded: Option<i32>,
    /// The command's identity, once it runs.
    exec_id: Option<String>,
    /// How many bytes of its output were printed.
    printed: u64,
}

impl Conversation {
    async fn go_on(
        &mut self,
        on_signal: OnSignal,
        signals: &mut Signals,
    ) -> Result<ExecEnd, CliError> {
        loop {
            tokio::select! {
                message = self.receiver.next() => {
                    if let Some(end) = self.hear(message?)? {
                        return Ok(end);
                    }
                }
                bytes = next_input(&mut self.input) => self.speak(bytes).await?,
                notice = signals.next() => match notice {
                    Notice::End { name, number } => self.signal(on_signal, name, number).await?,
                    Notice::Resize => {
                        let size = terminal::size();
                        let resize = ExecInput::Resize { cols: size.cols, rows: size.rows };
                        self.sender.control(&resize).await?;
                    }
                },
            }
        }
    }

    /// Takes a message; gives the command's end when it is that.
    fn hear(&mut self, message: Option<ExecMessage>) -> Result<Option<ExecEnd>, CliError> {
        match message {
            Some(ExecMessage::Output(stream, bytes)) => {
                match stream {
                    OutputStream::Stderr => self.output.bytes(&mut io::stderr().lock(), &bytes)?,
                    OutputStream::Stdout | OutputStream::Tty => {
                        self.output.bytes(&mut io::stdout().lock(), &bytes)?;
                    }
                }
                self.printed += bytes.len() as u64;
            }
            Some(ExecMessage::Event(ExecEvent::Start(started))) => {
                self.exec_id = Some(started.exec_id);
            }
            Some(ExecMessage::Event(ExecEvent::End(end))) => return Ok(Some(end)),
            Some(ExecMessage::Event(ExecEvent::Error(body))) => {
                return Err(ClientError::Refused(body).into());
            }
            Some(ExecMessage::Event(_)) => {}
            None => return Err(ClientError::ended_early().into()),
        }
        Ok(None)
    }

    /// Passes a piece of input on, or its end.
    async fn speak(&mut self, bytes: Option<Bytes>) -> Result<(), CliError> {
        match bytes {
            Some(bytes) => Ok(self.sender.stdin(bytes).await?),
            None => {
                self.input = None;
                Ok(self.sender.control(&ExecInput::StdinClose).await?)
            }
        }
    }

    async fn signal(
        &mut self,
        on_signal: OnSignal,
        name: &str,
        number: i32,
    ) -> Result<(), CliError> {
        if on_signal == OnSignal::Leave || self.forwarded == Some(number) {
            return Err(interrupted(name, number));
        }
        self.forwarded = Some(number);
        Ok(self.sender.control(&ExecInput::Signal { signal: name.to_owned() }).await?)
    }
}

/// The next piece of input; never, when there is none to pass on.
async fn next_input(input: &mut Option<mpsc::Receiver<Bytes>>) -> Option<Bytes> {
    match input {
        Some(input) => input.recv().await,
        None => std::future::pending().await,
    }
}

/// Reads standard input on a thread of its own.
///
/// A terminal or a pipe could be read without one, but only by making it non-blocking, and that
/// would change it for whoever else has it open. The thread ends with the process.
pub(crate) fn read_input() -> mpsc::Receiver<Bytes> {
    read_on_thread(io::stdin())
}

/// Reads something that may keep one waiting, on a thread of its own.
pub(crate) fn read_on_thread(mut input: impl io::Read + Send + 'static) -> mpsc::Receiver<Bytes> {
    let (sender, receiver) = mpsc::channel(1); // what is not wanted yet stays where it is
    std::thread::spawn(move || {
        let mut buffer = vec![0; INPUT_BYTES];
        loop {
            match input.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => return,
                Ok(read) => {
                    let piece = Bytes::copy_from_slice(buffer.get(..read).unwrap_or_default());
                    if sender.blocking_send(piece).is_err() {
                        return;
                    }
                }
            }
        }
    });
    receiver
}
