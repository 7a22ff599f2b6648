//! Variables: which there are at one place of a build, and what they hold.

use std::collections::BTreeMap;

use crate::{
    expand::{ExpandError, expand},
    recipe::Argument,
};

/// Arguments that every build has without declaring them: what a proxy is called.
const PREDEFINED: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// What a build was given, and what is declared before its first stage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Globals {
    /// What whoever builds gives.
    given: BTreeMap<String, String>,
    /// What is known of the machine: `TARGETARCH` and the like.
    platform: BTreeMap<String, String>,
    /// Declared, filled in.
    declared: BTreeMap<String, Option<String>>,
    escape: char,
}

/// The variables of one stage, as they are after some of its steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    globals: Globals,
    env: BTreeMap<String, String>,
    arguments: BTreeMap<String, Option<String>>,
}

impl Globals {
    /// Fills in what is declared before the first stage. `architecture` is the machine's as Rust
    /// names it, such as `x86_64`.
    ///
    /// # Errors
    ///
    /// Where a default cannot be filled in: the line and why.
    pub fn new(
        declared: &[Argument],
        given: BTreeMap<String, String>,
        architecture: &str,
        escape: char,
    ) -> Result<Self, (u32, ExpandError)> {
        let mut globals =
            Self { given, platform: platform(architecture), declared: BTreeMap::new(), escape };
        for argument in declared {
            let value = match (globals.given.get(&argument.name), &argument.default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => {
                    let filled = globals.expand(default);
                    Some(filled.map_err(|error| (argument.line, error))?)
                }
                (None, None) => globals.platform.get(&argument.name).cloned(),
            };
            globals.declared.insert(argument.name.clone(), value);
        }
        Ok(globals)
    }

    /// Fills in what stands in a `FROM`.
    ///
    /// # Errors
    ///
    /// [`ExpandError`].
    pub fn expand(&self, text: &str) -> Result<String, ExpandError> {
        expand(text, self.escape, &|name| {
            let declared = self.declared.get(name).cloned().flatten();
            declared.or_else(|| self.platform.get(name).cloned())
        })
    }

    /// The platform that is built for, such as `linux/amd64`.
    #[must_use]
    pub fn platform(&self) -> &str {
        self.platform.get("TARGETPLATFORM").map_or("linux", String::as_str)
    }

    /// Names that were given and that nothing in `declared` asks for.
    pub fn unused(&self, mut declared: impl FnMut(&str) -> bool) -> impl Iterator<Item = &str> {
        self.given
            .keys()
            .map(String::as_str)
            .filter(move |name| !PREDEFINED.contains(name) && !declared(name))
    }
}

impl Scope {
    /// The variables at the start of a stage whose base image brings `env`.
    #[must_use]
    pub fn new(globals: &Globals, env: BTreeMap<String, String>) -> Self {
        Self { globals: globals.clone(), env, arguments: BTreeMap::new() }
    }

    /// `ARG`: what was given, else the default, else what is declared before the first stage.
    ///
    /// # Errors
    ///
    /// [`ExpandError`].
    pub fn declare(&mut self, argument: &Argument) -> Result<(), ExpandError> {
        let Globals { given, platform, declared, .. } = &self.globals;
        let value = match (given.get(&argument.name), &argument.default) {
            (Some(given), _) => Some(given.clone()),
            (None, Some(default)) => Some(self.expand(default)?),
            (None, None) => {
                let global = declared.get(&argument.name).cloned().flatten();
                global.or_else(|| platform.get(&argument.name).cloned())
            }
        };
        self.arguments.insert(argument.name.clone(), value);
        Ok(())
    }

    /// `ENV`: all values of one instruction see the variables before it.
    ///
    /// # Errors
    ///
    /// [`ExpandError`]; then nothing is set.
    pub fn set_env(&mut self, pairs: &[(String, String)]) -> Result<(), ExpandError> {
        let mut filled = Vec::with_capacity(pairs.len());
        for (name, value) in pairs {
            filled.push((self.expand(name)?, self.expand(value)?));
        }
        self.env.extend(filled);
        Ok(())
    }

    /// Fills variables in: the environment first, then the arguments.
    ///
    /// # Errors
    ///
    /// [`ExpandError`].
    pub fn expand(&self, text: &str) -> Result<String, ExpandError> {
        expand(text, self.globals.escape, &|name| self.get(name))
    }

    fn get(&self, name: &str) -> Option<String> {
        let argument = || self.arguments.get(name).cloned().flatten();
        self.env.get(name).cloned().or_else(argument)
    }

    /// The environment that the template keeps.
    #[must_use]
    pub fn env(&self) -> &BTreeMap<String, String> {
        &self.env
    }

    /// The environment of a command of the build: what is kept, and the arguments.
    #[must_use]
    pub fn of_commands(&self) -> BTreeMap<String, String> {
        let set = |(name, value): (&String, &Option<String>)| {
            value.as_ref().map(|value| (name.clone(), value.clone()))
        };
        let mut all: BTreeMap<_, _> = self.arguments.iter().filter_map(set).collect();
        let given = self.globals.given.iter();
        all.extend(
            given
                .filter(|(name, _)| PREDEFINED.contains(&name.as_str()))
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        all.extend(self.env.clone());
        all
    }

    /// What of it decides about a command's result: the same without the proxies.
    #[must_use]
    pub fn of_cache(&self) -> BTreeMap<String, String> {
        let mut all = self.of_commands();
        all.retain(|name, _| {
            !PREDEFINED.contains(&name.as_str())
                || self.env.contains_key(name)
                || self.arguments.contains_key(name)
        });
        all
    }
}

fn platform(architecture: &str) -> BTreeMap<String, String> {
    let (architecture, variant) = match architecture {
        "x86_64" => ("amd64", ""),
        "aarch64" => ("arm64", ""),
        other => (other, ""),
    };
    let mut platform = BTreeMap::new();
    for side in ["TARGET", "BUILD"] {
        platform.insert(format!("{side}PLATFORM"), format!("linux/{architecture}"));
        platform.insert(format!("{side}OS"), "linux".to_owned());
        platform.insert(format!("{side}ARCH"), architecture.to_owned());
        platform.insert(format!("{side}VARIANT"), variant.to_owned());
    }
    platform
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argument(name: &str, default: Option<&str>) -> Argument {
        Argument { line: 1, name: name.to_owned(), default: default.map(str::to_owned) }
    }

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn an_argument_is_what_was_given_else_its_default_else_the_global_one() {
        let declared = [argument("A", Some("1")), argument("B", Some("${A}2"))];
        let given = map(&[("C", "given"), ("HTTP_PROXY", "p"), ("LOST", "x")]);
        let globals = Globals::new(&declared, given, "x86_64", '\\').unwrap();
        assert_eq!(globals.expand("${B}-$TARGETARCH-$C").unwrap(), "12-amd64-");
        let mut scope = Scope::new(&globals, map(&[("PATH", "/bin")]));
        assert_eq!(scope.expand("$A$B$C$TARGETARCH").unwrap(), "", "nothing is declared yet");
        for declared in [
            argument("A", None),
            argument("B", Some("own")),
            argument("C", Some("no")),
            argument("TARGETARCH", None),
            argument("NEVER", None),
        ] {
            scope.declare(&declared).unwrap();
        }
        assert_eq!(scope.expand("$A,$B,$C,$TARGETARCH,$NEVER").unwrap(), "1,own,given,amd64,");
        scope.set_env(&[("A".into(), "$A$PATH".into()), ("D".into(), "$A".into())]).unwrap();
        assert_eq!(scope.env(), &map(&[("A", "1/bin"), ("D", "1"), ("PATH", "/bin")]));
        let commands = scope.of_commands();
        assert_eq!(commands.get("HTTP_PROXY").map(String::as_str), Some("p"));
        assert_eq!(commands.get("A").map(String::as_str), Some("1/bin"));
        assert!(!commands.contains_key("NEVER"));
        assert!(!scope.of_cache().contains_key("HTTP_PROXY"));
        assert_eq!(globals.unused(|name| name == "C").collect::<Vec<_>>(), ["LOST"]);
    }

    #[test]
    fn values_of_one_env_see_the_variables_before_it() {
        let globals = Globals::new(&[], BTreeMap::new(), "aarch64", '\\').unwrap();
        let mut scope = Scope::new(&globals, map(&[("A", "old")]));
        let pairs = [("A".to_owned(), "new".to_owned()), ("B".to_owned(), "$A".to_owned())];
        scope.set_env(&pairs).unwrap();
        assert_eq!(scope.env(), &map(&[("A", "new"), ("B", "old")]));
        assert_eq!(globals.platform(), "linux/arm64");
    }
}
