//! `cargo xtask codegen`: files that are generated and committed.
//!
//! * [`messages`]: the Rust code of the agent's protocol, from `proto/`.
//! * [`pages`]: reference pages, which tests of the binary they describe write and compare.

mod messages;
mod pages;

use std::{fs, process::ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::workspace::Workspace;

/// A file as it should be.
#[derive(Debug)]
struct Generated {
    /// Where it belongs, seen from the root.
    path: String,
    text: String,
}

/// Writes each file, or with `--check` fails if one differs from what would be written.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    let check = match arguments {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => bail!("codegen takes --check or nothing"),
    };
    if !check {
        pages::write(workspace)?;
    }
    let mut files = Vec::new();
    match messages::obstacle() {
        None => files.extend(messages::generate(workspace)?),
        Some(reason) if check => println!("SKIPPED: messages not compared: {reason}"),
        Some(reason) => bail!("cannot generate the messages: {reason}"),
    }

    let mut stale = 0;
    for file in &files {
        let path = workspace.root.join(&file.path);
        if fs::read_to_string(&path).is_ok_and(|found| found == file.text) {
            continue;
        }
        if check {
            println!("error: {} is stale: run `cargo xtask codegen`", file.path);
            stale += 1;
        } else {
            fs::write(&path, &file.text).with_context(|| format!("write {}", file.path))?;
            println!("wrote {}", file.path);
        }
    }
    println!("codegen: {} files, {stale} stale", files.len());
    Ok(if stale == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
