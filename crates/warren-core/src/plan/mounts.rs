//! Which directories of the host a sandbox may see.

use std::path::{Component, Path};

use super::refuse;
use crate::{
    caller::Caller,
    config::AllowedDirectory,
    error::SandboxError,
    sandbox::WantedMount,
    spec::{Grant, HostDirectory},
};

/// How many a sandbox may have.
const MOST: usize = 8;

/// How many it may have with volumes: each is a descriptor of one message to the guest.
const MOST_TOGETHER: usize = 10;

/// How long a place inside may be in bytes.
const TARGET_BYTES: usize = 200;

/// What is the sandbox's own, whatever is wanted.
const OWN: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Checks what is wanted, and says why it may be had.
///
/// # Errors
///
/// [`SandboxError::Invalid`] for what can never be; [`SandboxError::Denied`] for a caller from afar
/// and a directory that the operator does not give to everybody.
pub(crate) fn grant(
    wanted: Vec<WantedMount>,
    caller: &Caller,
    allowed: &[AllowedDirectory],
) -> Result<Vec<HostDirectory>, SandboxError> {
    if wanted.len() > MOST {
        return refuse("mounts", &format!("at most {MOST} are possible"));
    }
    for (index, mount) in wanted.iter().enumerate() {
        check_target("mounts", &mount.target)?;
        if wanted.iter().take(index).any(|it| it.target == mount.target) {
            return refuse("mounts", &format!("two go to {}", mount.target));
        }
    }
    wanted.into_iter().map(|mount| grant_one(mount, caller, allowed)).collect()
}

fn grant_one(
    wanted: WantedMount,
    caller: &Caller,
    allowed: &[AllowedDirectory],
) -> Result<HostDirectory, SandboxError> {
    let WantedMount { source, target, read_only } = wanted;
    if !is_clean(&source) {
        let expected = "expected an absolute path of the server's machine without `..`";
        return refuse("mounts", &format!("{}: {expected}", source.display()));
    }
    let given = allowed.iter().find(|it| source.starts_with(&it.path));
    let grant = match given {
        Some(it) if it.read_only && !read_only && !caller.is_host() => {
            let reason = format!("{} may be mounted read-only", source.display());
            return refuse("mounts", &reason);
        }
        // Who owns a directory may have more of it than everybody.
        Some(it) if !it.read_only || read_only => Grant::Beneath(it.path.clone()),
        _ if caller.is_host() => Grant::Owner,
        _ => return Err(SandboxError::Denied { operation: "mount directories of this machine" }),
    };
    Ok(HostDirectory { source, target, read_only, grant })
}

fn is_clean(path: &Path) -> bool {
    let mut components = path.components();
    components.next() == Some(Component::RootDir)
        && components.all(|it| matches!(it, Component::Normal(_)))
        && path.as_os_str().len() <= 4096
        && !path.as_os_str().as_encoded_bytes().contains(&0)
}

/// Checks the places of volumes, beside those of directories of the host.
///
/// # Errors
///
/// [`SandboxError::Invalid`].
pub(crate) fn check_volume_targets(
    mounts: &[HostDirectory],
    targets: &[&str],
) -> Result<(), SandboxError> {
    if targets.len() + mounts.len() > MOST_TOGETHER {
        let reason = format!("at most {MOST_TOGETHER} are possible, with mounts");
        return Err(SandboxError::invalid("volumes", reason));
    }
    for (index, target) in targets.iter().enumerate() {
        check_target("volumes", target)?;
        let before = targets.iter().take(index);
        if before
            .chain(&mounts.iter().map(|it| it.target.as_str()).collect::<Vec<_>>())
            .any(|it| it == target)
        {
            return Err(SandboxError::invalid("volumes", format!("two go to {target}")));
        }
    }
    Ok(())
}

fn check_target(field: &'static str, target: &str) -> Result<(), SandboxError> {
    let path = Path::new(target);
    if !is_clean(path) || path == Path::new("/") || target.len() > TARGET_BYTES {
        let expected = format!(
            "`{target}` is no place inside: expected an absolute path below / without `..`, at \
             most {TARGET_BYTES} bytes"
        );
        return refuse(field, &expected);
    }
    match OWN.iter().find(|own| path.starts_with(own)) {
        Some(own) => refuse(field, &format!("nothing can be mounted at or below {own}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::Owner;

    fn mount(source: &str, target: &str, read_only: bool) -> WantedMount {
        WantedMount { source: source.into(), target: target.into(), read_only }
    }

    fn allowed() -> Vec<AllowedDirectory> {
        vec![
            AllowedDirectory { path: "/srv/data".into(), read_only: true },
            AllowedDirectory { path: "/srv/scratch".into(), read_only: false },
        ]
    }

    fn outcome(caller: &Caller, wanted: WantedMount) -> String {
        match grant(vec![wanted], caller, &allowed()) {
            Ok(granted) => format!("{:?}", granted[0].grant),
            Err(SandboxError::Denied { .. }) => "denied".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_caller_from_afar_gets_what_the_operator_gives() {
        let caller = Caller::remote(Owner::new("someone"));
        let check = |wanted, expected: &str| assert_eq!(outcome(&caller, wanted), expected);
        check(mount("/srv/scratch/a", "/a", false), "Beneath(\"/srv/scratch\")");
        check(mount("/srv/data", "/a", true), "Beneath(\"/srv/data\")");
        check(mount("/srv/data", "/a", false), "mounts: /srv/data may be mounted read-only");
        check(mount("/srv/database", "/a", true), "denied");
        check(mount("/etc", "/a", true), "denied");
        assert!(
            outcome(&caller, mount("/srv/data/../../etc", "/a", true)).contains("without `..`")
        );
    }

    #[test]
    fn a_caller_on_this_host_gets_what_is_its_own() {
        let caller = Caller::local();
        assert_eq!(outcome(&caller, mount("/home/x", "/a", false)), "Owner");
        assert_eq!(outcome(&caller, mount("/srv/data", "/a", false)), "Owner");
        assert_eq!(outcome(&caller, mount("/srv/data", "/a", true)), "Beneath(\"/srv/data\")");
    }

    #[test]
    fn places_inside_are_checked() {
        let caller = Caller::local();
        for target in ["", "/", "work", "/a/../b", "/proc/x", "/dev", "/sys/fs"] {
            let error = outcome(&caller, mount("/home/x", target, false));
            assert!(error.starts_with("mounts: "), "{target}: {error}");
        }
        let twice = vec![mount("/x", "/a", true), mount("/y", "/a", true)];
        let error = grant(twice, &caller, &[]).unwrap_err().to_string();
        assert_eq!(error, "mounts: two go to /a");
        let many = (0..9).map(|it| mount("/x", &format!("/{it}"), true)).collect();
        assert!(grant(many, &caller, &[]).is_err());
    }
}
