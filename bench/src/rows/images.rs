//! A large image from a registry on this machine: fetched for the first time, and there already.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};
use warren_test_registry::Registry;

use super::{Bench, Size};
use crate::{
    api::{self, Source},
    http::Client,
    images,
    others::Engine,
    samples::{Figures, Unit, timed},
    server::{Pool, Server},
};

const LAYERS: usize = 3;

const COLD: &str = "large image, pull to first answer";
const RATE: &str = "large image, pull and unpack";
const CACHED: &str = "cached large image, create to first answer";
const HOST: &str = "`host` image in the same loop, create to first answer";
const UMOCI: &str = "large image, unpack alone: umoci";

/// Measures ours and the others' in turn.
pub(super) fn run(bench: &mut Bench<'_>) -> Result<()> {
    let registry = Registry::start().map_err(|error| anyhow::anyhow!("{error}"))?;
    let (image, bytes) = images::large(LAYERS, bench.size.image_bytes / LAYERS as u64)?;
    registry.put("bench/large", "1", &image)?;
    let reference = format!("{}/bench/large:1", registry.address());
    let megabytes = bytes / 1_000_000;
    let note = format!("{megabytes} MB in {} layers, gzip, from loopback", LAYERS + 1);
    bench.figures.declare(COLD, Unit::Time, "", &note);
    bench.figures.declare(RATE, Unit::Throughput, "300 MB/s", "of the unpacked bytes; the same");
    bench.figures.declare(CACHED, Unit::Time, "`host` + 0.5 ms", "default pool of blanks");
    let server = Server::start(bench.warren, &bench.scratch.join("images"), Pool::default())?;
    let mut client = server.client()?;
    let engines = bench.others.engines(bench.scratch);
    for _ in 0..bench.size.samples.div_ceil(40) {
        let took = cold(&mut client, &reference)?;
        bench.figures.time(COLD, took);
        let rate = bytes as f64 / took.as_secs_f64();
        bench.figures.add(RATE, Unit::Throughput, rate as u64);
        for engine in &engines {
            let (took, ()) = timed(|| {
                engine.pull(&reference)?;
                engine.run(&reference).map(drop)
            })?;
            bench.figures.time(&format!("{COLD}: {}, with /bin/true", engine.name), took);
            engine.remove_image(&reference)?;
        }
    }
    let layout = bench.scratch.join("layout");
    warren_test_registry::write_layout(&image, "1", &layout)?;
    drop(image); // some hundred megabytes that nothing below needs
    if let Err(error) = unpack_alone(&layout, bench.scratch, bench.figures) {
        bench.others.absent.push((UMOCI.to_owned(), format!("{error:#}")));
    }
    api::pull(&mut client, &reference)?;
    cached(&mut client, &reference, &engines, bench.size, bench.figures)
}

/// From nothing to the answer; the image is gone afterwards.
fn cold(client: &mut Client, reference: &str) -> Result<Duration> {
    let (took, id) = timed(|| api::create_from(client, Some(reference)))?;
    api::exec(client, &id, &["/bin/true"])?;
    api::destroy(client, &id)?;
    api::remove_image(client, reference)?;
    Ok(took)
}

fn cached(
    client: &mut Client,
    reference: &str,
    engines: &[Engine],
    size: Size,
    figures: &mut Figures,
) -> Result<()> {
    for engine in engines {
        engine.pull(reference)?;
    }
    for round in 0..size.samples {
        for (name, image) in [(CACHED, Some(reference)), (HOST, None)] {
            let (took, id) = timed(|| match image {
                Some(image) => api::create_from(client, Some(image)),
                None => api::create(client, Source::OnDemand).map(|(id, _)| id),
            })?;
            figures.time(name, took);
            api::destroy(client, &id)?;
            super::breathe();
        }
        for engine in engines.iter().filter(|_| round % 20 == 0) {
            let took = engine.run(reference)?;
            figures.time(&format!("cached large image, run /bin/true: {}", engine.name), took);
        }
    }
    engines.iter().try_for_each(|engine| engine.remove_image(reference))
}

fn unpack_alone(layout: &Path, scratch: &Path, figures: &mut Figures) -> Result<()> {
    let umoci = crate::others::installed("umoci")?;
    for round in 0..2 {
        let bundle = scratch.join(format!("umoci-{round}"));
        let (took, status) = timed(|| {
            let mut unpack = crate::others::command(&umoci);
            unpack.arg("unpack").arg("--image").arg(format!("{}:1", layout.display()));
            unpack.arg(&bundle).output().context("start umoci")
        })?;
        let errors = String::from_utf8_lossy(&status.stderr).into_owned();
        anyhow::ensure!(status.status.success(), "umoci: {}", errors.trim());
        figures.time(UMOCI, took);
        std::fs::remove_dir_all(&bundle)?;
    }
    Ok(())
}
