//! What the server writes about itself. Never tokens, environments, command lines or contents.

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, fmt};

use crate::config::Level;

/// Starts to write to standard error: with `background` that is the log file.
pub(super) fn start(level: Level, background: bool) {
    let level = match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
    };
    // Only our own crates: those of others write what they are given.
    let names = ["warren", "warren_core", "warren_runtime", "warren_server"];
    let directives = names.map(|name| format!("{name}={level}")).join(",");
    let log = fmt()
        .with_env_filter(EnvFilter::new(directives))
        .with_writer(std::io::stderr)
        .with_ansi(!background && std::io::stderr().is_terminal());
    if background {
        log.init();
    } else {
        log.with_target(false).init();
    }
}
