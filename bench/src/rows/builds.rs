//! A Dockerfile of ten steps: everything anew, and with one file changed that its seventh step takes.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use warren_test_registry::Registry;

use super::Bench;
use crate::{
    api, images,
    others::command,
    samples::{Unit, timed},
    server::{Pool, Server},
};

const COLD: &str = "build of 10 steps, all anew";
const CHANGED: &str = "build of 10 steps, the 7th changed";

/// The steps after `FROM`.
const STEPS: &str = "\
ENV STAGE=bench
WORKDIR /work
COPY one /work/one
RUN head -c 1000000 /dev/urandom > a
RUN mkdir -p d && cp one d/
RUN cp a d/
COPY app /work/app
RUN cp app d/
RUN head -c 1000000 /dev/urandom > b
RUN touch done
";

/// Measures ours and the others' in turn.
pub(super) fn run(bench: &mut Bench<'_>) -> Result<()> {
    let registry = Registry::start().map_err(|error| anyhow::anyhow!("{error}"))?;
    registry.put("bench/small", "1", &images::small()?)?;
    let reference = format!("{}/bench/small:1", registry.address());
    let directory = bench.scratch.join("build");
    fs::create_dir_all(&directory)?;
    let dockerfile = format!("FROM {reference}\n{STEPS}");
    fs::write(directory.join("Dockerfile"), &dockerfile)?;
    fs::write(directory.join("one"), "one\n")?;
    let note = "base image there already; the network is not used";
    bench.figures.declare(COLD, Unit::Time, "", note);
    bench.figures.declare(CHANGED, Unit::Time, "only from there", note);
    let server = Server::start(bench.warren, &bench.scratch.join("builds"), Pool::default())?;
    let mut client = server.client()?;
    api::pull(&mut client, &reference)?;
    let engines = bench.others.engines(bench.scratch);
    for engine in &engines {
        engine.pull(&reference)?;
    }
    let tag = "warren-bench:build";
    for round in 0..bench.size.samples.div_ceil(40) {
        for (name, cold) in [(COLD, true), (CHANGED, false)] {
            fs::write(directory.join("app"), format!("round {round}, cold {cold}\n"))?;
            let archive = pack(&directory, bench.scratch)?;
            let (took, ()) = timed(|| api::build(&mut client, &dockerfile, &archive, cold))?;
            bench.figures.time(name, took);
            for engine in &engines {
                let took = engine.build(&directory, tag, cold)?;
                bench.figures.time(&format!("{name}: {}", engine.name), took);
            }
        }
    }
    engines.iter().try_for_each(|engine| engine.remove_image(tag))
}

/// The directory as the archive that a build takes.
fn pack(directory: &Path, scratch: &Path) -> Result<Vec<u8>> {
    let archive = scratch.join("build.tar");
    let mut tar = command("tar");
    tar.arg("-C").arg(directory).arg("-cf").arg(&archive).arg(".");
    anyhow::ensure!(tar.status().context("start tar")?.success(), "tar failed");
    fs::read(&archive).context("read the archive")
}
