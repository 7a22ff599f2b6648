//! What is measured. Each row names its figures with the targets first, then adds samples.

mod builds;
mod burst;
mod command_line;
mod e2b;
mod edge;
mod egress;
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
    /// A Python with E2B's package, where there is one.
    pub(crate) python: Option<&'a Path>,
    /// A directory of this run.
    pub(crate) scratch: &'a Path,
    pub(crate) size: Size,
    /// Words of the rows to measure; all where absent.
    pub(crate) only: Option<&'a str>,
    pub(crate) others: &'a mut Others,
    pub(crate) figures: &'a mut Figures,
}

impl Bench<'_> {
    /// Says what is measured next; false where it is not to be.
    fn announce(&self, name: &str) -> bool {
        let wanted = self.only.is_none_or(|only| name.contains(only));
        if wanted {
            println!("measuring: {name}");
        }
        wanted
    }

    /// Names a row that cannot be measured, with the reason.
    fn tell(&mut self, name: &str, measured: Result<()>) {
        if let Err(error) = measured {
            self.others.absent.push((name.to_owned(), format!("{error:#}")));
        }
    }
}

/// Measures all rows; a row that cannot be measured is named with the reason.
pub(crate) fn measure(bench: &mut Bench<'_>) -> Result<serde_json::Value> {
    let place = bench.scratch.join("default");
    let server = Server::start(bench.warren, &place, Pool::default())?;
    let version = server.version()?;
    if bench.announce("side by side") {
        side_by_side::run(&server, bench.size.samples, bench.others, bench.figures)?;
    }
    let rows: [(&str, Row); 6] = [
        ("exec, ping, pause, resume", lifecycle::in_a_live_one),
        ("destroy", lifecycle::destroy),
        ("files in and out", files::run),
        ("sustained create and destroy", sustained::run),
        ("command line, server running", command_line::warm),
        ("memory per idle sandbox", memory::run),
    ];
    for (name, row) in rows {
        if bench.announce(name) {
            let measured = row(&server, bench.size, bench.figures);
            bench.tell(name, measured);
        }
    }
    drop(server);
    for (number, blanks) in [("with 100 blanks", 100), ("with none", 0)] {
        let name = format!("100 creates at once, {number}");
        if bench.announce(&name) {
            let pool = Pool { blanks: Some(blanks), parked: Some(0) };
            let place = bench.scratch.join(format!("burst-{blanks}"));
            let server = Server::start(bench.warren, &place, pool)?;
            let measured = burst::run(&server, number, blanks, bench.figures);
            bench.tell(&name, measured);
        }
    }
    let rows: [(&str, StoredRow); 7] = [
        ("egress", egress::run),
        ("images from a registry", images::run),
        ("builds", builds::run),
        ("snapshots and forks", snapshots::run),
        ("command line, no server", command_line::cold),
        ("the edge", edge::run),
        ("clients of E2B", e2b::run),
    ];
    for (name, row) in rows {
        if bench.announce(name) {
            let measured = row(bench);
            bench.tell(name, measured);
        }
    }
    Ok(version)
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
