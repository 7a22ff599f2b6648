//! A large file in and out.

use anyhow::{Result, ensure};

use super::Size;
use crate::{
    api::{self, Source},
    samples::{Figures, Unit, timed},
    server::Server,
};

const BYTES: usize = 100_000_000;

/// Writes and reads the same 100 MB some times, through the files API on the unix socket.
pub(super) fn run(server: &Server, size: Size, figures: &mut Figures) -> Result<()> {
    const IN: &str = "100 MB file in";
    const OUT: &str = "100 MB file out";
    figures.declare(IN, Unit::Throughput, "400 MB/s", "HTTP, unix socket");
    figures.declare(OUT, Unit::Throughput, "400 MB/s", "HTTP, unix socket");
    let mut client = server.client()?;
    let (id, _) = api::create(&mut client, Source::OnDemand)?;
    let path = format!("/v1/sandboxes/{id}/files?path=/home/user/large");
    let content: Vec<u8> = (0..BYTES).map(|index| (index % 251) as u8).collect();
    for _ in 0..size.samples.div_ceil(20) {
        let (took, ()) = timed(|| client.send("PUT", &path, &content)?.good())?;
        figures.add(IN, Unit::Throughput, rate(took));
        let (took, answer) = timed(|| client.send("GET", &path, b""))?;
        figures.add(OUT, Unit::Throughput, rate(took));
        ensure!(answer.body == content, "the file came back different");
    }
    api::destroy(&mut client, &id)
}

fn rate(took: std::time::Duration) -> u64 {
    (BYTES as f64 / took.as_secs_f64()) as u64
}
