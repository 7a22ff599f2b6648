//! `cargo xtask test`: every test of the repository, in tiers, added up.
//!
//! Everything is built once; then each test binary runs by itself and its own report is read. A test
//! that cannot run on this machine prints `SKIPPED: <reason>` and returns: it counts as skipped, never
//! as passed. The last line is always `N passed, N failed, N skipped`.

mod binaries;
mod clients;
mod libtest;
mod process;
mod system;

use std::{collections::BTreeSet, process::ExitCode, thread, time::Duration};

use anyhow::{Result, bail};

use crate::{fuzz, shell, workspace::Workspace};
use binaries::Binary;
pub(crate) use clients::python as python_of_clients;
use libtest::Report;

/// A test binary that runs longer than this hangs. The end-to-end tests take some ten minutes.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// A group of tests that cost about the same and need the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tier {
    /// Tests beside the code.
    Unit,
    /// Examples in doc comments.
    Doc,
    /// The public interface of one crate; some make real sandboxes.
    Integration,
    /// The real binary, from outside.
    EndToEnd,
    /// The fuzz targets, once over their seeds.
    Fuzz,
}

impl Tier {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Unit, "unit"),
        (Self::Doc, "doc"),
        (Self::Integration, "integration"),
        (Self::EndToEnd, "e2e"),
        (Self::Fuzz, "fuzz"),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(tier, _)| *tier == self).map_or("", |(_, name)| name)
    }
}

/// Runs the tiers named, or all, and prints the sum.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    let tiers = chosen(arguments)?;
    let mut total = Report::default();
    let result = run_tiers(workspace, &tiers, &mut total);
    if let Err(error) = &result {
        // What could not be built or started has failed; the last line must say so.
        println!("error: {error:#}");
        total.failed.push("the tests themselves".to_owned());
    }
    summary(&total);
    Ok(if total.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn chosen(arguments: &[String]) -> Result<BTreeSet<Tier>> {
    if arguments.is_empty() {
        return Ok(Tier::ALL.map(|(tier, _)| tier).into());
    }
    let mut tiers = BTreeSet::new();
    for argument in arguments {
        match Tier::ALL.iter().find(|(_, name)| name == argument) {
            Some((tier, _)) => tiers.insert(*tier),
            None => bail!("no tier is called {argument}: unit doc integration e2e fuzz"),
        };
    }
    Ok(tiers)
}

fn run_tiers(workspace: &Workspace, tiers: &BTreeSet<Tier>, total: &mut Report) -> Result<()> {
    if tiers.contains(&Tier::Integration) || tiers.contains(&Tier::EndToEnd) {
        system::prepare();
        system::prepare_authority(&workspace.root);
    }
    // Package managers wait for a network, so they do while the tests are built.
    let root = workspace.root.clone();
    let clients =
        tiers.contains(&Tier::EndToEnd).then(|| thread::spawn(move || clients::prepare(&root)));
    let compiled = [Tier::Unit, Tier::Integration, Tier::EndToEnd];
    if compiled.iter().any(|tier| tiers.contains(tier)) {
        let binaries = binaries::build(workspace)?;
        drop(clients.map(thread::JoinHandle::join));
        for tier in compiled.into_iter().filter(|tier| tiers.contains(tier)) {
            for binary in binaries.iter().filter(|binary| binary.tier == tier) {
                run_binary(workspace, binary, total)?;
            }
        }
    }
    if tiers.contains(&Tier::Doc) {
        run_doc_tests(workspace, total)?;
    }
    if tiers.contains(&Tier::Fuzz) {
        replay_seeds(workspace, total)?;
    }
    Ok(())
}

fn run_binary(workspace: &Workspace, binary: &Binary, total: &mut Report) -> Result<()> {
    let mut command = shell::command(&binary.executable);
    command.arg("--show-output").current_dir(&binary.directory);
    command.env("CARGO_MANIFEST_DIR", &binary.directory).env("CARGO_PKG_NAME", &binary.package);
    command.env("TEST_WARREN_BIN", binaries::warren(workspace)).env("INSTA_UPDATE", "no");
    let ended = process::run(&mut command, LIMIT)?;
    let name = format!("{} {}", binary.package, binary.target);
    finish(binary.tier, &name, libtest::read(&name, &ended), &ended, total);
    Ok(())
}

fn run_doc_tests(workspace: &Workspace, total: &mut Report) -> Result<()> {
    let mut cargo = shell::cargo(&workspace.root);
    cargo.args(["test", "--workspace", "--doc", "--quiet", "--no-fail-fast"]);
    // Without --quiet every example has a line; with it only failures and sums are printed.
    let ended = process::run(&mut cargo, LIMIT)?;
    finish(Tier::Doc, "doc tests", libtest::read("doc tests", &ended), &ended, total);
    Ok(())
}

fn replay_seeds(workspace: &Workspace, total: &mut Report) -> Result<()> {
    let mut report = Report::default();
    if let Some(reason) = fuzz::obstacle() {
        report.skipped.push(("fuzz targets".to_owned(), reason.to_owned()));
    } else {
        for target in fuzz::build(workspace)? {
            match fuzz::replay(workspace, &target)? {
                Ok(()) => report.passed += 1,
                Err(error) => report.failed.push(error.to_string()),
            }
        }
    }
    print_line(Tier::Fuzz, "seeds", &report, Duration::ZERO);
    total.add(report);
    Ok(())
}

fn finish(tier: Tier, name: &str, report: Report, ended: &process::Ended, total: &mut Report) {
    if !report.failed.is_empty() {
        println!("{}", ended.stdout);
        println!("{}", ended.stderr);
    }
    print_line(tier, name, &report, ended.took);
    total.add(report);
}

fn print_line(tier: Tier, name: &str, report: &Report, took: Duration) {
    let (passed, failed, skipped) = report.counts();
    if passed + failed + skipped > 0 {
        let seconds = took.as_secs_f64();
        let tier = tier.name();
        println!(
            "{tier:12} {name}: {passed} passed, {failed} failed, {skipped} skipped ({seconds:.1} s)"
        );
    }
}

fn summary(total: &Report) {
    for (name, reason) in &total.skipped {
        println!("skipped: {name}: {reason}");
    }
    for name in &total.failed {
        println!("FAILED: {name}");
    }
    let (passed, failed, skipped) = total.counts();
    println!("{passed} passed, {failed} failed, {skipped} skipped");
}
