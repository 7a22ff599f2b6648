//! What is measured. Each row names its figures with the targets first, then adds samples.

mod burst;
mod command_line;
mod files;
mod lifecycle;
mod memory;
mod side_by_side;
mod sustained;

use std::path::Path;

use anyhow::Result;

use crate::{
    others::Others,
    samples::Figures,
    server::{Pool, Server},
};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Rounds of the rows that repeat one short thing.
    pub(crate) samples: usize,
    /// Sandboxes that are held at once for the memory row.
    pub(crate) held: usize,
}

/// Measures all rows; a row that cannot be measured is named with the reason.
pub(crate) fn measure(
    warren: &Path,
    scratch: &Path,
    size: Size,
    others: &mut Others,
    figures: &mut Figures,
) -> Result<serde_json::Value> {
    let server = Server::start(warren, &scratch.join("default"), Pool::default())?;
    let version = server.version()?;
    side_by_side::run(&server, size.samples, others, figures)?;
    let rows: [(&str, Row); 6] = [
        ("exec, ping, pause, resume", lifecycle::in_a_live_one),
        ("destroy", lifecycle::destroy),
        ("files", files::run),
        ("sustained create and destroy", sustained::run),
        ("command line, server running", command_line::warm),
        ("memory per idle sandbox", memory::run),
    ];
    for (name, row) in rows {
        println!("measuring: {name}");
        if let Err(error) = row(&server, size, figures) {
            others.absent.push((name.to_owned(), format!("{error:#}")));
        }
    }
    drop(server);
    for (name, blanks) in [("with 100 blanks", 100), ("with none", 0)] {
        println!("measuring: 100 creates at once, {name}");
        let pool = Pool { blanks: Some(blanks), parked: Some(0) };
        let server = Server::start(warren, &scratch.join(format!("burst-{blanks}")), pool)?;
        if let Err(error) = burst::run(&server, name, blanks, figures) {
            others.absent.push((format!("100 creates at once, {name}"), format!("{error:#}")));
        }
    }
    println!("measuring: command line, no server");
    if let Err(error) = command_line::cold(warren, &scratch.join("cold"), size, figures) {
        others.absent.push(("command line, no server".to_owned(), format!("{error:#}")));
    }
    Ok(version)
}

/// A row on the default server.
type Row = fn(&Server, Size, &mut Figures) -> Result<()>;
