//! What is measured. Each row names its figures with the targets first, then adds samples.

mod builds;
mod burst;
mod command_line;
mod files;
mod images;
mod lifecycle;
mod memory;
mod side_by_side;
mod snapshots;
mod sustained;

use std::path::Path;

use anyhow::Result;

use crate::{
    others::Others,
    samples::Figures,
    server::{Pool, Server, pause},
};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Rounds of the rows that repeat one short thing.
    pub(crate) samples: usize,
    /// Sandboxes that are held at once for the memory row.
    pub(crate) held: usize,
    /// What the layers of the large image have unpacked.
    pub(crate) image_bytes: u64,
    /// Directories of the large sandbox, each with 200 files of some 52 kB.
    pub(crate) directories: u32,
}

/// What the rows work with that have servers of their own.
#[derive(Debug)]
pub(crate) struct Bench<'a> {
    /// The binary under measurement.
    pub(crate) warren: &'a Path,
    /// A directory of this run.
    pub(crate) scratch: &'a Path,
    pub(crate) size: Size,
    pub(crate) others: &'a mut Others,
    pub(crate) figures: &'a mut Figures,
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
    stored(&mut Bench { warren, scratch, size, others, figures });
    println!("measuring: command line, no server");
    if let Err(error) = command_line::cold(warren, &scratch.join("cold"), size, figures) {
        others.absent.push(("command line, no server".to_owned(), format!("{error:#}")));
    }
    Ok(version)
}

/// The rows about images, builds, snapshots and forks.
fn stored(bench: &mut Bench<'_>) {
    let rows: [(&str, StoredRow); 3] = [
        ("images from a registry", images::run),
        ("builds", builds::run),
        ("snapshots and forks", snapshots::run),
    ];
    for (name, row) in rows {
        println!("measuring: {name}");
        if let Err(error) = row(bench) {
            bench.others.absent.push((name.to_owned(), format!("{error:#}")));
        }
    }
}

/// Requests of one client have pauses between them, in which pools are filled again.
fn breathe() {
    for _ in 0..10 {
        pause();
    }
}

/// A row with servers of its own.
type StoredRow = fn(&mut Bench<'_>) -> Result<()>;

/// A row on the default server.
type Row = fn(&Server, Size, &mut Figures) -> Result<()>;
