//! Measures Warren through its public API, side by side with the tools installed here.
//!
//! `cargo xtask bench` builds what is needed and starts this. It never asserts a time: what comes out
//! is a table and the raw samples, with the machine described.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark speaks to people")]

mod api;
mod at_once;
mod http;
mod images;
mod machine;
mod origin;
mod others;
mod report;
mod rows;
mod samples;
mod server;

use std::{fs, net::TcpListener, path::PathBuf};

use anyhow::{Context as _, Result, bail};

use others::Others;
use report::Results;
use rows::{Bench, Size};
use samples::Figures;

const USAGE: &str = "\
Usage: cargo xtask bench [--samples N] [--held N] [--quick] [--only ROWS]

  --samples N   rounds of the short rows (200)
  --held N      sandboxes held at once for the memory row (1000)
  --quick       20 rounds, 50 held, a small image: to see that it works
  --only ROWS   what is measured, by words of what is said while it is; the table is printed and
                not kept
";

struct Options {
    warren: PathBuf,
    /// A Python with E2B's package, where there is one.
    python: Option<PathBuf>,
    results: PathBuf,
    size: Size,
    only: Option<String>,
}

fn main() -> Result<()> {
    if let Some(port) = origin_port() {
        return origin::serve(TcpListener::bind(("127.0.0.1", port))?);
    }
    let Some(options) = options()? else {
        print!("{USAGE}");
        return Ok(());
    };
    let scratch = Scratch::make()?;
    let machine = machine::describe();
    println!("measuring: what else is installed");
    let mut others = Others::find(&scratch.0)?;
    for tool in &others.tools {
        println!("  with {}", tool.name);
    }
    for (name, reason) in &others.absent {
        println!("  without {name}: {reason}");
    }
    let mut figures = Figures::default();
    let mut bench = Bench {
        warren: &options.warren,
        python: options.python.as_deref(),
        scratch: &scratch.0,
        size: options.size,
        only: options.only.as_deref(),
        others: &mut others,
        figures: &mut figures,
    };
    let version = rows::measure(&mut bench)?;
    let load_after = machine::load();
    let results = Results { machine, load_after, version, figures, absent: others.absent };
    // Part of a table must not take the place of a whole one.
    let place = if options.only.is_some() { &scratch.0 } else { &options.results };
    let directory = results.write(place)?;
    print!("{}", fs::read_to_string(directory.join("table.md"))?);
    if options.only.is_none() {
        println!("\nraw samples: {}", directory.display());
    }
    Ok(())
}

/// The port to serve, for the copy of this program in a sandbox that is proxied.
fn origin_port() -> Option<u16> {
    let mut arguments = std::env::args().skip(1);
    (arguments.next()? == "--origin").then(|| arguments.next()?.parse().ok())?
}

/// The options, or `None` when help was asked for.
fn options() -> Result<Option<Options>> {
    let (mut warren, mut python, mut results, mut only) = (None, None, None, None);
    let mut size = Size { samples: 200, held: 1000, image_bytes: 300_000_000, directories: 100 };
    let mut arguments = std::env::args().skip(1);
    while let Some(option) = arguments.next() {
        let mut value =
            || arguments.next().with_context(|| format!("{option} needs a value\n{USAGE}"));
        match option.as_str() {
            "--warren" => warren = Some(PathBuf::from(value()?)),
            "--python" => python = Some(PathBuf::from(value()?)),
            "--results" => results = Some(PathBuf::from(value()?)),
            "--samples" => size.samples = value()?.parse().context("--samples needs a number")?,
            "--only" => only = Some(value()?),
            "--held" => size.held = value()?.parse().context("--held needs a number")?,
            "--quick" => {
                size = Size { samples: 20, held: 50, image_bytes: 15_000_000, directories: 10 };
            }
            "--help" | "-h" => return Ok(None),
            other => bail!("unknown option {other}\n{USAGE}"),
        }
    }
    let warren = warren.context("--warren names the binary to measure")?;
    let results = results.context("--results names the directory to write to")?;
    Ok(Some(Options { warren, python, results, size, only }))
}

/// A directory of this run, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn make() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("warren-bench-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("removing {}: {error}", self.0.display());
        }
    }
}
