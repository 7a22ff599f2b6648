//! `warren setup storage`

use std::{
    fs::{File, TryLockError},
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::ValueEnum;
use serde_json::json;
use warren_runtime::storage::backing::{self, BackingError, Filesystem, Made, Source, Wanted};

use crate::{
    background::{self, Record},
    commands::{Setup, block_on},
    config::{Config, Size},
    dirs::Dirs,
    error::{CliError, Kind},
    uninstall,
};

/// How many times its first size a pool may become where nobody says otherwise.
const GROWTH: u64 = 4;

/// Make a filesystem of our own for the files of sandboxes
///
/// On btrfs a snapshot costs the same whatever a sandbox holds; on xfs copies share their blocks;
/// on both disk limits are enforced, on xfs if the kernel has quotas for it. This makes such a filesystem in the file DATA_DIR/pool.img,
/// whose space is set aside at once and which grows when it is nearly full, or on a device. The
/// server mounts it at DATA_DIR/pool whenever it starts. Images, volumes, snapshots and stopped
/// sandboxes are moved into it: copied, compared, and only then removed from where they were. A
/// server in the background is ended for it; no sandbox may run meanwhile.
#[derive(clap::Args, Debug)]
pub(super) struct StorageArgs {
    /// How large it is at first; its blocks are taken from this machine at once
    #[arg(long, value_name = "SIZE", default_value = "20GiB")]
    size: Size,
    /// How large it may become; four times its size where this does not say
    #[arg(long, value_name = "SIZE")]
    max_size: Option<Size>,
    /// Use this device instead of a file, whole; one with something on it is refused
    #[arg(long, value_name = "DEVICE", conflicts_with_all = ["size", "max_size"])]
    device: Option<PathBuf>,
    /// Overwrite the filesystem or partitions that are on the device
    #[arg(long, requires = "device")]
    overwrite: bool,
    /// Which filesystem
    #[arg(long, value_name = "btrfs|xfs", default_value = "btrfs")]
    driver: Driver,
    /// Take it away again; what is in it is moved back first
    #[arg(long, conflicts_with_all = ["size", "max_size", "device", "driver"])]
    remove: bool,
    /// Ask nothing: a device is used; with --remove a pool is given up that cannot be
    /// mounted any more, with all that was in it
    #[arg(long, short)]
    yes: bool,
}

/// [`Filesystem`], as a flag.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Driver {
    /// Snapshots of constant cost.
    Btrfs,
    /// Copies share their blocks.
    Xfs,
}

pub(super) fn storage(
    setup: &Setup<'_>,
    args: &StorageArgs,
    config: &Config,
) -> Result<ExitCode, CliError> {
    if !rustix::process::geteuid().is_root() {
        return Err(refusal(BackingError::NotRoot));
    }
    let dirs =
        Dirs::open(config, setup.environment).map_err(|error| CliError::new(Kind::Local, error))?;
    if args.device.is_some() && !args.yes && !confirmed(setup, args)? {
        setup.output.talk("nothing was changed");
        return Ok(ExitCode::FAILURE);
    }
    let _locks = without_server(&dirs)?;
    if args.remove {
        backing::remove(&dirs.data, args.yes).map_err(refusal)?;
        if setup.output.json {
            setup.output.value(&json!({ "directory": dirs.data }))?;
        } else {
            setup.output.talk("the storage pool is gone; what was in it is in the data directory");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let made = backing::make(&dirs.data, &wanted(args)).map_err(refusal)?;
    report(setup, &made)
}

fn wanted(args: &StorageArgs) -> Wanted {
    Wanted {
        filesystem: match args.driver {
            Driver::Btrfs => Filesystem::Btrfs,
            Driver::Xfs => Filesystem::Xfs,
        },
        source: args.device.clone().map_or(Source::File, Source::Device),
        size_bytes: args.size.0,
        most_bytes: args.max_size.map_or(args.size.0.saturating_mul(GROWTH), |most| most.0),
        force: args.overwrite,
    }
}

fn report(setup: &Setup<'_>, made: &Made) -> Result<ExitCode, CliError> {
    let Made { backing: made, moved } = made;
    let (place, filesystem) = (made.place(), made.filesystem);
    let source = match &made.source {
        Source::File => made.file().unwrap_or_default(),
        Source::Device(path) => path.clone(),
    };
    if setup.output.json {
        setup.output.value(&json!({
            "directory": place,
            "driver": filesystem.name(),
            "source": source,
            "most_bytes": made.most_bytes,
            "disk_limits": made.limits(),
            "moved": moved,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let talk = |text: &str| setup.output.talk(text);
    talk(&format!("{} in {}, mounted at {}", filesystem.name(), source.display(), place.display()));
    if !moved.is_empty() {
        talk(&format!("moved into it: {}", moved.join(", ")));
    }
    if made.source == Source::File {
        talk(&format!("it grows up to {} while this machine has room", Size(made.most_bytes)));
    }
    match filesystem {
        Filesystem::Btrfs => talk("snapshots cost the same whatever a sandbox holds"),
        Filesystem::Xfs => talk("copies share their blocks"),
    }
    talk(match made.limits() {
        true => "disk limits work",
        false => "disk limits do not work: this kernel has no quotas for it",
    });
    Ok(ExitCode::SUCCESS)
}

/// Asks whether a device may be overwritten.
fn confirmed(setup: &Setup<'_>, args: &StorageArgs) -> Result<bool, CliError> {
    let device = args.device.as_ref().map(|it| it.display().to_string()).unwrap_or_default();
    let text = format!("everything on {device} will be lost");
    if !io::stdin().is_terminal() {
        let error = CliError::usage(format!("{text}, and nobody can be asked"));
        return Err(error.hint("`--yes` says that this is meant"));
    }
    setup.output.warn(&text);
    setup.output.line("go on? [y/N]")?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(CliError::local("read the answer"))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Ends a server in the background, and keeps the next one from starting while the locks are held.
fn without_server(dirs: &Dirs) -> Result<[File; 2], CliError> {
    let lock = background::lock_file(&dirs.lock()).map_err(CliError::local("open the lock"))?;
    if let Err(TryLockError::WouldBlock) = lock.try_lock() {
        if !Record::read(dirs).is_some_and(|record| record.background) {
            return Err(CliError::new(Kind::Local, "a server runs, and would lose its files")
                .hint("end it first: `warren serve --stop`, or `systemctl stop warren`"));
        }
        block_on(background::stop(dirs))??;
    }
    drop(lock);
    uninstall::locks(dirs)
}

fn refusal(error: BackingError) -> CliError {
    let hints = hints(&error);
    CliError::new(Kind::Local, error).hints(hints)
}

/// What helps against a pool that cannot be made or used.
pub(crate) fn hints(error: &BackingError) -> Vec<String> {
    let hints: &[&str] = match error {
        BackingError::NotRoot => &[
            "`sudo warren setup storage` makes one for root's server",
            "an ordinary user's data directory may itself be on btrfs or xfs: WARREN_DATA_DIR",
        ],
        BackingError::Running { .. } => {
            &["`warren stop SANDBOX` ends one and keeps its files, which are moved"]
        }
        BackingError::DoesNotFit => &["a larger --size, or more room where it goes"],
        BackingError::Unlimited { .. } => {
            &["`warren volume resize VOLUME none` takes the limit of a volume back; a stopped \
             sandbox with a limit can be saved with `warren snapshot` and removed"]
        }
        BackingError::Written { .. } => &["`--overwrite` says that it is to be lost"],
        BackingError::Gone { .. } | BackingError::Mistaken { .. } | BackingError::Mount { .. } => {
            &[
                "put it back where it was, and see `dmesg` for what the kernel says",
                "`warren setup storage --remove --yes` gives it up with all that was in it",
            ]
        }
        BackingError::NoRoom { .. } => &["a smaller --size, or a --device"],
        BackingError::NoTool { package, .. } => {
            return vec![format!(
                "install the package `{package}`: sudo apt-get install {package}"
            )];
        }
        BackingError::Exists { .. } => &["`warren setup storage --remove` takes it away first"],
        BackingError::Occupied { .. } => &["umount it"],
        BackingError::Record { .. } => {
            &["put the file right, or remove it if there never was a pool"]
        }
        _ => &[],
    };
    hints.iter().map(|hint| (*hint).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_may_become_four_times_as_large_unless_told() {
        let args = |max_size| StorageArgs {
            size: Size(1 << 30),
            max_size,
            device: None,
            driver: Driver::Btrfs,
            overwrite: false,
            remove: false,
            yes: false,
        };
        assert_eq!(wanted(&args(None)).most_bytes, 4 << 30);
        assert_eq!(wanted(&args(Some(Size(2 << 30)))).most_bytes, 2 << 30);
        let device = StorageArgs { device: Some("/dev/x".into()), ..args(None) };
        assert_eq!(wanted(&device).source, Source::Device("/dev/x".into()));
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = BackingError::NoTool { program: "mkfs.xfs".into(), package: "xfsprogs" };
        assert!(hints(&error).concat().contains("xfsprogs"));
        assert!(hints(&BackingError::NotRoot).concat().contains("sudo"));
    }
}
