//! `warren version`

use std::process::ExitCode;

use serde_json::Value;
use warren_api::{
    client::{Client, ClientError, UnixSocket},
    server::Version,
};

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
    let ours = crate::version::version();
    let (place, server) = match setup.remote {
        Some(remote) => {
            let server = block_on(remote.client()?.version())??;
            (("url", remote.address().into()), Some(server))
        }
        None => local(setup, config)?,
    };
    if setup.output.json {
        // Clients that are no `warren` learn here where the API listens.
        let mut value = serde_json::json!({ "version": ours, "server": server });
        if let Some(object) = value.as_object_mut() {
            object.insert(place.0.to_owned(), place.1);
        }
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

/// Where this user's own server listens, as a name and a value, and what it is if it runs.
fn local(
    setup: &Setup<'_>,
    config: &Config,
) -> Result<((&'static str, Value), Option<Version>), CliError> {
    let dirs =
        Dirs::open(config, setup.environment).map_err(|error| CliError::new(Kind::Local, error))?;
    let socket = dirs.socket().to_string_lossy().into_owned();
    let server = match block_on(Client::new(UnixSocket(dirs.socket())).version())? {
        Ok(server) => Some(server),
        Err(ClientError::Connect { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    Ok((("socket", socket.into()), server))
}
