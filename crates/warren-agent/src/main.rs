//! The guest agent's program: `warren-agent serve --envd PATH --control PATH`, or the keeper.
//!
//! Started with arguments it binds the two sockets and serves until it is told to end; that is for
//! runtimes that execute it, and for tests. Started without any, it is the keeper.

use std::fs;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::ExitCode;

use warren_agent::daemon::{self, Listeners, Settings};

const USAGE: &str = "usage: warren-agent serve --envd PATH --control PATH";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve", "--envd", envd, "--control", control] => match serve(envd, control) {
            Ok(status) => ExitCode::from(u8::try_from(status).unwrap_or(1)),
            Err(error) => fail(&format!("warren-agent: {error}")),
        },
        [] => warren_agent::keeper::main(),
        _ => fail(USAGE),
    }
}

#[expect(clippy::print_stderr, reason = "there is nobody else to tell")]
fn fail(message: &str) -> ExitCode {
    eprintln!("{message}");
    ExitCode::FAILURE
}

fn serve(envd: &str, control: &str) -> io::Result<i32> {
    // Whoever is root beside it can otherwise take its memory and its sockets.
    warren_sys::process::forbid_tracing()?;
    let listeners = Listeners { envd: bind(envd)?, control: bind(control)? };
    let init = std::process::id() == 1;
    daemon::run(listeners, Settings { init }, || {
        // For whoever waits for it; nobody has to.
        drop(writeln!(io::stdout(), "ready"));
    })
}

/// Binds a socket where an earlier one may have been left.
fn bind(path: &str) -> io::Result<OwnedFd> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    Ok(UnixListener::bind(path)?.into())
}
