//! Profiles: which program an agent is, what it gets of the host, and what it may reach.
//!
//! A profile is data. Ours and those that a person writes anew are TOML ([`document`]); those written
//! for agentvm are read as they are ([`seed`]), without a shell. The person's own, in `profiles/`
//! below the home, stand before the shipped ones of the same name.
//!
//! What a profile does not name does not enter: variables, files and, where its network is
//! [`Network::Listed`], hosts.

pub mod document;
pub mod first_run;
pub mod keys;
pub mod seed;

mod paths;
mod shipped;

use crate::{
    Home, HomeError,
    home::Item,
    name::{ProfileName, ProfileNameError},
};

pub use first_run::FirstRun;
pub use keys::Keys;
pub use paths::{Places, check_mount};

/// What an agent is and gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// What it is called for people.
    pub label: String,
    /// The program and its arguments; empty for a shell.
    pub command: Vec<String>,
    /// The command that goes on with the last conversation; empty where the program has none.
    pub resume: Vec<String>,
    /// Directories and files of the host that are seen, absolute; those that are missing are left
    /// out.
    pub read_only: Vec<String>,
    /// Directories and files of the host that may be written.
    pub read_write: Vec<String>,
    /// What is copied into the agent's HOME when that is made, seen from the person's HOME.
    pub copied: Vec<String>,
    /// The variables that enter, if they are set.
    pub env: Vec<String>,
    /// Keys that can stay outside, and requests that are given them there.
    pub credentials: Vec<Credential>,
    /// What it may reach.
    pub network: Network,
    /// The hosts that it needs, as `HOST[:PORT]` or `*.HOST[:PORT]`.
    pub domains: Vec<String>,
    /// Texts on its screen, of which one says that it takes a prompt.
    pub ready: Vec<String>,
    /// Texts on its screen, of which one says that it asks something.
    pub waiting: Vec<String>,
    /// Keys that are pressed once it runs, by their names.
    pub startup_keys: Vec<String>,
    /// Settings in its HOME that save the questions of a first start.
    pub first_run: Vec<FirstRun>,
    /// A program of the host, absolute, that is run with the workspace as its argument: inside of
    /// the sandbox, before the command.
    pub setup: Option<String>,
}

/// What a profile's agents may reach. Whatever it is, the host, private networks and other sandboxes
/// are not among it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// Nothing.
    Off,
    /// The hosts that the profile names.
    Listed,
    /// The internet.
    #[default]
    Open,
}

/// A key that enters requests to one host, outside of the sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// The variable that has the key.
    pub env: String,
    /// The host whose requests get it.
    pub host: String,
    /// The header that has it.
    pub header: String,
    /// The value of the header, with `{}` for the key.
    pub value: String,
    /// The variable that sends the program to another host, as a URL.
    pub base_url: Option<String>,
}

/// Why there is no such profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Nobody has written it.
    #[error("Profile '{name}' not found. There are: {}", known.join(", "))]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// It could not be one.
    #[error(transparent)]
    Name(#[from] ProfileNameError),
    /// It makes no sense.
    #[error("profile '{name}': {reason}")]
    Content {
        /// Which one.
        name: String,
        /// What was expected.
        reason: String,
    },
    /// Its file cannot be read.
    #[error(transparent)]
    Home(#[from] HomeError),
}

impl Profile {
    /// Finds a profile: the person's own first, TOML before agentvm's form.
    ///
    /// # Errors
    ///
    /// [`ProfileError::Unknown`] names those that there are.
    pub fn find(home: &Home, places: &Places, name: &str) -> Result<Self, ProfileError> {
        let parsed: ProfileName = name.parse()?;
        let content = |reason: String| ProfileError::Content { name: name.to_owned(), reason };
        if let Some(bytes) = home.read(Item::Profile(&parsed))? {
            return document::parse(&text_of(bytes), places).map_err(content);
        }
        if let Some(bytes) = home.read(Item::SeedProfile(&parsed))? {
            return seed::parse(&bytes, places).map_err(content);
        }
        match shipped::text(name) {
            Some(text) => document::parse(text, places).map_err(content),
            None => {
                let known = Self::names(home)?.iter().map(ToString::to_string).collect();
                Err(ProfileError::Unknown { name: name.to_owned(), known })
            }
        }
    }

    /// The names of all profiles, sorted.
    ///
    /// # Errors
    ///
    /// Those of [`Home::own_profiles`].
    pub fn names(home: &Home) -> Result<Vec<ProfileName>, HomeError> {
        let mut names = home.own_profiles()?;
        names.extend(shipped::names().filter_map(|it| it.parse().ok()));
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// What makes no sense in it, whichever form it was written in.
    fn check(self) -> Result<Self, String> {
        let mut mounts = self.read_only.iter().chain(&self.read_write).chain(&self.setup);
        mounts.try_for_each(|path| paths::check(path))?;
        self.copied.iter().try_for_each(|path| paths::check_relative(path))?;
        self.first_run.iter().try_for_each(|it| paths::check_relative(&it.path))?;
        let named = |it: &Credential| [Some(it.env.clone()), it.base_url.clone()];
        let named = self.credentials.iter().flat_map(named).flatten();
        for key in self.env.iter().cloned().chain(named) {
            if !crate::env_file::is_variable(&key) {
                return Err(format!("`{}` is no name of a variable", crate::text::shown(&key)));
            }
        }
        self.domains.iter().try_for_each(|host| check_host(host))?;
        self.credentials.iter().try_for_each(check_credential)?;
        if self.command.iter().chain(&self.resume).any(|word| word.contains('\0')) {
            return Err("a command has a NUL character".to_owned());
        }
        Ok(self)
    }
}

/// A profile that is no UTF-8 is refused by what is wrong in it then.
fn text_of(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

fn check_credential(credential: &Credential) -> Result<(), String> {
    let shown = crate::text::shown;
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if credential.header.is_empty() || !credential.header.bytes().all(token) {
        return Err(format!("`{}` is no name of a header", shown(&credential.header)));
    }
    let value = &credential.value;
    let printable = value.bytes().all(|it| it == b' ' || it.is_ascii_graphic());
    if value.matches("{}").count() != 1 || !printable {
        return Err(format!("the header value `{}` needs one `{{}}` for the key", shown(value)));
    }
    if credential.host.contains(['*', ':']) {
        let host = shown(&credential.host);
        return Err(format!("`{host}`: a key is for one host, without a port"));
    }
    check_host(&credential.host)
}

/// Checks `HOST`, `*.HOST`, and either with `:PORT`.
fn check_host(text: &str) -> Result<(), String> {
    let wrong = || {
        let text = crate::text::shown(text);
        Err(format!(
            "`{text}` is no host: expected a name such as `api.example.com`, `*.x.org:443`"
        ))
    };
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, port.parse::<u16>().ok().filter(|it| *it > 0)),
        None => (text, Some(443)),
    };
    let host = host.strip_prefix("*.").unwrap_or(host);
    let label = |it: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !it.is_empty() && it.len() <= 63 && it.bytes().all(allowed) && !it.starts_with('-')
    };
    let labels = host.split('.').count();
    if port.is_none() || host.len() > 253 || labels < 2 || !host.split('.').all(label) {
        return wrong();
    }
    Ok(())
}

#[cfg(test)]
mod tests;
