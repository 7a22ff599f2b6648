//! The environment of this process, read once.

use std::collections::BTreeMap;

/// Variables of ours that are no settings: where the configuration is, what builds use,
/// what commands inside a sandbox are told, where a `warren` may run too, and which server a
/// client talks to and how, and a secret that no list of settings should show.
const NOT_SETTINGS: [&str; 9] = [
    "CONFIG",
    "AGENT_BIN",
    "EXEC_ID",
    "SERVER",
    "API_KEY",
    "CA",
    "PROJECT",
    "ACME_DNS_TOKEN",
    "GIT_TOKEN",
];

/// What is for clients alone: a server that a command starts needs none of it, least of all a key.
const FOR_CLIENTS: [&str; 5] =
    ["WARREN_SERVER", "WARREN_API_KEY", "WARREN_CA", "WARREN_PROJECT", "WARREN_GIT_TOKEN"];

/// The variables this program was started with. What is not UTF-8 is left out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Reads the environment of this process.
    #[expect(clippy::disallowed_methods, reason = "the one place where it is read")]
    pub(crate) fn read() -> Self {
        let pairs = std::env::vars_os();
        Self(
            pairs
                .filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?)))
                .collect(),
        )
    }

    #[cfg(test)]
    pub(crate) fn of(pairs: &[(&str, &str)]) -> Self {
        Self(pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
    }

    /// A variable; an empty one is as good as none.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A variable as it is, also an empty one.
    pub(crate) fn exactly(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The `WARREN_*` variables that are meant as settings, without that prefix.
    ///
    /// Cluster managers describe a service named `warren` by variables such as
    /// `WARREN_SERVICE_HOST` and `WARREN_PORT_80_TCP`: those are not for us.
    pub(super) fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|(name, value)| {
            let name = name.strip_prefix("WARREN_")?;
            let ours = !NOT_SETTINGS.contains(&name)
                && !name.starts_with("SERVICE_")
                && name.split('_').next() != Some("PORT");
            (ours && !value.is_empty()).then_some((name, value.as_str()))
        })
    }

    /// What a background server needs of it, as `NAME=value`: where things are, and our settings.
    pub(crate) fn for_server(&self) -> Vec<String> {
        const KEPT: [&str; 17] = [
            "HOME",
            "PATH",
            "USER",
            "XDG_DATA_HOME",
            "XDG_CONFIG_HOME",
            "XDG_RUNTIME_DIR",
            "TZ",
            // How registries and other programs are reached, and with which credentials.
            "DOCKER_CONFIG",
            "DOCKER_HOST",
            "CONTAINERD_ADDRESS",
            "CONTAINERD_NAMESPACE",
            "HTTPS_PROXY",
            "https_proxy",
            "HTTP_PROXY",
            "http_proxy",
            "NO_PROXY",
            "no_proxy",
        ];
        let ours = |name: &str| name.starts_with("WARREN_") && !FOR_CLIENTS.contains(&name);
        let kept = |name: &str| KEPT.contains(&name) || ours(name);
        self.0.iter().filter(|(name, _)| kept(name)).map(|(n, v)| format!("{n}={v}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_is_named_like_us_is_no_setting() {
        let environment = Environment::of(&[
            ("WARREN_SERVICE_HOST", "10.0.0.1"),
            ("WARREN_PORT", "tcp://10.0.0.1:80"),
            ("WARREN_PORT_80_TCP_ADDR", "10.0.0.1"),
            ("WARREN_CONFIG", "/a"),
            ("WARREN_PIDS", "7"),
            ("WARREN_MEMORY", ""),
        ]);
        assert_eq!(environment.settings().collect::<Vec<_>>(), [("PIDS", "7")]);
    }

    #[test]
    fn a_server_gets_no_secrets_of_the_shell_that_started_it() {
        let environment = Environment::of(&[
            ("AWS_SECRET", "x"),
            ("WARREN_PIDS", "7"),
            ("HOME", "/h"),
            ("WARREN_API_KEY", "wrn_x"),
        ]);
        assert_eq!(environment.for_server(), ["HOME=/h", "WARREN_PIDS=7"]);
    }
}
