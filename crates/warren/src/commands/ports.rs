//! `warren ports`

use std::process::ExitCode;

use super::Context;
use crate::error::CliError;

/// List the ports on which something in a sandbox listens
#[derive(clap::Args, Debug)]
pub(crate) struct PortsArgs {
    /// Its id or name
    sandbox: String,
}

pub(crate) async fn ports(cx: &Context<'_>, args: PortsArgs) -> Result<ExitCode, CliError> {
    let list = cx.client.list_ports(&args.sandbox).await?;
    if cx.output.json {
        cx.output.value(&list)?;
        return Ok(ExitCode::SUCCESS);
    }
    let reach = |loopback| if loopback { "its loopback" } else { "all its addresses" };
    let rows: Vec<_> = list
        .ports
        .iter()
        .map(|port| [port.port.to_string(), reach(port.loopback).to_owned()])
        .collect();
    cx.output.table(["PORT", "LISTENS ON"], &rows)?;
    Ok(ExitCode::SUCCESS)
}
