//! `warren serve`

use std::{path::PathBuf, process::ExitCode};

use super::{Setup, block_on};
use crate::{
    background,
    config::{Address, Addresses, Config},
    dirs::Dirs,
    error::{CliError, Kind},
    serve,
};

/// Run the server in the foreground
///
/// Commands start a server by themselves, so this is for service managers and for looking at what
/// it does. One that a command has started is asked to end first. Sandboxes live on when it ends;
/// the next server finds them.
#[derive(clap::Args, Debug)]
pub(crate) struct ServeArgs {
    /// End the server that runs, and wait until it has ended
    #[arg(long)]
    stop: bool,
    /// Listen on this TCP address too, such as `127.0.0.1` or `[::]:7423`; may be repeated
    ///
    /// Clients there show an API key, which `warren key create` makes. Without a port it is 7423.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "stop")]
    listen: Vec<Address>,
    /// Ask clients on TCP for no key; for loopback addresses alone
    #[arg(long, conflicts_with = "stop")]
    no_auth: bool,
    /// Speak TLS on TCP, with the certificate in this PEM file
    #[arg(long, value_name = "FILE", conflicts_with = "stop")]
    tls_cert: Option<PathBuf>,
    /// The certificate's key, in a PEM file
    #[arg(long, value_name = "FILE", conflicts_with = "stop")]
    tls_key: Option<PathBuf>,
    /// Be the server that a command has started: its listener and lock are already open
    #[arg(long, hide = true, conflicts_with = "stop")]
    background: bool,
}

impl ServeArgs {
    /// The settings, with what the flags say over them.
    fn over(&self, config: &Config) -> Result<Config, CliError> {
        let mut config = config.clone();
        if !self.listen.is_empty() {
            config.listen = Addresses(self.listen.clone());
        }
        config.no_auth |= self.no_auth;
        let absolute = |file: &Option<PathBuf>, setting: Option<PathBuf>| match file {
            Some(file) => std::path::absolute(file).map(Some),
            None => Ok(setting),
        };
        config.tls_cert = absolute(&self.tls_cert, config.tls_cert)
            .map_err(CliError::local("find the certificate"))?;
        config.tls_key =
            absolute(&self.tls_key, config.tls_key).map_err(CliError::local("find the key"))?;
        let about_tcp = self.no_auth || self.tls_cert.is_some() || self.tls_key.is_some();
        if about_tcp && config.listen.0.is_empty() {
            let error = "this is about TCP, and the server listens on no TCP address";
            return Err(CliError::usage(error).hint("`--listen 127.0.0.1` names one"));
        }
        Ok(config)
    }
}

pub(crate) fn serve(
    setup: &Setup<'_>,
    args: &ServeArgs,
    config: &Config,
) -> Result<ExitCode, CliError> {
    let local = |error| CliError::new(Kind::Local, error);
    if args.stop {
        // Where no server ever was, or everything was taken back, nothing is made to look at.
        let located = Dirs::locate(config, setup.environment).map_err(local)?;
        if !located.lock().exists() {
            setup.output.talk("no server was running");
            return Ok(ExitCode::SUCCESS);
        }
    }
    let dirs = Dirs::open(config, setup.environment).map_err(local)?;
    if args.stop {
        let stopped = block_on(background::stop(&dirs))??;
        setup.output.talk(if stopped { "the server has ended" } else { "no server was running" });
        return Ok(ExitCode::SUCCESS);
    }
    let config = &args.over(config)?;
    let post = if args.background {
        serve::Post::inherited().map_err(CliError::local("take over the listener"))?
    } else {
        serve::Post::claimed(&dirs)?
    };
    let manager = serve::Manager::at(setup.environment.get("NOTIFY_SOCKET"));
    serve::serve(config, setup.environment, &dirs, post, &manager)?;
    Ok(ExitCode::SUCCESS)
}
