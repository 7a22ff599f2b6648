//! Docker: only where a daemon runs already. The benchmark starts none.

use std::{fs, path::Path, process::Stdio};

use anyhow::{Context as _, Result, bail};

use super::{bundle, command, installed, words};

/// The name of the image that the benchmark imports once.
const IMAGE: &str = "warren-bench:root";

/// The words that run the job, once the image is there.
pub(super) fn run(scratch: &Path) -> Result<Vec<String>> {
    let docker = installed("docker")?;
    let mut ask = command(&docker);
    ask.args(["version", "--format", "{{.Server.Version}}"]);
    let answer = ask.output().context("ask docker for its daemon")?;
    if !answer.status.success() {
        bail!("installed, but no daemon runs");
    }
    import(&docker, scratch)?;
    let docker = docker.display();
    Ok(words(&format!("{docker} run --rm --network none -v /usr:/usr:ro {IMAGE} /bin/true")))
}

/// Makes an image of the almost empty root; `/usr` is mounted.
fn import(docker: &Path, scratch: &Path) -> Result<()> {
    let root = bundle::root(&scratch.join("docker"))?;
    let archive = scratch.join("docker.tar");
    let mut tar = command("tar");
    tar.arg("-C").arg(&root).arg("-cf").arg(&archive).arg(".");
    if !tar.status().context("start tar")?.success() {
        bail!("tar failed on {}", root.display());
    }
    let mut import = command(docker);
    import.arg("import").arg(&archive).arg(IMAGE).stdout(Stdio::null());
    if !import.status().context("start docker import")?.success() {
        bail!("docker import failed");
    }
    fs::remove_file(&archive).context("remove the image's archive")
}
