//! `warren version`

use std::process::ExitCode;

use warren_api::client::{Client, ClientError, UnixSocket};

use super::{Setup, block_on};
use crate::{config::Config, dirs::Dirs, error::CliError, error::Kind};

/// Show the version of this program, and of the server if one runs
#[derive(clap::Args, Debug)]
pub(crate) struct VersionArgs {}

pub(crate) fn version(
    setup: &Setup<'_>,
    _args: &VersionArgs,
    config: &Config,
) -> Result<ExitCode, CliError> {
    let dirs =
        Dirs::open(config, setup.environment).map_err(|error| CliError::new(Kind::Local, error))?;
    let ours = crate::version::version();
    let server = match block_on(Client::new(UnixSocket(dirs.socket())).version())? {
        Ok(server) => Some(server),
        Err(ClientError::Connect { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    if setup.output.json {
        // Clients that are no `warren` learn here where the API listens.
        let value =
            serde_json::json!({ "version": ours, "socket": dirs.socket(), "server": server });
        setup.output.value(&value)?;
        return Ok(ExitCode::SUCCESS);
    }
    setup.output.line(&format!("warren {ours}"))?;
    match server {
        Some(server) => {
            let (version, runtime) = (server.version, server.runtime.name);
            setup.output.line(&format!("server {version}, runtime {runtime}"))?;
        }
        None => setup.output.line("no server runs")?,
    }
    Ok(ExitCode::SUCCESS)
}
