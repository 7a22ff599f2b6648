//! The walls: edges between our crates, and crates of others that must stay out of some of ours.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};

use super::{Report, files::TextFile};
use crate::workspace::{Package, Workspace};

/// Other people's crates that would break a wall, and where.
const FORBIDDEN: [(&str, &[&str]); 5] = [
    ("warren-sys", &["tokio", "serde"]),
    ("warren-proto", &["tokio", "rustix", "libc", "hyper"]),
    ("warren-agent", &["axum", "sqlx", "clap", "tracing-subscriber"]),
    ("warren-core", &["axum", "rustix", "libc", "clap", "tower-http"]),
    ("warren-server", &["rustix", "libc", "sqlx"]),
];

/// How many direct dependencies a crate should have at most.
const BUDGETS: [(&str, usize); 3] =
    [("warren-agent", 12), ("warren-proto", 5), ("warren-core", 15)];

/// How many packages the lock file may name. Raising it is a decision, not an accident.
const MOST_PACKAGES: usize = 380;

/// What the table of `ARCHITECTURE.md` says about one crate.
#[derive(Debug, Default, PartialEq, Eq)]
struct Row {
    may_use: BTreeSet<String>,
    in_tests_also: BTreeSet<String>,
}

/// Compares the table with the manifests.
pub(crate) fn check(workspace: &Workspace, files: &[TextFile], report: &mut Report) -> Result<()> {
    let map = files.iter().find(|file| file.path == "ARCHITECTURE.md");
    let table = parse_table(&map.context("there is no ARCHITECTURE.md")?.text)?;
    for package in &workspace.packages {
        match table.get(&package.name) {
            Some(row) => edges(workspace, package, row, report),
            None => {
                report.finding(format!("{} is not in ARCHITECTURE.md's crate table", package.name))
            }
        }
        foreign(package, report);
    }
    packages(files, report);
    for name in table.keys().filter(|name| workspace.package(name).is_none()) {
        report.finding(format!("ARCHITECTURE.md's crate table names {name}, which does not exist"));
    }
    Ok(())
}

fn packages(files: &[TextFile], report: &mut Report) {
    let lock = files.iter().find(|file| file.path == "Cargo.lock");
    let count = lock.map_or(0, |file| file.text.matches("[[package]]").count());
    if count > MOST_PACKAGES {
        report.finding(format!("Cargo.lock names {count} packages, ceiling {MOST_PACKAGES}"));
    }
}

fn edges(workspace: &Workspace, package: &Package, row: &Row, report: &mut Report) {
    for dependency in &package.dependencies {
        if workspace.package(&dependency.name).is_none() || dependency.name == package.name {
            continue;
        }
        let for_tests = dependency.kind.as_deref() == Some("dev");
        let allowed = row.may_use.contains(&dependency.name)
            || (for_tests && row.in_tests_also.contains(&dependency.name));
        if !allowed {
            let when = if for_tests { " in its tests" } else { "" };
            let (name, other) = (&package.name, &dependency.name);
            report.finding(format!("{name} may not depend on {other}{when} (ARCHITECTURE.md)"));
        }
    }
}

fn foreign(package: &Package, report: &mut Report) {
    let direct: BTreeSet<&str> = package
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind.is_none())
        .map(|dependency| dependency.name.as_str())
        .collect();
    for (_, forbidden) in FORBIDDEN.iter().filter(|(name, _)| *name == package.name) {
        for name in forbidden.iter().filter(|name| direct.contains(**name)) {
            report.finding(format!("{} may not depend on {name}", package.name));
        }
    }
    for (name, most) in BUDGETS.iter().filter(|(name, _)| *name == package.name) {
        if direct.len() > *most {
            report
                .remark(format!("{name} has {} direct dependencies, budget {most}", direct.len()));
        }
    }
}

/// Reads the table whose header starts with `| crate |`.
///
/// Columns: crate, owns, may depend on, in tests also, must not contain. Names stand in backticks;
/// a cell without any means none.
fn parse_table(text: &str) -> Result<BTreeMap<String, Row>> {
    let mut lines = text.lines().skip_while(|line| !line.starts_with("| crate |"));
    let header: Vec<&str> = cells(lines.next().context("no table starts with `| crate |`")?);
    if header.get(2..4) != Some(&["may depend on", "in tests also"][..]) {
        bail!("the crate table's columns are {header:?}");
    }
    let mut rows = BTreeMap::new();
    for line in lines.skip(1).take_while(|line| line.starts_with('|')) {
        let [name, _owns, may_use, in_tests_also, ..] = cells(line)[..] else {
            bail!("a row of the crate table is too short: {line}");
        };
        let name = backticked(name).pop_first().context("a row names no crate")?;
        let row = Row { may_use: backticked(may_use), in_tests_also: backticked(in_tests_also) };
        rows.insert(name, row);
    }
    Ok(rows)
}

fn cells(line: &str) -> Vec<&str> {
    line.trim().trim_matches('|').split('|').map(str::trim).collect()
}

/// The words in backticks.
fn backticked(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_up_to_its_last_row() {
        let text = "\
# Map

| crate | owns | may depend on | in tests also | must not contain |
|---|---|---|---|---|
| `a` | things | nothing of ours | | I/O |
| `b` | more | `a`, `c` (client) | `d` | |

| other | table |";
        let table = parse_table(text).unwrap();
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(table.len(), 2);
        assert_eq!(table["a"], Row::default());
        assert_eq!(table["b"], Row { may_use: set(&["a", "c"]), in_tests_also: set(&["d"]) });
    }

    #[test]
    fn a_table_with_other_columns_is_refused() {
        assert!(parse_table("| crate | may depend on |\n|---|---|\n").is_err());
        assert!(parse_table("no table").is_err());
    }

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
        let dependencies = dependencies
            .iter()
            .map(|(name, kind)| crate::workspace::Dependency {
                name: (*name).to_owned(),
                kind: kind.map(str::to_owned),
            })
            .collect();
        Package {
            name: name.to_owned(),
            id: name.to_owned(),
            manifest_path: "Cargo.toml".into(),
            dependencies,
        }
    }

    #[test]
    fn an_edge_for_tests_is_not_an_edge_for_the_crate() {
        let workspace = Workspace {
            root: "/".into(),
            target: "/target".into(),
            packages: vec![package("a", &[]), package("b", &[("a", None), ("c", Some("dev"))])],
        };
        let row = Row { may_use: BTreeSet::new(), in_tests_also: BTreeSet::from(["a".to_owned()]) };
        let mut report = Report::default();
        edges(&workspace, &workspace.packages[1], &row, &mut report);
        assert_eq!(report.findings, ["b may not depend on a (ARCHITECTURE.md)"]);
    }

    #[test]
    fn a_forbidden_crate_of_others_is_found() {
        let mut report = Report::default();
        foreign(&package("warren-sys", &[("tokio", None), ("libc", None)]), &mut report);
        foreign(&package("warren-sys", &[("tokio", Some("dev"))]), &mut report);
        assert_eq!(report.findings, ["warren-sys may not depend on tokio"]);
    }
}
