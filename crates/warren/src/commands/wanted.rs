//! The flags that describe a new sandbox, shared by the commands that make one.

use std::{collections::BTreeMap, path::Path};

use clap::ValueEnum;
use warren_api::sandbox::{CreateSandbox, OnDeadline, Profile};

use super::{
    Context, credential::GivenArgs, exposed::ExposedArgs, git::GitArgs, mounts, reach::ReachArgs,
    volume,
};
use crate::{
    config::{Cpus, Lasting, Size},
    error::CliError,
};

/// What the sandbox is to be.
#[derive(clap::Args, Debug, Default)]
#[command(next_help_heading = "Sandbox")]
pub(crate) struct WantedArgs {
    /// What the root filesystem is made from: `host`, `dir:PATH`, `tar:PATH`, or an image of a
    /// registry such as `python:3.12`, which is pulled where it is not there
    #[arg(long)]
    image: Option<String>,
    /// The snapshot that it is made from in place of an image
    #[arg(long, value_name = "SNAPSHOT", conflicts_with = "image")]
    snapshot: Option<String>,
    /// The template that it is made from instead: `NAME[:TAG]`
    #[arg(long, value_name = "NAME[:TAG]", conflicts_with_all = ["image", "snapshot"])]
    template: Option<String>,
    /// A name for it, by which every command finds it
    #[arg(long)]
    name: Option<String>,
    /// A label to find it by; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// How many processor cores it may use, such as `1.5`
    #[arg(long, value_name = "CORES")]
    cpus: Option<Cpus>,
    /// How much memory it may use, such as `512MiB`
    #[arg(long, value_name = "SIZE")]
    memory: Option<Size>,
    /// How many processes and threads it may have
    #[arg(long, value_name = "NUMBER")]
    pids: Option<u32>,
    /// How many files one process may have open
    #[arg(long, value_name = "NUMBER")]
    open_files: Option<u32>,
    /// How much it may write to its root filesystem, such as `10GiB`; needs storage with limits
    #[arg(long, value_name = "SIZE")]
    disk: Option<Size>,
    /// How long it lives at most, such as `10m`; `0` for no limit
    #[arg(long, value_name = "DURATION")]
    ttl: Option<Lasting>,
    /// What happens at the end of that: removed, frozen, or stopped with its files kept
    #[arg(long, value_name = "kill|pause|stop")]
    on_deadline: Option<OnDeadlineArg>,
    /// A directory of this machine to see inside, by default at `/workspace`; may be repeated
    #[arg(long = "mount", value_name = "SRC[:DST][:ro]")]
    mounts: Vec<String>,
    /// A volume to see inside; may be repeated
    #[arg(long = "volume", value_name = "NAME:PATH[:ro]")]
    volumes: Vec<String>,
    #[command(flatten)]
    reach: ReachArgs,
    #[command(flatten)]
    exposed: ExposedArgs,
    #[command(flatten)]
    given: GivenArgs,
    #[command(flatten)]
    git: GitArgs,
    /// How much its root may do
    #[arg(long, value_name = "default|strict")]
    profile: Option<ProfileArg>,
    /// The name it sees as its own
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// Make it now instead of taking one from the warm pool
    #[arg(long)]
    cold: bool,
}

/// [`OnDeadline`], as a flag.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnDeadlineArg {
    /// Removed.
    Kill,
    /// Frozen.
    Pause,
    /// Stopped, with its files kept.
    Stop,
}

/// [`Profile`], as a flag.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum ProfileArg {
    /// `sudo` works.
    Default,
    /// Never root.
    Strict,
}

impl From<ProfileArg> for Profile {
    fn from(profile: ProfileArg) -> Self {
        match profile {
            ProfileArg::Default => Self::Default,
            ProfileArg::Strict => Self::Strict,
        }
    }
}

impl WantedArgs {
    /// The request that these flags describe.
    pub(crate) fn request(self, cx: &Context<'_>) -> Result<CreateSandbox, CliError> {
        let mut request = CreateSandbox {
            image: self.image.map(|image| image_text(&image, cx.is_local())).transpose()?,
            snapshot: self.snapshot,
            template: self.template,
            name: self.name,
            labels: pairs("--label", &self.labels)?,
            cpu_millis: self.cpus.map(|cpus| cpus.0),
            memory_bytes: self.memory.map(|memory| memory.0),
            pids: self.pids,
            open_files: self.open_files,
            lifetime_seconds: self.ttl.map(|ttl| whole_seconds(ttl.0)),
            on_deadline: self.on_deadline.map(|action| match action {
                OnDeadlineArg::Kill => OnDeadline::Kill,
                OnDeadlineArg::Pause => OnDeadline::Pause,
                OnDeadlineArg::Stop => OnDeadline::Stop,
            }),
            mounts: self
                .mounts
                .iter()
                .map(|text| mounts::mount(text, cx.is_local()))
                .collect::<Result<_, _>>()?,
            disk_bytes: self.disk.map(|disk| disk.0),
            volumes: self
                .volumes
                .iter()
                .map(|text| volume::mount(text))
                .collect::<Result<_, _>>()?,
            network: self.reach.network()?,
            credentials: self.given.credentials()?,
            git: self.git.request(cx.environment)?,
            profile: self.profile.map(Profile::from),
            hostname: self.hostname,
            warm: self.cold.then_some(false),
            ..CreateSandbox::default()
        };
        self.exposed.describe(&mut request);
        Ok(request)
    }
}

/// Rounds up: a lifetime of half a second must not become one without limit.
pub(crate) fn whole_seconds(length: std::time::Duration) -> u64 {
    length.as_secs() + u64::from(length.subsec_nanos() > 0)
}

/// The server has another working directory: paths are sent absolute. A named server may have
/// other files altogether.
pub(super) fn image_text(image: &str, local: bool) -> Result<String, CliError> {
    for kind in ["dir:", "tar:"] {
        if let Some(path) = image.strip_prefix(kind) {
            if !local && !path.starts_with('/') {
                return Err(CliError::usage(format!(
                    "`--image {image}`: expected an absolute path of the server's machine"
                )));
            }
            let path = std::path::absolute(Path::new(path))
                .map_err(CliError::local("find the image's absolute path"))?;
            return Ok(format!("{kind}{}", path.display()));
        }
    }
    Ok(image.to_owned())
}

/// Takes `KEY=VALUE` texts apart.
pub(crate) fn pairs(flag: &str, texts: &[String]) -> Result<BTreeMap<String, String>, CliError> {
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(CliError::usage(format!("`{flag} {text}`: expected KEY=VALUE"))),
    };
    texts.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_image_is_sent_absolute() {
        let sent = image_text("dir:root", true).unwrap();
        assert!(sent.starts_with("dir:/") && sent.ends_with("/root"), "{sent}");
        assert_eq!(image_text("host", false).unwrap(), "host");
        assert_eq!(image_text("tar:/a", false).unwrap(), "tar:/a");
        assert!(image_text("dir:root", false).is_err());
    }

    #[test]
    fn a_pair_has_two_sides() {
        let error = pairs("--label", &["x".to_owned()]).unwrap_err();
        assert_eq!(error.source.to_string(), "`--label x`: expected KEY=VALUE");
        assert!(pairs("--label", &["=x".to_owned()]).is_err());
    }

    #[test]
    fn a_short_lifetime_is_not_none() {
        assert_eq!(whole_seconds(std::time::Duration::from_millis(500)), 1);
        assert_eq!(whole_seconds(std::time::Duration::from_secs(2)), 2);
    }
}
