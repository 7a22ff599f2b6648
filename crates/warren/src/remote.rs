//! Which server a command talks to, when it is not this machine's own.

use std::path::{Path, PathBuf};

use warren_api::client::{ApiKey, Client, ClientError, Endpoint, RemoteError};

use crate::{
    config::Environment,
    error::{CliError, Kind},
};

/// What the flags say about the server.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct RemoteArgs {
    /// Use the server at this address, such as `https://sandboxes.example:8443`, instead of this
    /// machine's own; also WARREN_SERVER
    ///
    /// `http://HOST:PORT` and `unix:///PATH` are addresses too. No server is started. The API key
    /// is taken from WARREN_API_KEY and never from a flag, for other users of this machine can
    /// see flags; over plain http it is sent to this machine's loopback alone.
    #[arg(long, value_name = "URL", global = true, hide_short_help = true)]
    server: Option<String>,
    /// Trust the certificates in this PEM file too; also WARREN_CA
    #[arg(long, value_name = "FILE", global = true, hide_short_help = true)]
    ca: Option<PathBuf>,
    /// Work in this project instead of `default`; also WARREN_PROJECT
    ///
    /// On the server's own machine it may be any; with an API key it is the key's own.
    #[arg(long, value_name = "NAME", global = true, hide_short_help = true)]
    project: Option<String>,
}

impl RemoteArgs {
    /// The project that a flag or the environment names, if any.
    pub(crate) fn project<'a>(&'a self, environment: &'a Environment) -> Option<&'a str> {
        self.project.as_deref().or_else(|| environment.get("WARREN_PROJECT"))
    }
}

/// A server that was named.
#[derive(Clone, Debug)]
pub(crate) struct RemoteServer {
    endpoint: Endpoint,
    key: Option<ApiKey>,
    ca: Option<PathBuf>,
}

impl RemoteServer {
    /// The server that a flag or the environment names, if any. A flag is stronger.
    pub(crate) fn named(
        args: &RemoteArgs,
        environment: &Environment,
    ) -> Result<Option<Self>, CliError> {
        let ca = args.ca.clone().or_else(|| environment.get("WARREN_CA").map(PathBuf::from));
        let named = args.server.as_deref().or_else(|| environment.get("WARREN_SERVER"));
        let Some(named) = named else {
            return match args.ca {
                Some(_) => Err(CliError::usage("`--ca` is about a server that is named")
                    .hint("`--server https://HOST:PORT` names one")),
                None => Ok(None),
            };
        };
        let endpoint = named.parse().map_err(CliError::usage)?;
        let key = environment.get("WARREN_API_KEY").map(str::parse).transpose();
        let key = key.map_err(|error| CliError::usage(error).hint("WARREN_API_KEY holds it"))?;
        Ok(Some(Self { endpoint, key, ca }))
    }

    /// The address, as a person would write it.
    pub(crate) fn address(&self) -> String {
        self.endpoint.to_string()
    }

    /// A client of it.
    pub(crate) fn client(&self) -> Result<Client, CliError> {
        let ca = self.ca.as_deref().map(Path::to_owned);
        Client::remote(self.endpoint.clone(), self.key.as_ref(), ca.as_deref())
            .map_err(|error| CliError::new(Kind::Usage, error))
    }

    /// The refusal of a command that is about the machine it runs on.
    pub(crate) fn refuse(&self, command: &str) -> CliError {
        CliError::usage(format!(
            "`warren {command}` is about this machine, and {} was named",
            self.address()
        ))
        .hint("leave --server out, and WARREN_SERVER unset")
    }
}

/// What helps against not reaching a named server, where we know.
pub(crate) fn hint(error: &ClientError) -> Option<&'static str> {
    let ClientError::Connect { source } = error else { return None };
    Some(match source.get_ref()?.downcast_ref::<RemoteError>()? {
        RemoteError::Untrusted { .. } => {
            "`--ca FILE` trusts the certificates of a file as well; the host must be the one in \
             the certificate"
        }
        RemoteError::KeyInTheOpen { .. } => {
            "use https, or a tunnel that ends on this machine's loopback"
        }
        RemoteError::NobodyListens { .. } => {
            "`warren serve --listen ADDRESS` on that machine makes its server listen"
        }
        RemoteError::Tls { .. } => "a server without a certificate is at http://, not https://",
        RemoteError::Certificates { .. }
        | RemoteError::NoSuchHost { .. }
        | RemoteError::Unreachable { .. }
        | RemoteError::TooSlow { .. } => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(flag: Option<&str>, environment: &[(&str, &str)]) -> Result<Option<String>, String> {
        let args = RemoteArgs { server: flag.map(str::to_owned), ca: None, project: None };
        RemoteServer::named(&args, &Environment::of(environment))
            .map(|it| it.map(|it| it.address()))
            .map_err(|error| error.source.to_string())
    }

    #[test]
    fn a_flag_beats_the_environment() {
        assert_eq!(named(None, &[]), Ok(None));
        let environment = [("WARREN_SERVER", "https://a")];
        assert_eq!(named(None, &environment), Ok(Some("https://a".to_owned())));
        assert_eq!(named(Some("http://b:1"), &environment), Ok(Some("http://b:1".to_owned())));
    }

    #[test]
    fn a_key_is_never_repeated() {
        let environment = [("WARREN_SERVER", "https://a"), ("WARREN_API_KEY", "se cret")];
        let error = named(None, &environment).unwrap_err();
        assert!(error.contains("API key") && !error.contains("cret"), "{error}");
        let environment = Environment::of(&[("WARREN_API_KEY", "wrn_secret")]);
        let args = RemoteArgs { server: Some("https://a".to_owned()), ca: None, project: None };
        let server = RemoteServer::named(&args, &environment).unwrap().unwrap();
        assert!(!format!("{server:?}").contains("secret"));
    }
}
