//! Settings: one table, four sources, the later of which win.
//!
//! Defaults < `warren.toml` < environment (`WARREN_*`) < flags (`--set NAME=VALUE`). Every source
//! gives text, every setting reads text, so a value is written the same everywhere. This is the
//! only module that reads the environment.

mod environment;

mod listen;

mod names;

mod networks;

mod reference;

mod registries;

mod table;

mod tls;

mod value;

use std::{
    io,
    path::{Path, PathBuf},
};

pub(crate) use environment::Environment;
pub(crate) use listen::{Address, Addresses};
pub(crate) use networks::Six;
pub(crate) use table::{Config, SETTINGS};
pub(crate) use tls::{AcmeDns, AcmeProof, TlsSource};
#[cfg(test)]
pub(crate) use value::Value;
pub(crate) use value::{Cpus, Lasting, Level, Runtime, Size, Storage, Subnet, Uplink};

/// What the flags say about settings.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Overrides {
    /// Read settings from this file instead of the usual `warren.toml`
    #[arg(long = "config", value_name = "FILE", global = true, hide_short_help = true)]
    file: Option<PathBuf>,
    /// Override a setting, such as `memory=2GiB`; `docs/configuration.md` lists them
    #[arg(long = "set", value_name = "NAME=VALUE", global = true, hide_short_help = true)]
    set: Vec<String>,
}

impl Overrides {
    /// These flags and no file.
    #[cfg(test)]
    pub(crate) fn of_test(set: Vec<String>) -> Self {
        Self { file: None, set }
    }

    /// The same flags again, for a server that this process starts.
    pub(crate) fn to_arguments(&self) -> Vec<String> {
        let file = self.file.iter().flat_map(|file| {
            let absolute = std::path::absolute(file).unwrap_or_else(|_unknown| file.clone());
            ["--config".to_owned(), absolute.to_string_lossy().into_owned()]
        });
        let set = self.set.iter().flat_map(|set| ["--set".to_owned(), set.clone()]);
        file.chain(set).collect()
    }
}

/// Puts the sources together.
///
/// # Errors
///
/// [`ConfigError`] for the first source that has something unknown or unreadable.
pub(crate) fn load(
    environment: &Environment,
    overrides: &Overrides,
    is_root: bool,
) -> Result<Config, ConfigError> {
    let mut config = Config::default();
    let (file, required) = match (&overrides.file, environment.get("WARREN_CONFIG")) {
        (Some(file), _) => (Some(file.clone()), true),
        (None, Some(file)) => (Some(PathBuf::from(file)), true),
        (None, None) => (usual_file(environment, is_root), false),
    };
    if let Some(file) = file {
        apply_file(&mut config, &file, required)?;
    }
    for (name, value) in environment.settings() {
        let setting = name.to_ascii_lowercase();
        apply(&mut config, &setting, value, || format!("environment variable WARREN_{name}"))?;
    }
    for set in &overrides.set {
        let (name, value) =
            set.split_once('=').ok_or_else(|| ConfigError::NotAPair { text: set.clone() })?;
        apply(&mut config, name.trim(), value.trim(), || "flag --set".to_owned())?;
    }
    Ok(config)
}

/// Where `warren.toml` is looked for.
pub(crate) fn usual_file(environment: &Environment, is_root: bool) -> Option<PathBuf> {
    if is_root {
        return Some(PathBuf::from("/etc/warren/warren.toml"));
    }
    let base = match environment.get("XDG_CONFIG_HOME").filter(|it| it.starts_with('/')) {
        Some(base) => PathBuf::from(base),
        None => Path::new(environment.get("HOME")?).join(".config"),
    };
    Some(base.join("warren/warren.toml"))
}

fn apply_file(config: &mut Config, file: &Path, required: bool) -> Result<(), ConfigError> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !required => return Ok(()),
        Err(source) => return Err(ConfigError::Read { file: file.to_owned(), source }),
    };
    let table: toml::Table = text.parse().map_err(|source| ConfigError::Syntax {
        file: file.to_owned(),
        source: Box::new(source),
    })?;
    for (name, value) in table {
        let text = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Float(number) => number.to_string(),
            toml::Value::Boolean(truth) => truth.to_string(),
            toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_) => {
                String::new() // no setting is any of these, and none reads an empty text
            }
        };
        apply(config, &name, &text, || file.display().to_string())?;
    }
    Ok(())
}

fn apply(
    config: &mut Config,
    name: &str,
    value: &str,
    place: impl Fn() -> String,
) -> Result<(), ConfigError> {
    match config.set(name, value) {
        None => Err(ConfigError::Unknown { name: name.to_owned(), place: place() }),
        Some(Ok(())) => Ok(()),
        Some(Err(expected)) => Err(ConfigError::Invalid {
            name: name.to_owned(),
            value: value.to_owned(),
            expected,
            place: place(),
        }),
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file is there, or was asked for, and cannot be read.
    #[error("could not read the configuration file {}", file.display())]
    Read {
        file: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("could not understand the configuration file {}", file.display())]
    Syntax {
        file: PathBuf,
        #[source]
        source: Box<toml::de::Error>,
    },
    /// No setting has that name.
    #[error("there is no setting `{name}` ({place}); there are: {}", known())]
    Unknown { name: String, place: String },
    /// The setting does not take that value.
    #[error("setting `{name}` cannot be `{value}` ({place}): expected {expected}")]
    Invalid { name: String, value: String, expected: String, place: String },
    /// `--set` without a value.
    #[error("`--set {text}` is no setting: expected NAME=VALUE")]
    NotAPair { text: String },
}

fn known() -> String {
    SETTINGS.iter().map(|it| it.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_file(text: &str, environment: &[(&str, &str)], set: &[&str]) -> Result<Config, String> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("warren.toml");
        std::fs::write(&file, text).unwrap();
        let overrides =
            Overrides { file: Some(file), set: set.iter().map(ToString::to_string).collect() };
        load(&Environment::of(environment), &overrides, false).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_beat_the_environment_which_beats_the_file_which_beats_defaults() {
        let file = "memory = \"1 MiB\"\npids = 1\nparked = 1\n";
        let environment = [("WARREN_PIDS", "2"), ("WARREN_PARKED", "2")];
        let config = with_file(file, &environment, &["parked=3"]).unwrap();
        assert_eq!(config.memory, Size(1 << 20));
        assert_eq!((config.pids, config.parked), (2, 3));
        assert_eq!(config.open_files, Config::default().open_files);
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        let error = with_file("memroy = 1\n", &[], &[]).unwrap_err();
        assert!(error.contains("`memroy`") && error.contains("memory, "), "{error}");
        let error = with_file("", &[("WARREN_MEMROY", "1")], &[]).unwrap_err();
        assert!(error.contains("WARREN_MEMROY"), "{error}");
        let error = with_file("", &[], &["memroy=1"]).unwrap_err();
        assert!(error.contains("flag --set"), "{error}");
    }

    #[test]
    fn a_value_of_another_kind_is_refused_with_what_was_expected() {
        for (text, expected) in [
            ("memory = \"much\"", "a size such as `512 MiB`"),
            ("memory = [1]", "a size"),
            ("lifetime = \"1 fortnight\"", "a duration such as `30s`"),
            ("runtime = \"magic\"", "one of namespace"),
            ("pids = -1", "a whole number"),
            ("subnet = \"10.0.0.0/33\"", "a private IPv4 network"),
            ("reachable = \"0.0.0.0/0\"", "networks and addresses"),
            ("ipv6 = \"on\"", "one of auto, off"),
            ("disk = \"much\"", "a size"),
        ] {
            let error = with_file(text, &[], &[]).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_file_that_was_asked_for_must_be_there() {
        let overrides = Overrides { file: Some("/nowhere/warren.toml".into()), set: vec![] };
        let error = load(&Environment::of(&[]), &overrides, false).unwrap_err();
        assert!(matches!(error, ConfigError::Read { .. }), "{error}");
        assert!(
            load(&Environment::of(&[("HOME", "/nowhere")]), &Overrides::default(), false).is_ok()
        );
    }

    #[test]
    fn a_set_without_a_value_says_what_is_missing() {
        let error = with_file("", &[], &["memory"]).unwrap_err();
        assert_eq!(error, "`--set memory` is no setting: expected NAME=VALUE");
    }
}
