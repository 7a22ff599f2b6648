//! Profiles in TOML.
//!
//! ```toml
//! label = "My Agent"
//! command = ["my-agent", "--auto"]
//! read-only = ["~/.local/bin"]
//! copied = [".my-agent/login.json"]
//! env = ["MY_API_KEY"]
//! network = "listed"                # or "open", or "off"
//! domains = ["api.example.com"]
//! ready = ["? for shortcuts"]
//! waiting = ["Do you want to proceed?"]
//!
//! [[credential]]
//! env = "MY_API_KEY"
//! host = "api.example.com"
//! header = "authorization"
//! value = "Bearer {}"
//! base-url = "MY_BASE_URL"          # a variable that names another host
//!
//! [[first-run]]
//! path = ".my-agent.json"
//! json = '{"projects": {"{workspace}": {"trusted": true}}}'
//! ```
//!
//! A field of another name is an error, so that a typo is not a setting that does nothing.

use serde::Deserialize;

use super::{Credential, FirstRun, Network, Places, Profile, first_run::Form};
use crate::text;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Document {
    label: String,
    command: Vec<String>,
    resume: Vec<String>,
    read_only: Vec<String>,
    read_write: Vec<String>,
    copied: Vec<String>,
    env: Vec<String>,
    credential: Vec<CredentialTable>,
    network: NetworkName,
    domains: Vec<String>,
    ready: Vec<String>,
    waiting: Vec<String>,
    startup_keys: Vec<String>,
    first_run: Vec<FirstRunTable>,
    setup: Option<String>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum NetworkName {
    Off,
    Listed,
    #[default]
    Open,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct CredentialTable {
    env: String,
    host: String,
    header: String,
    value: String,
    base_url: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FirstRunTable {
    path: String,
    json: Option<String>,
    toml: Option<String>,
}

/// Reads a profile.
///
/// # Errors
///
/// What was expected and where, for people.
pub fn parse(source: &str, places: &Places) -> Result<Profile, String> {
    let document: Document =
        toml::from_str(source).map_err(|error| text::clean(error.to_string().as_bytes()))?;
    let expanded = |paths: Vec<String>| {
        paths.iter().map(|it| places.expand(it)).collect::<Result<Vec<_>, _>>()
    };
    let network = match document.network {
        NetworkName::Off => Network::Off,
        NetworkName::Listed => Network::Listed,
        NetworkName::Open => Network::Open,
    };
    Profile {
        label: document.label,
        command: document.command,
        resume: document.resume,
        read_only: expanded(document.read_only)?,
        read_write: expanded(document.read_write)?,
        copied: document.copied,
        env: document.env,
        credentials: document.credential.into_iter().map(credential).collect(),
        network,
        domains: document.domains,
        ready: document.ready,
        waiting: document.waiting,
        startup_keys: document.startup_keys,
        first_run: document.first_run.into_iter().map(first_run).collect::<Result<_, _>>()?,
        setup: document.setup.map(|it| places.expand(&it)).transpose()?,
    }
    .check()
}

fn credential(table: CredentialTable) -> Credential {
    let CredentialTable { env, host, header, value, base_url } = table;
    Credential { env, host, header, value, base_url }
}

fn first_run(table: FirstRunTable) -> Result<FirstRun, String> {
    let form = match (table.json, table.toml) {
        (Some(text), None) => Form::Json(text),
        (None, Some(text)) => Form::Toml(text),
        _ => return Err(format!("first-run `{}` needs `json` or `toml`", table.path)),
    };
    let first_run = FirstRun { path: table.path, form };
    // What makes no sense is said now, not when the first agent starts.
    first_run.apply(None, "/workspace")?;
    Ok(first_run)
}
