//! Create and destroy for some seconds, by two clients on the same machine.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::Size;
use crate::{
    api::{self, Source},
    http::Client,
    samples::{Figures, Unit},
    server::Server,
};

const WINDOW: Duration = Duration::from_secs(5);

/// Pairs finished per second, in a few windows.
pub(super) fn run(server: &Server, _size: Size, figures: &mut Figures) -> Result<()> {
    const NAME: &str = "sustained create + destroy, 2 clients";
    figures.declare(NAME, Unit::Rate, "200 /s", "windows of 5 s");
    for _ in 0..3 {
        let clients = [server.client()?, server.client()?];
        let workers = clients.map(|client| thread::spawn(move || pairs(client)));
        let mut finished = 0;
        for worker in workers {
            finished += worker.join().ok().context("a client panicked")??;
        }
        figures.add(NAME, Unit::Rate, finished / WINDOW.as_secs());
    }
    Ok(())
}

fn pairs(mut client: Client) -> Result<u64> {
    let start = Instant::now();
    let mut finished = 0;
    while start.elapsed() < WINDOW {
        let (id, _) = api::create(&mut client, Source::OnDemand)?;
        api::destroy(&mut client, &id)?;
        finished += 1;
    }
    Ok(finished)
}
