//! From what is wanted to what will be made: defaults filled in, every value checked.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use crate::{
    caller::Caller,
    config::{Config, Defaults},
    credentials::Credentials,
    error::SandboxError,
    exposure::Exposure,
    sandbox::{History, Lifetime, Program, Setup, Wanted},
    sandboxes::credentials::Place,
    spec::{Image, Limits, Network, OciImage, Profile, Spec},
};

mod mounts;

pub(crate) use mounts::check_volume_targets;

/// A sandbox that can be made.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) name: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) spec: Spec,
    pub(crate) setup: Setup,
    pub(crate) lifetime: Lifetime,
    pub(crate) history: History,
    pub(crate) program: Program,
    pub(crate) credentials: Credentials,
    pub(crate) exposure: Exposure,
}

impl Plan {
    /// Checks a request and completes it.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Invalid`] for the first field that cannot be right.
    pub(crate) fn new(
        wanted: Wanted,
        base: Base,
        caller: &Caller,
        config: &Config,
    ) -> Result<Self, SandboxError> {
        let defaults = &config.defaults;
        check_name(wanted.name.as_deref())?;
        check_labels(&wanted.labels)?;
        check_env("env", &wanted.env)?;
        let user = wanted.user.or(base.user).unwrap_or_else(|| defaults.user.clone());
        check_user("user", &user)?;
        let workdir = wanted.workdir.or(base.workdir).or_else(|| defaults.workdir.clone());
        let workdir = workdir.unwrap_or_else(|| home(&user));
        check_absolute("workdir", &workdir)?;
        let length = lifetime(wanted.lifetime, defaults)?;
        if let Some(hostname) = &wanted.hostname {
            check_hostname(hostname)?;
        }
        wanted.exposure.check()?;
        let mut env = base.env.clone();
        env.extend(wanted.env);
        let based = base.limits.as_ref().unwrap_or(&defaults.limits);
        let limits = Limits {
            memory_bytes: wanted.memory_bytes.unwrap_or(based.memory_bytes),
            cpu_millis: wanted.cpu_millis.unwrap_or(based.cpu_millis),
            pids: wanted.pids.unwrap_or(based.pids),
            open_files: wanted.open_files.unwrap_or(based.open_files),
            disk_bytes: wanted.disk_bytes.or(based.disk_bytes),
        };
        check_limits(&limits, defaults.most_memory)?;
        let mounts = mounts::grant(wanted.mounts, caller, &config.mounts)?;
        let profile = wanted.profile.or(base.profile).unwrap_or(defaults.profile);
        if !wanted.credentials.rules.is_empty() {
            for (name, path) in Place::of(profile).variables() {
                env.entry(name).or_insert(path);
            }
        }
        Ok(Self {
            name: wanted.name,
            labels: wanted.labels,
            spec: Spec {
                image: base.image,
                limits,
                profile,
                network: network(wanted.network.or(base.network), defaults)?,
                hostname: wanted.hostname,
                mounts,
                volumes: Vec::new(),
            },
            setup: Setup { env, image_env: base.env, user, workdir },
            lifetime: Lifetime {
                length,
                action: wanted.on_deadline.unwrap_or(defaults.on_deadline),
            },
            history: base.history,
            program: base.program,
            credentials: wanted.credentials,
            exposure: wanted.exposure,
        })
    }
}

/// What a sandbox may reach; a policy is checked wherever it comes from.
fn network(wanted: Option<Network>, defaults: &Defaults) -> Result<Network, SandboxError> {
    let network = wanted.unwrap_or_else(|| defaults.network.clone());
    check_network(&network)?;
    Ok(network)
}

/// Refuses a policy that cannot be meant.
pub(crate) fn check_network(network: &Network) -> Result<(), SandboxError> {
    match network {
        Network::Rules(egress) => {
            egress.check().map_err(|reason| SandboxError::invalid("network", reason))
        }
        Network::Open | Network::None => Ok(()),
    }
}

/// What a sandbox gets from what it is made from, where its request does not say.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    /// What its root filesystem is made from, ready to be mounted.
    pub(crate) image: Image,
    /// Environment that comes with the image.
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) user: Option<String>,
    pub(crate) workdir: Option<String>,
    pub(crate) limits: Option<Limits>,
    pub(crate) profile: Option<Profile>,
    pub(crate) network: Option<Network>,
    pub(crate) history: History,
    pub(crate) program: Program,
}

impl Base {
    /// An image of the store, which says itself what commands in it get.
    pub(crate) fn pulled(image: &crate::images::Image, reference: String) -> Self {
        let config = &image.config;
        let id = Some(image.id.to_string());
        Self {
            env: config.env.clone(),
            user: Some(config.user.clone().unwrap_or_else(|| "root".to_owned())),
            workdir: Some(config.workdir.clone().unwrap_or_else(|| "/".to_owned())),
            ..Self::plain(Image::Oci(OciImage { reference, id }))
        }
    }

    /// An image about which nothing more is known.
    pub(crate) fn plain(image: Image) -> Self {
        Self {
            image,
            env: BTreeMap::new(),
            user: None,
            workdir: None,
            limits: None,
            profile: None,
            network: None,
            history: History::default(),
            program: Program::default(),
        }
    }
}

/// A number that two equal requests share, for telling a repetition from another request.
pub(crate) fn fingerprint(wanted: &Wanted) -> u64 {
    let mut hasher = DefaultHasher::new();
    wanted.hash(&mut hasher);
    hasher.finish()
}

/// The home that the images of this product give a user.
pub(crate) fn home(user: &str) -> String {
    if user == "root" { "/root".to_owned() } else { format!("/home/{user}") }
}

pub(crate) fn check_name(name: Option<&str>) -> Result<(), SandboxError> {
    let Some(name) = name else { return Ok(()) };
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut bytes = name.bytes();
    let good = name.len() <= 63
        && bytes.next().is_some_and(letter)
        && bytes.all(|byte| letter(byte) || b"._-".contains(&byte));
    if !good {
        return refuse("name", "expected [a-z0-9][a-z0-9._-]{0,62}");
    }
    if name.parse::<crate::id::SandboxId>().is_ok() {
        return refuse("name", "must not look like the id of a sandbox");
    }
    Ok(())
}

pub(crate) fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), SandboxError> {
    if labels.len() > 64 {
        return refuse("labels", "at most 64 are allowed");
    }
    for (key, value) in labels {
        if key.is_empty() || key.len() > 128 || key.contains(['=', '\0']) {
            return refuse("labels", "a key has 1 to 128 bytes and no `=`");
        }
        if value.len() > 1024 || value.contains('\0') {
            return refuse("labels", "a value has at most 1024 bytes");
        }
    }
    Ok(())
}

/// Checks an environment: of a sandbox or of one command.
pub(crate) fn check_env(
    field: &'static str,
    env: &BTreeMap<String, String>,
) -> Result<(), SandboxError> {
    let mut bytes = 0;
    for (name, value) in env {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return refuse(field, "a name is not empty and has no `=`; no NUL anywhere");
        }
        bytes += name.len() + value.len() + 2;
    }
    if bytes > 64 << 10 {
        return refuse(field, "at most 64 KiB are allowed in all");
    }
    Ok(())
}

/// Checks the form of a user's name; whether there is one, the guest knows.
pub(crate) fn check_user(field: &'static str, user: &str) -> Result<(), SandboxError> {
    // Images also name users by number, and with a group behind a colon.
    let good = |part: &str| {
        (1..=32).contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    let (name, group) = user.split_once(':').unwrap_or((user, "0"));
    match good(name) && good(group) {
        true => Ok(()),
        false => refuse(field, "expected the name or number of a user, 1 to 32 letters"),
    }
}

/// Checks a path that must not depend on where it is read from.
pub(crate) fn check_absolute(field: &'static str, path: &str) -> Result<(), SandboxError> {
    if path.starts_with('/') && path.len() <= 4096 && !path.contains('\0') {
        Ok(())
    } else {
        refuse(field, "expected an absolute path of at most 4096 bytes")
    }
}

fn check_hostname(hostname: &str) -> Result<(), SandboxError> {
    let good = (1..=63).contains(&hostname.len())
        && hostname.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !hostname.starts_with('-')
        && !hostname.ends_with('-');
    if good { Ok(()) } else { refuse("hostname", "expected 1 to 63 letters, digits and hyphens") }
}

pub(crate) fn check_image(image: &Image) -> Result<(), SandboxError> {
    match image {
        Image::Host => Ok(()),
        Image::Directory(path) | Image::Archive(path) if path.is_absolute() => Ok(()),
        Image::Directory(_) | Image::Archive(_) => refuse("image", "expected an absolute path"),
        Image::Oci(OciImage { reference, .. }) if reference.is_empty() || reference.len() > 512 => {
            refuse("image", "expected `host`, `dir:PATH`, `tar:PATH` or an OCI reference")
        }
        Image::Oci(_) | Image::Snapshot(_) => Ok(()),
    }
}

pub(crate) fn check_limits(limits: &Limits, most_memory: Option<u64>) -> Result<(), SandboxError> {
    if let Some(most) = most_memory.filter(|most| limits.memory_bytes > *most) {
        return refuse("memory_bytes", &format!("at most {most} are possible here"));
    }
    if limits.memory_bytes < 16 << 20 {
        return refuse("memory_bytes", "at least 16777216 (16 MiB) are needed");
    }
    if limits.disk_bytes.is_some_and(|it| it < 16 << 20) {
        return refuse("disk_bytes", "at least 16777216 (16 MiB) are needed");
    }
    if !(10..=1_024_000).contains(&limits.cpu_millis) {
        return refuse("cpu_millis", "expected 10 to 1024000");
    }
    if !(8..=4_194_304).contains(&limits.pids) {
        return refuse("pids", "expected 8 to 4194304");
    }
    if !(64..=1_048_576).contains(&limits.open_files) {
        return refuse("open_files", "expected 64 to 1048576");
    }
    Ok(())
}

/// How long the sandbox lives: what was asked for, within what the operator allows.
pub(crate) fn lifetime(
    wanted: Option<Duration>,
    defaults: &Defaults,
) -> Result<Option<Duration>, SandboxError> {
    let longest = defaults.longest_lifetime;
    let Some(length) = wanted else {
        return Ok(defaults
            .lifetime
            .map_or(longest, |it| Some(longest.map_or(it, |max| it.min(max)))));
    };
    let length = (!length.is_zero()).then_some(check_lifetime(length)?);
    match longest {
        Some(longest) if length.is_none_or(|length| length > longest) => {
            Err(SandboxError::invalid(
                "lifetime_seconds",
                format!("at most {} here", longest.as_secs()),
            ))
        }
        _ => Ok(length),
    }
}

fn check_lifetime(length: Duration) -> Result<Duration, SandboxError> {
    const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
    if length <= LONGEST {
        Ok(length)
    } else {
        refuse("lifetime_seconds", "at most ten years; 0 for no limit")
    }
}

fn refuse<T>(field: &'static str, reason: &str) -> Result<T, SandboxError> {
    Err(SandboxError::invalid(field, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(wanted: Wanted, config: &Config) -> Result<Plan, SandboxError> {
        let image = wanted.image.clone().unwrap_or(Image::Host);
        check_image(&image)?;
        Plan::new(wanted, Base::plain(image), &Caller::local(), config)
    }

    #[track_caller]
    fn check(wanted: Wanted, refused: Option<&str>) {
        let field = match plan(wanted, &Config::default()) {
            Ok(_) => None,
            Err(SandboxError::Invalid { field, .. }) => Some(field),
            Err(other) => panic!("{other}"),
        };
        assert_eq!(field, refused);
    }

    #[test]
    fn each_field_is_checked() {
        let w = Wanted::default;
        check(w(), None);
        check(Wanted { name: Some("a.b_c-1".into()), ..w() }, None);
        check(Wanted { name: Some("A".into()), ..w() }, Some("name"));
        check(Wanted { name: Some(String::new()), ..w() }, Some("name"));
        check(Wanted { name: Some("sb-aaaaaaaaaaaaaaaa".into()), ..w() }, Some("name"));
        check(Wanted { user: Some("a b".into()), ..w() }, Some("user"));
        check(Wanted { workdir: Some("tmp".into()), ..w() }, Some("workdir"));
        check(Wanted { memory_bytes: Some(1), ..w() }, Some("memory_bytes"));
        check(Wanted { cpu_millis: Some(0), ..w() }, Some("cpu_millis"));
        check(Wanted { pids: Some(1), ..w() }, Some("pids"));
        check(Wanted { open_files: Some(1), ..w() }, Some("open_files"));
        check(Wanted { hostname: Some("-a".into()), ..w() }, Some("hostname"));
        check(Wanted { image: Some(Image::Directory("x".into())), ..w() }, Some("image"));
        let env = BTreeMap::from([("A=".to_owned(), String::new())]);
        check(Wanted { env, ..w() }, Some("env"));
        let labels = BTreeMap::from([(String::new(), String::new())]);
        check(Wanted { labels, ..w() }, Some("labels"));
        check(Wanted { lifetime: Some(Duration::MAX), ..w() }, Some("lifetime_seconds"));
    }

    #[test]
    fn nobody_asks_for_more_memory_than_there_is() {
        let defaults = Defaults { most_memory: Some(1 << 30), ..Defaults::default() };
        let config = Config { defaults, ..Config::default() };
        let ask = |memory_bytes| {
            let wanted = Wanted { memory_bytes: Some(memory_bytes), ..Wanted::default() };
            plan(wanted, &config).map(drop)
        };
        assert!(ask(1 << 30).is_ok());
        let error = ask(u64::MAX).unwrap_err().to_string();
        assert_eq!(error, "memory_bytes: at most 1073741824 are possible here");
    }

    #[test]
    fn nobody_asks_for_more_than_the_longest_lifetime() {
        let seconds = Duration::from_secs;
        let defaults = Defaults { longest_lifetime: Some(seconds(60)), ..Defaults::default() };
        for (asked, given) in [
            (None, Some(Some(seconds(60)))),
            (Some(seconds(60)), Some(Some(seconds(60)))),
            (Some(seconds(61)), None),
            (Some(Duration::ZERO), None),
        ] {
            assert_eq!(lifetime(asked, &defaults).ok(), given, "{asked:?}");
        }
        let without = Defaults { lifetime: None, ..defaults };
        assert_eq!(lifetime(None, &without).unwrap(), Some(seconds(60)));
    }

    #[test]
    fn a_lifetime_of_zero_is_none() {
        let wanted = Wanted { lifetime: Some(Duration::ZERO), ..Wanted::default() };
        assert_eq!(plan(wanted, &Config::default()).unwrap().lifetime.length, None);
    }

    #[test]
    fn equal_requests_share_a_fingerprint() {
        let named = Wanted { name: Some("a".into()), ..Wanted::default() };
        assert_eq!(fingerprint(&named), fingerprint(&named.clone()));
        assert_ne!(fingerprint(&named), fingerprint(&Wanted::default()));
    }
}
