//! Single requests to a live sandbox, and the end of one.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

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
    figures.declare(GONE, Unit::Time, "20 ms", "its process, interface and files");
    let mut client = server.client()?;
    for _ in 0..size.samples.div_ceil(4) {
        let (id, _) = api::create(&mut client, Source::OnDemand)?;
        let guest = Guest::of(server, &id)?;
        let start = Instant::now();
        api::destroy(&mut client, &id)?;
        figures.time(RETURNS, start.elapsed());
        while !guest.is_gone(server, &id) {
            if start.elapsed().as_secs() > 10 {
                bail!("something of {id} is still there ten seconds after it was destroyed");
            }
            pause();
        }
        figures.time(GONE, start.elapsed());
    }
    Ok(())
}

/// What a sandbox has on the host, from its journal entry.
struct Guest {
    slot: String,
    process: PathBuf,
}

impl Guest {
    fn of(server: &Server, id: &str) -> Result<Self> {
        let path = server.data.join("sandboxes").join(id).join("guest");
        let record =
            fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let field = |name: &str| {
            let found = record.lines().find_map(|line| line.strip_prefix(name));
            found.with_context(|| format!("no {name}in the journal entry of {id}"))
        };
        let process = Path::new("/proc").join(field("pid ")?);
        Ok(Self { slot: field("slot ")?.to_owned(), process })
    }

    fn is_gone(&self, server: &Server, id: &str) -> bool {
        let interface = Path::new("/sys/class/net").join(format!("wrn{}", self.slot));
        let trash = fs::read_dir(server.data.join("trash")).into_iter().flatten().flatten();
        let mut names = trash.map(|entry| entry.file_name().to_string_lossy().into_owned());
        !self.process.exists()
            && !server.data.join("sandboxes").join(id).exists()
            && !interface.exists()
            && !names.any(|name| name.starts_with(id))
    }
}
