//! A hundred creates at once.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::{
    api::{self, Source},
    http::Client,
    samples::{Figures, Unit},
    server::{Server, pause},
};

const CREATES: usize = 100;
const ROUNDS: usize = 7;

/// Each create on a connection of its own; from the first byte written to the last answer read.
pub(super) fn run(server: &Server, name: &str, blanks: u32, figures: &mut Figures) -> Result<()> {
    let target = if blanks == 0 { "450 ms" } else { "250 ms" };
    let name = format!("{CREATES} creates at once, {name}");
    figures.declare(&name, Unit::Time, target, "all answered; a connection each");
    let body = api::create_body(Source::OnDemand);
    for _ in 0..ROUNDS {
        settle();
        let first = server.client()?;
        let mut clients: Vec<Client> =
            (0..CREATES).map(|_| first.another()).collect::<Result<_>>()?;
        let start = Instant::now();
        for client in &mut clients {
            client.write("POST", "/v1/sandboxes", &body)?;
        }
        let mut answers = Vec::with_capacity(CREATES);
        for client in &mut clients {
            answers.push(client.read()?);
        }
        figures.time(&name, start.elapsed());
        for (client, answer) in clients.iter_mut().zip(&answers) {
            let (id, _) = api::created(&answer.json().context("a create in a burst")?)?;
            api::destroy(client, &id)?;
        }
    }
    Ok(())
}

/// Gives the server time to remove what was and to fill its pool: it is not told how far it is.
fn settle() {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        pause();
    }
}
