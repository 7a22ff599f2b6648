//! The only place that prints: data to standard output, talk to standard error.

mod spinner;

use std::{
    error::Error,
    io::{self, IsTerminal as _, Write},
};

use serde::Serialize;

pub(crate) use spinner::{telling, waiting};

use crate::{
    config::Environment,
    error::{CliError, Kind},
};

/// How a command speaks.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct OutputArgs {
    /// Print data as JSON
    #[arg(long, global = true)]
    json: bool,
    /// Print data only, and as little of it as is useful
    #[arg(long, short, global = true)]
    quiet: bool,
    /// When to use colours
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "auto",
        global = true,
        hide_short_help = true
    )]
    color: Color,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Color {
    /// Where a terminal is and `NO_COLOR` is not set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How a command speaks, decided.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// Whether data is printed as JSON.
    pub(crate) json: bool,
    /// Whether talk is left out.
    pub(crate) quiet: bool,
    color: bool,
    /// Whether the terminal, if there is one, can take a line back.
    lively: bool,
}

impl Output {
    pub(crate) fn new(args: OutputArgs, environment: &Environment) -> Self {
        let color = match args.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                io::stderr().is_terminal()
                    && environment.get("NO_COLOR").is_none()
                    && environment.get("TERM") != Some("dumb")
            }
        };
        let lively = environment.get("TERM") != Some("dumb");
        Self { json: args.json, quiet: args.quiet, color, lively }
    }

    /// Prints a line of data.
    pub(crate) fn line(self, line: &str) -> Result<(), CliError> {
        self.bytes(&mut io::stdout().lock(), format!("{line}\n").as_bytes())
    }

    /// Prints a value as JSON, over several lines.
    pub(crate) fn value(self, value: &impl Serialize) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(value).map_err(CliError::local("write JSON"))?;
        self.line(&text)
    }

    /// Passes bytes on as they are.
    pub(crate) fn bytes(self, to: &mut impl Write, bytes: &[u8]) -> Result<(), CliError> {
        let written = to.write_all(bytes).and_then(|()| to.flush());
        written.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => CliError::new(Kind::BrokenPipe, error),
            _ => CliError::local("write the output")(error),
        })
    }

    /// Prints rows under a head, each column as wide as its widest cell.
    pub(crate) fn table<const N: usize>(
        self,
        head: [&str; N],
        rows: &[[String; N]],
    ) -> Result<(), CliError> {
        let mut widths = head.map(str::len);
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        for row in std::iter::once(&head.map(str::to_owned)).chain(rows) {
            let start = text.len();
            for (width, cell) in widths.iter().zip(row) {
                text.push_str(&format!("{cell:<width$}  "));
            }
            text.truncate(start + text.get(start..).unwrap_or_default().trim_end().len());
            text.push('\n');
        }
        self.bytes(&mut io::stdout().lock(), text.as_bytes())
    }

    /// Says something to the person; left out with `--quiet`.
    pub(crate) fn talk(self, text: &str) {
        if !self.quiet {
            self.say(text);
        }
    }

    /// Says that something is not as it should be.
    pub(crate) fn warn(self, text: &str) {
        self.say(&format!("{} {text}", self.painted("warning:", "33")));
    }

    /// Says what went wrong, why, and what helps.
    pub(crate) fn error(self, error: &CliError) {
        if error.kind == Kind::BrokenPipe {
            return;
        }
        let chain = chain(error.source.as_ref());
        if self.json {
            let body = serde_json::json!({
                "code": error.kind.name(),
                "message": chain.join(": "),
                "hints": error.hints,
            });
            return self.say(&body.to_string());
        }
        let (first, causes) = chain.split_first().map_or(("", &[][..]), |(f, c)| (f.as_str(), c));
        self.say(&format!("{} {first}", self.painted("error:", "31")));
        for cause in causes {
            self.say(&format!("  because: {cause}"));
        }
        for hint in &error.hints {
            self.say(&format!("{} {hint}", self.painted("hint:", "36")));
        }
    }

    fn painted(self, text: &str, color: &str) -> String {
        if self.color { format!("\x1b[{color}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn say(self, text: &str) {
        spinner::clear();
        // Nobody hears it when standard error is closed, and there is nobody else to tell.
        drop(writeln!(io::stderr().lock(), "{text}"));
    }
}

/// The sentences of an error and its causes, each once.
pub(crate) fn chain(error: &dyn Error) -> Vec<String> {
    let mut chain = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if chain.last().is_none_or(|last| !last.ends_with(&text)) {
            chain.push(text);
        }
        next = cause.source();
    }
    chain
}
