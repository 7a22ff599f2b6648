//! `cargo xtask tidy`: the rules that no compiler checks.
//!
//! * [`walls`]: which crate may depend on which, from the table in `ARCHITECTURE.md`.
//! * [`sources`]: what may not be written where: unsafe code, printing, reading the environment.
//! * [`documents`]: decision records that the map does not mention, links that lead nowhere.
//!
//! A finding is an error and fails the task; a remark is printed and does not.

mod documents;
mod files;
mod sources;
mod walls;

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::workspace::Workspace;

/// What the checks have to say.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Broken rules, each a sentence that names the place.
    findings: Vec<String>,
    /// What somebody should look at.
    remarks: Vec<String>,
}

impl Report {
    fn finding(&mut self, text: String) {
        self.findings.push(text);
    }

    fn remark(&mut self, text: String) {
        self.remarks.push(text);
    }
}

/// Runs every check and prints what it found.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    if let Some(unknown) = arguments.first() {
        bail!("tidy takes no argument, got {unknown}");
    }
    let files = files::text_files(&workspace.root)?;
    let mut report = Report::default();
    walls::check(workspace, &files, &mut report)?;
    sources::check(&files, &mut report);
    documents::check(&workspace.root, &files, &mut report);

    for remark in &report.remarks {
        println!("remark: {remark}");
    }
    for finding in &report.findings {
        println!("error: {finding}");
    }
    println!(
        "tidy: {} files, {} errors, {} remarks",
        files.len(),
        report.findings.len(),
        report.remarks.len()
    );
    Ok(if report.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
