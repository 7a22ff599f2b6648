//! An OCI bundle around the host's `/usr`, for crun, runc and runsc.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{MERGED, in_private_mounts, is_hybrid, words};

/// The words that run a bundle with this tool.
pub(super) fn run(name: &str, program: &Path, scratch: &Path) -> Result<Vec<String>> {
    let bundle = scratch.join(name);
    root(&bundle)?;
    fs::write(bundle.join("config.json"), configuration().to_string())?;
    let (program, bundle) = (program.display(), bundle.display());
    Ok(match name {
        // crun refuses a machine that has both generations of cgroups.
        "crun" if is_hybrid() => {
            in_private_mounts(&format!("exec {program} run -b {bundle} {{id}}"))
        }
        "runsc" => words(&format!("{program} --network=none run -bundle {bundle} {{id}}")),
        _ => words(&format!("{program} run -b {bundle} {{id}}")),
    })
}

/// An almost empty root: mount points, and the links that point into `/usr`.
pub(super) fn root(bundle: &Path) -> Result<PathBuf> {
    let root = bundle.join("rootfs");
    for directory in ["usr", "proc", "dev", "sys", "tmp", "etc", "run", "var"] {
        let path = root.join(directory);
        fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
    }
    for name in MERGED {
        let (link, target) = (root.join(name), format!("usr/{name}"));
        if Path::new("/").join(&target).is_dir() && !link.is_symlink() {
            symlink(target, link)?;
        }
    }
    Ok(root)
}

/// What `spec` of these tools writes, with `/bin/true`, no terminal, and `/usr` from the host.
fn configuration() -> Value {
    let capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let mount = |to: &str, kind: &str, from: &str, options: &[&str]| json!({"destination": to, "type": kind, "source": from, "options": options});
    let namespaces = ["pid", "network", "ipc", "uts", "mount"].map(|kind| json!({"type": kind}));
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/true"],
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "bench",
        "mounts": [
            mount("/proc", "proc", "proc", &[]),
            mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "mode=0620"]),
            mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "size=65536k"]),
            mount("/usr", "bind", "/usr", &["rbind", "ro"]),
            mount("/tmp", "tmpfs", "tmpfs", &["nosuid", "nodev"]),
        ],
        "linux": {"namespaces": namespaces, "resources": {"devices": [{"allow": false, "access": "rwm"}]}},
    })
}
