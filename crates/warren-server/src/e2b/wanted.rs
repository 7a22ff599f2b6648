//! From what these clients ask for to what core makes.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use warren_core::{
    Caller,
    exposure::{Exposure, ForE2b},
    identity::Token,
    runtime::DeadlineAction,
    sandbox::{MARKS, Wanted, WantedVolume},
};

use super::{Refusal, names, names::Source, network};
use crate::app::App;

/// The one kind of tokens there is.
const TOKEN_TYPE: &str = "JWT-SVID";

/// Which of the two versions of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// Clients up to 2.45, and the command line.
    One,
    /// The clients of today.
    Two,
}

impl Version {
    /// How long a sandbox lives where its request does not say.
    fn timeout(self) -> i64 {
        match self {
            Self::One => 15,
            Self::Two => 300,
        }
    }
}

/// A new sandbox. What is absent is the server's to choose, and not `false`. `mcp` is passed over:
/// clients start that gateway themselves, and the template has its program.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct NewSandbox {
    #[serde(rename = "templateID")]
    template_id: Option<String>,
    timeout: Option<i64>,
    auto_pause: Option<bool>,
    auto_pause_memory: Option<bool>,
    auto_resume: Option<AutoResume>,
    secure: Option<bool>,
    #[serde(rename = "allow_internet_access")]
    allow_internet_access: Option<bool>,
    network: Option<network::Fields>,
    metadata: Option<BTreeMap<String, String>>,
    env_vars: Option<BTreeMap<String, String>>,
    iam: Option<Iam>,
    volume_mounts: Option<Vec<VolumeFields>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AutoResume {
    enabled: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Iam {
    tokens: Option<BTreeMap<String, TokenFields>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TokenFields {
    audience: String,
    token_type: String,
}

#[derive(Debug, Deserialize)]
struct VolumeFields {
    name: String,
    path: String,
}

/// How long something is to live, in seconds as clients say it.
pub(super) fn lifetime(seconds: i64) -> Result<Duration, Refusal> {
    match u64::try_from(seconds) {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => Err(Refusal::bad("Timeout must be greater than 0")),
    }
}

/// What core is to make.
pub(super) fn wanted(
    app: &App,
    caller: &Caller,
    request: NewSandbox,
    version: Version,
) -> Result<Wanted, Refusal> {
    let named = request.template_id.as_deref().filter(|name| !name.is_empty());
    let named = named.ok_or_else(|| Refusal::bad("templateID: expected a template"))?;
    let length = lifetime(request.timeout.unwrap_or(version.timeout()))?;
    let on_deadline = on_deadline(&request)?;
    let wakes = request.auto_resume.as_ref().is_some_and(|it| it.enabled);
    let tokens = tokens(request.iam.unwrap_or_default())?;
    let fields = request.network.unwrap_or_default();
    let secured = version == Version::Two || request.secure.unwrap_or(true);
    let public = fields.allow_public_traffic.unwrap_or(true);
    if !public && !secured {
        let message = "You cannot create a sandbox without public access unless you enable secure \
                       envd access via 'secure' flag.";
        return Err(Refusal::bad(message));
    }
    let (network, mut credentials) =
        network::wanted(app, caller, &fields, request.allow_internet_access)?;
    credentials.tokens = tokens;
    let mask_host = fields.mask_request_host.filter(|mask| !mask.is_empty());
    let e2b = Some(ForE2b { secured, public });
    let volumes = request.volume_mounts.unwrap_or_default();
    let mut wanted = Wanted {
        lifetime: Some(length),
        on_deadline,
        network: Some(network),
        credentials,
        labels: request.metadata.unwrap_or_default(),
        env: request.env_vars.unwrap_or_default(),
        exposure: Exposure { wake: wakes, mask_host, e2b, ..Exposure::default() },
        volumes: check_mounts(app, caller, volumes)?,
        ..Wanted::default()
    };
    // Programs look here for what they run in; the agent adds the sandbox's own id.
    let marks = ["true".to_owned(), named.to_owned()];
    wanted.env.extend(MARKS.map(str::to_owned).into_iter().zip(marks));
    match names::source(app, caller, named)? {
        Source::Template(name) => wanted.template = Some(name),
        Source::Snapshot(id) => wanted.snapshot = Some(id.to_string()),
        Source::Default => {}
    }
    Ok(wanted)
}

/// What happens at the end; the server's own choice where nothing is said.
fn on_deadline(request: &NewSandbox) -> Result<Option<DeadlineAction>, Refusal> {
    let files_alone = request.auto_pause_memory == Some(false);
    if files_alone && request.auto_pause != Some(true) {
        return Err(Refusal::bad("autoPauseMemory requires autoPause to be enabled"));
    }
    if files_alone && request.auto_resume.as_ref().is_some_and(|it| it.enabled) {
        let message = "autoPauseMemory: a sandbox that is paused without its memory cannot resume \
                       by itself; autoResume must not be enabled";
        return Err(Refusal::bad(message));
    }
    Ok(request.auto_pause.map(|pauses| match (pauses, files_alone) {
        (false, _) => DeadlineAction::Kill,
        (true, false) => DeadlineAction::Pause,
        (true, true) => DeadlineAction::Stop,
    }))
}

/// The tokens that are to say who the sandbox is.
fn tokens(iam: Iam) -> Result<BTreeMap<String, Token>, Refusal> {
    let tokens = iam.tokens.unwrap_or_default().into_iter();
    tokens
        .map(|(name, TokenFields { audience, token_type })| match token_type.as_str() {
            TOKEN_TYPE => Ok((name, Token { audience })),
            _ => Err(Refusal::bad(format!("iam.tokens.{name}.tokenType: expected {TOKEN_TYPE}"))),
        })
        .collect()
}

/// The volumes of a request, all of their mistakes told at once.
fn check_mounts(
    app: &App,
    caller: &Caller,
    mounts: Vec<VolumeFields>,
) -> Result<Vec<WantedVolume>, Refusal> {
    let (mut wanted, mut wrong) = (Vec::<WantedVolume>::new(), Vec::new());
    for (place, VolumeFields { name, path }) in mounts.into_iter().enumerate() {
        let reason = match app.sandboxes.volume(caller, &name) {
            Err(_gone) => Some(format!("volume '{name}' not found")),
            Ok(_) if path.is_empty() => Some("path cannot be empty".to_owned()),
            Ok(_) if !path.starts_with('/') => Some("path must be absolute".to_owned()),
            Ok(_) if !is_clean(&path) => {
                Some("path must not contain any '.' or '..' components".to_owned())
            }
            Ok(_) if wanted.iter().any(|it| it.target == path) => {
                Some(format!("path '{path}' is already used"))
            }
            Ok(_) => None,
        };
        match reason {
            Some(reason) => wrong.push(format!("\t- volume mount #{place}: {reason}")),
            None => wanted.push(WantedVolume { volume: name, target: path, read_only: false }),
        }
    }
    match wrong.is_empty() {
        true => Ok(wanted),
        false => Err(Refusal::bad(format!("invalid mounts:\n{}", wrong.join("\n")))),
    }
}

/// Whether a path is written as short as it can be.
fn is_clean(path: &str) -> bool {
    path == "/" || path.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_is_not_false() {
        let check = |json: &str, expected: Result<Option<DeadlineAction>, ()>| {
            let request: NewSandbox = serde_json::from_str(json).unwrap();
            assert_eq!(on_deadline(&request).map_err(|_refused| ()), expected, "{json}");
        };
        check("{}", Ok(None));
        check(r#"{"autoPause":null}"#, Ok(None));
        check(r#"{"autoPause":false}"#, Ok(Some(DeadlineAction::Kill)));
        check(r#"{"autoPause":true}"#, Ok(Some(DeadlineAction::Pause)));
        check(r#"{"autoPause":true,"autoPauseMemory":true}"#, Ok(Some(DeadlineAction::Pause)));
        check(r#"{"autoPause":true,"autoPauseMemory":false}"#, Ok(Some(DeadlineAction::Stop)));
        check(r#"{"autoPauseMemory":false}"#, Err(()));
        check(
            r#"{"autoPause":true,"autoPauseMemory":false,"autoResume":{"enabled":true}}"#,
            Err(()),
        );
    }

    #[test]
    fn a_path_is_clean_or_refused() {
        for good in ["/", "/a", "/a/b.c"] {
            assert!(is_clean(good), "{good}");
        }
        for bad in ["//", "/a/", "/a//b", "/a/./b", "/../a"] {
            assert!(!is_clean(bad), "{bad}");
        }
    }

    #[test]
    fn nothing_lives_for_no_time() {
        assert_eq!(lifetime(5).ok(), Some(Duration::from_secs(5)));
        for bad in [0, -1, i64::MIN] {
            assert_eq!(lifetime(bad).unwrap_err().message(), "Timeout must be greater than 0");
        }
    }
}
