//! Results: raw samples as JSON, and a table for people.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{
    others::command,
    samples::{Figure, Figures},
};

/// Everything that was found out.
#[derive(Debug)]
pub(crate) struct Results {
    pub(crate) machine: Value,
    pub(crate) load_after: String,
    /// What the server says about itself.
    pub(crate) version: Value,
    pub(crate) figures: Figures,
    /// Tools that could not be compared with, and rows that could not be measured, with the reason.
    pub(crate) absent: Vec<(String, String)>,
}

impl Results {
    /// Writes `<date>-<kind of machine>/samples.json` and `latest.md` below `directory`.
    pub(crate) fn write(&self, directory: &Path) -> Result<PathBuf> {
        let date = date()?;
        let raw = directory.join(format!("{date}-{}", self.kind()));
        fs::create_dir_all(&raw).with_context(|| format!("make {}", raw.display()))?;
        let table = self.table(&date);
        fs::write(raw.join("samples.json"), self.json(&date).to_string())?;
        fs::write(raw.join("table.md"), &table)?;
        fs::write(directory.join("latest.md"), &table)?;
        Ok(raw)
    }

    /// Such as `vm-2core-root`.
    fn kind(&self) -> String {
        let is = |name: &str| self.machine.get(name).and_then(Value::as_bool).unwrap_or(false);
        let machine = if is("hypervisor") { "vm" } else { "metal" };
        let user = if is("root") { "root" } else { "user" };
        format!("{machine}-{}core-{user}", self.machine.get("cores").unwrap_or(&Value::Null))
    }

    fn json(&self, date: &str) -> Value {
        let figures: Vec<Value> = self.figures.measured().map(figure_json).collect();
        json!({
            "date": date, "machine": self.machine, "load_after": self.load_after,
            "version": self.version, "figures": figures, "absent": self.absent,
        })
    }

    fn table(&self, date: &str) -> String {
        let text = |name: &str| match self.machine.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        };
        let gigabytes = self.machine.get("memory_bytes").and_then(Value::as_u64).unwrap_or(0) >> 30;
        let user = if text("root") == "true" { "root" } else { "an ordinary user" };
        let mut table = format!(
            "# Benchmark of {date}\n\n\
             Written by `cargo xtask bench`; [how it is measured](../../docs/benchmarks.md).\n\n\
             - Machine: {} cores of {}{}, {gigabytes} GiB, Linux {}, {}, cgroup {}\n\
             - As {user}; load before {}, after {}\n\
             - Warren: `{}`\n\n\
             | figure | p50 | p99 | min | n | target | note |\n|---|---|---|---|---|---|---|\n",
            text("cores"),
            text("processor"),
            if text("hypervisor") == "true" { " (virtual)" } else { "" },
            text("kernel"),
            text("distribution"),
            text("cgroups"),
            text("load"),
            self.load_after,
            self.version,
        );
        for figure in self.figures.measured() {
            table += &row(figure);
        }
        if !self.absent.is_empty() {
            table += "\nNot measured:\n\n";
            for (name, reason) in &self.absent {
                table += &format!("- {name}: {reason}\n");
            }
        }
        table
    }
}

fn row(figure: &Figure) -> String {
    let show = |share| figure.show(figure.percentile(share));
    // Of the figures where more is better, the worst percentile is the first.
    let worst = if figure.more_is_better() { 0.01 } else { 0.99 };
    let best = if figure.more_is_better() { 1.0 } else { 0.0 };
    format!(
        "| {} | {} | {} | {} | {} | {} | {} |\n",
        figure.name,
        show(0.5),
        show(worst),
        show(best),
        figure.samples.len(),
        figure.target,
        figure.note
    )
}

fn figure_json(figure: &Figure) -> Value {
    json!({
        "name": figure.name, "unit": figure.base(), "target": figure.target, "note": figure.note,
        "samples": figure.samples,
    })
}

fn date() -> Result<String> {
    let output = command("date").args(["-u", "+%Y-%m-%d"]).output().context("ask for the date")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::Unit;

    #[test]
    fn the_table_has_a_line_for_each_figure_and_each_absence() {
        let mut figures = Figures::default();
        figures.declare("create", Unit::Time, "1.5 ms (6)", "16 blanks");
        figures.add("create", Unit::Time, 1_000_000);
        figures.declare("never measured", Unit::Time, "", "");
        let results = Results {
            machine: json!({"cores": 2, "hypervisor": true, "root": true}),
            load_after: "0 0 0".into(),
            version: json!({}),
            figures,
            absent: vec![("runsc".into(), "not installed".into())],
        };
        let table = results.table("2026-01-01");
        let line = "| create | 1.00 ms | 1.00 ms | 1.00 ms | 1 | 1.5 ms (6) | 16 blanks |";
        assert!(table.contains(line), "{table}");
        assert!(table.contains("- runsc: not installed"));
        assert!(!table.contains("never measured"));
        assert_eq!(results.kind(), "vm-2core-root");
    }
}
