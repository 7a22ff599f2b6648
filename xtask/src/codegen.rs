//! `cargo xtask codegen`: files that are generated and committed.

use std::{fs, process::ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::{shell, workspace::Workspace};

/// A file and the arguments of `warren` that print it.
const PAGES: [(&str, &[&str]); 0] = [];

/// Writes each file, or with `--check` fails if one differs from what would be written.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    let check = match arguments {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => bail!("codegen takes --check or nothing"),
    };
    let mut stale = Vec::new();
    for (page, print) in PAGES {
        let mut warren = shell::cargo(&workspace.root);
        warren.args(["run", "--quiet", "--package", "warren", "--"]).args(print);
        let wanted = shell::output(&mut warren)?;
        let path = workspace.root.join(page);
        if fs::read_to_string(&path).is_ok_and(|found| found == wanted) {
            continue;
        }
        if check {
            stale.push(page);
        } else {
            fs::write(&path, wanted).with_context(|| format!("write {page}"))?;
            println!("wrote {page}");
        }
    }
    for page in &stale {
        println!("error: {page} is stale: run `cargo xtask codegen`");
    }
    Ok(if stale.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
