//! E2B's own Python package against this server, and against one that answers at once: the second is
//! what the package itself costs on this machine.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::Bench;
use crate::{
    at_once,
    others::command,
    samples::{Figures, Unit},
    server::{Pool, Server},
};

/// What the package is made to do.
const SCRIPT: &str = include_str!("times_e2b.py");

/// Whose sandboxes of a burst are there before they are asked for.
const BLANKS: u32 = 100;

/// Rows that say what they are of, and how much longer than the package itself they may take: the
/// median and the 99th percentile, in nanoseconds.
const ROWS: [(&str, &str, &str, Option<[u64; 2]>); 4] = [
    ("sequential", "create", "create to first command", Some([5_000_000, 15_000_000])),
    ("sequential", "run", "`commands.run(\"true\")`", None),
    ("burst", "create", "100 at once, create to first command", Some([5_000_000, 15_000_000])),
    ("burst", "whole", "100 at once, until the last", None),
];

/// Somebody whom the package asks.
struct Asked {
    name: &'static str,
    address: SocketAddr,
    key: String,
}

/// Measures both in turn.
pub(super) fn run(bench: &mut Bench<'_>) -> Result<()> {
    let python = bench.python.filter(|it| it.is_file()).map(Path::to_owned);
    let python = python.context("E2B's Python package is not installed below target/tools")?;
    let script = bench.scratch.join("times_e2b.py");
    fs::write(&script, SCRIPT)?;
    let stand_in = stand_in()?;
    declare(bench.figures);
    let rounds = bench.size.samples.div_ceil(40);
    let short = bench.size.samples.div_ceil(rounds);
    for (kind, blanks, length) in [("sequential", None, short), ("burst", Some(BLANKS), 1)] {
        let pool = Pool { blanks, parked: blanks.map(|_| 0) };
        let (_server, ours) = ours(bench, kind, pool)?;
        for _ in 0..rounds {
            for asked in [&ours, &stand_in] {
                let samples = asked.by(&python, &script, kind, length)?;
                take(bench.figures, kind, asked.name, &samples)?;
            }
        }
    }
    name_targets(bench.figures);
    Ok(())
}

fn figure(row: &str, asked: &str) -> String {
    format!("E2B's Python package, {row}: {asked}")
}

fn declare(figures: &mut Figures) {
    for (kind, _, row, _) in ROWS {
        let note = match kind {
            "sequential" => "plain HTTP on loopback; default pool of blanks",
            _ => "one process with `AsyncSandbox`, plain HTTP on loopback; 100 blanks",
        };
        figures.declare(&figure(row, "Warren"), Unit::Time, "", note);
        let note = "what the package itself takes";
        figures.declare(&figure(row, "answers at once"), Unit::Time, "", note);
    }
}

/// What was to be reached is known when the package itself has been measured.
fn name_targets(figures: &mut Figures) {
    for (_, _, row, more) in ROWS {
        let Some([median, slow]) = more else { continue };
        let itself = figures.named(&figure(row, "answers at once"));
        let Some(itself) = itself.filter(|it| !it.samples.is_empty()) else { continue };
        let target = format!(
            "{} ({})",
            itself.show(itself.percentile(0.5) + median),
            itself.show(itself.percentile(0.99) + slow)
        );
        figures.aim(&figure(row, "Warren"), &target);
    }
}

fn take(figures: &mut Figures, kind: &str, asked: &str, samples: &Value) -> Result<()> {
    for (_, field, row, _) in ROWS.iter().filter(|row| row.0 == kind) {
        let samples = samples.get(*field).and_then(Value::as_array).context("no samples")?;
        for sample in samples.iter().filter_map(Value::as_u64) {
            figures.add(&figure(row, asked), Unit::Time, sample);
        }
    }
    Ok(())
}

/// A server of Warren that listens where the package can ask it, with a key.
fn ours(bench: &Bench<'_>, kind: &str, pool: Pool) -> Result<(Server, Asked)> {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let place = bench.scratch.join(format!("e2b-{kind}"));
    let settings = [("WARREN_LISTEN", address.to_string())];
    let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
    let server = Server::start_with(bench.warren, &place, pool, &settings)?;
    let made = server.command().args(["--json", "key", "create", "bench"]).output()?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr).trim());
    let made: Value = serde_json::from_slice(&made.stdout).context("read the key")?;
    let key = made.get("key").and_then(Value::as_str).context("no key")?.replace("wrn_", "e2b_");
    Ok((server, Asked { name: "Warren", address, key }))
}

fn stand_in() -> Result<Asked> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || at_once::serve(listener));
    Ok(Asked { name: "answers at once", address, key: format!("e2b_{}", "0".repeat(40)) })
}

impl Asked {
    /// The samples that the package took.
    fn by(&self, python: &PathBuf, script: &Path, kind: &str, rounds: usize) -> Result<Value> {
        let here = format!("http://{}", self.address);
        let mut python = command(python);
        python.arg(script).arg(kind).arg(rounds.to_string());
        python.env("E2B_API_URL", format!("{here}/e2b")).env("E2B_SANDBOX_URL", &here);
        python.env("E2B_API_KEY", &self.key);
        let output = python.output().context("start Python")?;
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().next_back().unwrap_or_default();
        ensure!(output.status.success(), "{}: {last}", self.name);
        serde_json::from_slice(&output.stdout).context("read the samples")
    }
}
