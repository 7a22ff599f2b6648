//! Snapshots and forks of a sandbox with a gigabyte in 20,000 files, of which 10 MB changed.

use std::path::Path;

use anyhow::{Context as _, Result};
use warren_test_registry::Registry;

use super::{Bench, Size};
use crate::{
    api,
    http::Client,
    images,
    others::{Engine, command},
    samples::{Unit, timed},
    server::{Pool, Server},
};

/// Directories `$i` to `$n` with 200 files of some 52 kB each.
const FILL: &str = "cd /home/user && mkdir tree && cd tree && while [ $i -lt $n ]; do \
    mkdir $i && (cd $i && head -c 10485760 /dev/urandom | split -b 52429 -a 3 -) || exit 1; \
    i=$((i+1)); done";

/// Writes two files of each directory anew.
const CHANGE: &str = "cd /home/user/tree && for d in */; do \
    head -c 52429 /dev/urandom > ${d}xaaa; head -c 52429 /dev/urandom > ${d}xaab; done";

/// How many children the large fork has.
const MANY: usize = 100;

/// Measures ours on the data directory's own filesystem and on a btrfs pool, and what others have.
pub(super) fn run(bench: &mut Bench<'_>) -> Result<()> {
    let server = Server::start(bench.warren, &bench.scratch.join("plain"), Pool::default())?;
    ours(bench, &server, &filesystem(&server.data)?)?;
    drop(server);
    match Server::start_on_pool(bench.warren, &bench.scratch.join("pool"), Pool::default()) {
        Ok(server) => ours(bench, &server, "btrfs pool")?,
        Err(error) => {
            let reason = format!("{error:#}");
            bench.others.absent.push(("snapshots and forks on a btrfs pool".to_owned(), reason));
        }
    }
    others(bench)
}

/// What kind of filesystem a directory is on.
fn filesystem(directory: &Path) -> Result<String> {
    let mut stat = command("stat");
    let output = stat.args(["-f", "-c", "%T"]).arg(directory).output().context("start stat")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Measures on the storage that this server has; `on` names it.
fn ours(bench: &mut Bench<'_>, server: &Server, on: &str) -> Result<()> {
    let name = |what: &str| format!("{what}, {on}");
    let (pause, whole) = (name("snapshot, sandbox stands still"), name("snapshot, whole"));
    let (fork, many) = (name("fork, 1 child"), name(&format!("fork, {MANY} children")));
    let (all, changed) = (bench.size.directories * 200, bench.size.directories * 2);
    let note = &format!("{} MB in {all} files, {changed} of them changed before each", all / 20);
    let figures = &mut *bench.figures;
    figures.declare(&pause, Unit::Time, "5 ms on btrfs", &format!("the server's account; {note}"));
    figures.declare(&whole, Unit::Time, "", note);
    figures.declare(&fork, Unit::Time, "5 ms (20) on btrfs", note);
    figures.declare(&many, Unit::Time, "600 ms on btrfs", "nothing changed in between");
    let mut client = server.client()?;
    let id = api::create_from(&mut client, None)?;
    api::exec(&mut client, &id, &["sh", "-c", &fill(bench.size)]).context("fill a sandbox")?;
    for _ in 0..bench.size.samples.div_ceil(10) {
        api::exec(&mut client, &id, &["sh", "-c", CHANGE])?;
        let (took, snapshot) = timed(|| api::snapshot(&mut client, &id))?;
        figures.time(&whole, took);
        figures.time(&pause, snapshot.frozen);
        api::exec(&mut client, &id, &["sh", "-c", CHANGE])?;
        let (took, children) = timed(|| api::fork(&mut client, &id, 1))?;
        figures.time(&fork, took);
        remove(&mut client, &children)?;
        api::remove_snapshot(&mut client, &snapshot.id)?;
    }
    for _ in 0..bench.size.samples.div_ceil(40) {
        let (took, children) = timed(|| api::fork(&mut client, &id, MANY))?;
        figures.time(&many, took);
        remove(&mut client, &children)?;
    }
    api::destroy(&mut client, &id)
}

/// The shell line that fills a sandbox or a container.
fn fill(size: Size) -> String {
    format!("i=0; n={}; {FILL}", size.directories)
}

fn remove(client: &mut Client, sandboxes: &[String]) -> Result<()> {
    sandboxes.iter().try_for_each(|id| api::destroy(client, id))
}

/// The nearest thing that others have: an image of a running container's files.
fn others(bench: &mut Bench<'_>) -> Result<()> {
    let registry = Registry::start().map_err(|error| anyhow::anyhow!("{error}"))?;
    registry.put("bench/small", "1", &images::small()?)?;
    let reference = format!("{}/bench/small:1", registry.address());
    let engines = bench.others.engines(bench.scratch);
    // Podman's containers are in mounts of their own here, which another podman does not see.
    for engine in engines.iter().filter(|engine| engine.name == "docker") {
        let container = engine.start(&reference, "sleep 100000")?;
        let measured = commits(engine, &container, bench);
        engine.remove(&container)?;
        measured?;
    }
    Ok(())
}

fn commits(engine: &Engine, container: &str, bench: &mut Bench<'_>) -> Result<()> {
    engine.exec(container, &format!("mkdir -p /home/user; {}", fill(bench.size)))?;
    for round in 0..3 {
        engine.exec(container, CHANGE)?;
        let tag = format!("warren-bench:commit-{round}");
        let took = engine.commit(container, &tag)?;
        bench.figures.time(&format!("the same files, {} commit", engine.name), took);
        let took = engine.run(&tag)?;
        bench
            .figures
            .time(&format!("the same files, run /bin/true of that: {}", engine.name), took);
        engine.remove_image(&tag)?;
    }
    Ok(())
}
