//! What somebody asks to be built.

use std::{collections::BTreeMap, fmt, time::Duration};

use bytes::Bytes;
use warren_dockerfile::{Recipe, scope::Globals};

use super::model::{Ready, Start, WantedLimits, check_name, check_tag};
use crate::{error::SandboxError, spec::Network};

/// How many secrets a build may have, and how long each may be.
const MOST_SECRETS: usize = 64;
const MOST_SECRET_BYTES: usize = 64 << 10;

/// A template that is to be built.
#[derive(Clone)]
pub struct BuildRequest {
    /// The template's name; it is made where there is none.
    pub name: String,
    /// What the new version is tagged; [`super::model::DEFAULT_TAG`] where empty.
    pub tags: Vec<String>,
    /// What is to be done.
    pub recipe: Recipe,
    /// The build context, as it was uploaded.
    pub context: Option<String>,
    /// Values for the recipe's arguments.
    pub arguments: BTreeMap<String, String>,
    /// Secrets by their id: in no layer, in no log, in no answer.
    pub secrets: BTreeMap<String, Bytes>,
    /// The stage that is wanted; the last where absent.
    pub target: Option<String>,
    /// Whether every step is done, although the cache has its result.
    pub no_cache: bool,
    /// Whether other projects may use it; as before, or not, where absent.
    pub public: Option<bool>,
    /// What a sandbox of the template may use where its request does not say.
    pub limits: WantedLimits,
    /// What it may reach where its request does not say.
    pub network: Option<Network>,
    /// What is started in a new sandbox.
    pub start: Option<Start>,
    /// Whether the build tries that once, and fails where it does not become ready.
    pub try_start: bool,
    /// How many sandboxes wait started and ready; as before, or none, where absent.
    pub warm: Option<u32>,
    /// What the sandboxes of the build may use.
    pub build_limits: WantedLimits,
    /// How long the build may take; an hour where absent.
    pub timeout: Option<Duration>,
}

impl fmt::Debug for BuildRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuildRequest")
            .field("name", &self.name)
            .field("secrets", &self.secrets.len())
            .finish_non_exhaustive()
    }
}

impl BuildRequest {
    /// A build of this recipe with nothing said about it.
    #[must_use]
    pub fn new(name: String, recipe: Recipe) -> Self {
        Self {
            name,
            tags: Vec::new(),
            recipe,
            context: None,
            arguments: BTreeMap::new(),
            secrets: BTreeMap::new(),
            target: None,
            no_cache: false,
            public: None,
            limits: WantedLimits::default(),
            network: None,
            start: None,
            try_start: false,
            warm: None,
            build_limits: WantedLimits::default(),
            timeout: None,
        }
    }

    /// Checks what can be checked before anything is done.
    pub(super) fn check(&self) -> Result<(), SandboxError> {
        if let Some(network) = &self.network {
            crate::plan::check_network(network)?;
        }
        check_name(&self.name)?;
        if self.tags.len() > 16 {
            return Err(SandboxError::invalid("tags", "at most 16 are allowed"));
        }
        self.tags.iter().try_for_each(|tag| check_tag(tag))?;
        crate::plan::check_env("args", &self.arguments)?;
        self.check_secrets()?;
        if let Some(start) = &self.start {
            check_start(start)?;
        }
        if self.warm.is_some_and(|warm| warm > 16) {
            return Err(SandboxError::invalid("warm", "at most 16 are allowed"));
        }
        let longest = Duration::from_secs(24 * 3600);
        if self.timeout.is_some_and(|timeout| timeout.is_zero() || timeout > longest) {
            return Err(SandboxError::invalid("timeout_seconds", "expected 1 to 86400"));
        }
        Ok(())
    }

    fn check_secrets(&self) -> Result<(), SandboxError> {
        let refuse = |reason: String| Err(SandboxError::invalid("secrets", reason));
        if self.secrets.len() > MOST_SECRETS {
            return refuse(format!("at most {MOST_SECRETS} are allowed"));
        }
        for (id, value) in &self.secrets {
            if !warren_dockerfile::parse::is_secret_id(id) {
                return refuse("an id has letters, digits, `-`, `_` and `.`".to_owned());
            }
            if value.len() > MOST_SECRET_BYTES {
                return refuse(format!("`{id}` has more than {MOST_SECRET_BYTES} bytes"));
            }
        }
        Ok(())
    }

    /// The variables that the recipe's first lines and this request make.
    pub(super) fn globals(&self) -> Result<Globals, SandboxError> {
        let Recipe { arguments, escape, .. } = &self.recipe;
        let given = self.arguments.clone();
        Globals::new(arguments, given, std::env::consts::ARCH, *escape).map_err(|(line, error)| {
            SandboxError::invalid("dockerfile", format!("line {line}: {error}"))
        })
    }
}

fn check_start(start: &Start) -> Result<(), SandboxError> {
    let refuse = |reason: &str| Err(SandboxError::invalid("start", reason));
    if start.command.is_empty() && start.ready.is_none() {
        return refuse("expected a command, or something to wait for");
    }
    let bytes: usize = start.command.iter().map(|word| word.len() + 1).sum();
    if bytes > 64 << 10 || start.command.iter().any(|word| word.contains('\0')) {
        return refuse("at most 64 KiB are allowed, without NUL");
    }
    if start.timeout.is_zero() || start.timeout > Duration::from_secs(3600) {
        return refuse("a timeout is between 1 second and an hour");
    }
    match &start.ready {
        Some(Ready::Port(0) | Ready::Http { port: 0, .. }) => refuse("a port is not 0"),
        Some(Ready::Http { path, .. })
            if !path.starts_with('/')
                || path.len() > 1024
                || !path.bytes().all(|it| it.is_ascii_graphic()) =>
        {
            refuse("the path of a URL begins with a slash and is plain ASCII")
        }
        Some(Ready::File(path)) => crate::plan::check_absolute("start", path),
        Some(Ready::Command(command)) if command.trim().is_empty() || command.len() > 64 << 10 => {
            refuse("a command has 1 byte to 64 KiB")
        }
        _ => Ok(()),
    }
}
