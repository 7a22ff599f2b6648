//! Single requests to a live sandbox, and the end of one.

use std::{fs, path::Path, time::Instant};

use anyhow::{Result, bail};

use super::Size;
use crate::{
    api::{self, Source},
    samples::{Figures, Unit, timed},
    server::{Server, pause},
};

/// Exec, ping, pause and resume, in turn, in one sandbox.
pub(super) fn in_a_live_one(server: &Server, size: Size, figures: &mut Figures) -> Result<()> {
    const EXEC: &str = "exec `/bin/true` in a live sandbox";
    const PING: &str = "agent ping";
    figures.declare(EXEC, Unit::Time, "1.1 ms", "");
    figures.declare(PING, Unit::Time, "0.15 ms", "stat of `/` through the API");
    figures.declare("pause", Unit::Time, "1 ms", "");
    figures.declare("resume", Unit::Time, "1 ms", "");
    let mut client = server.client()?;
    let (id, _) = api::create(&mut client, Source::OnDemand)?;
    for _ in 0..size.samples {
        figures.time(EXEC, timed(|| api::exec(&mut client, &id, &["/bin/true"]))?.0);
        figures.time(PING, timed(|| api::ping(&mut client, &id))?.0);
        for verb in ["pause", "resume"] {
            figures.time(verb, timed(|| api::act(&mut client, &id, verb))?.0);
        }
    }
    api::destroy(&mut client, &id)
}

/// Destroy: the answer, and then everything gone from the host.
pub(super) fn destroy(server: &Server, size: Size, figures: &mut Figures) -> Result<()> {
    const RETURNS: &str = "destroy returns";
    const GONE: &str = "destroy, all host objects gone";
    figures.declare(RETURNS, Unit::Time, "1 ms", "");
    figures.declare(GONE, Unit::Time, "20 ms", "its directory, its cgroups and its processes");
    let mut client = server.client()?;
    for _ in 0..size.samples.div_ceil(4) {
        let (id, _) = api::create(&mut client, Source::OnDemand)?;
        let processes = processes_in(&id);
        let start = Instant::now();
        api::destroy(&mut client, &id)?;
        figures.time(RETURNS, start.elapsed());
        while !is_gone(server, &id, &processes) {
            if start.elapsed().as_secs() > 10 {
                bail!("something of {id} is still there ten seconds after it was destroyed");
            }
            pause();
        }
        figures.time(GONE, start.elapsed());
    }
    Ok(())
}

fn is_gone(server: &Server, id: &str, processes: &[String]) -> bool {
    let directory = server.data.join("sandboxes").join(id);
    !directory.exists() && processes.iter().all(|process| !Path::new(process).exists())
}

/// The `/proc` directories of processes whose cgroup names the sandbox.
fn processes_in(id: &str) -> Vec<String> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let directories = processes.flatten().map(|entry| entry.path().display().to_string());
    let named = |directory: &String| {
        fs::read_to_string(format!("{directory}/cgroup")).is_ok_and(|text| text.contains(id))
    };
    directories.filter(named).collect()
}
