//! `warren domain`

use std::process::ExitCode;

use warren_api::{
    client::ClientError,
    domain::{Domain, SetDomain},
};

use super::Context;
use crate::error::CliError;

/// Let domains of your own lead to ports of sandboxes
///
/// A domain is served once it was shown to be yours: by a TXT record, or by a CNAME to the
/// sandbox's own name.
#[derive(clap::Args, Debug)]
pub(crate) struct DomainArgs {
    #[command(subcommand)]
    command: DomainCommand,
}

/// What to do with domains.
#[derive(clap::Subcommand, Debug)]
enum DomainCommand {
    Add(AddArgs),
    Verify(VerifyArgs),
    #[command(visible_alias = "ls")]
    List(ListArgs),
    Rm(RmArgs),
}

/// Let a domain lead to a port of a sandbox, or one that is there lead elsewhere
///
/// Prints the record that shows that it is yours, and looks whether it is there.
#[derive(clap::Args, Debug)]
struct AddArgs {
    /// The domain, such as `app.example.com`
    domain: String,
    /// The sandbox's id or name
    sandbox: String,
    /// The port there
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Let visitors in without a token
    #[arg(long)]
    public: bool,
    /// Serve it without a proof, which is for the user who runs the server
    #[arg(long)]
    unchecked: bool,
}

/// Look whether domains are shown to be yours
#[derive(clap::Args, Debug)]
struct VerifyArgs {
    /// The domains
    #[arg(required = true, value_name = "DOMAIN")]
    domains: Vec<String>,
}

/// List domains
#[derive(clap::Args, Debug)]
struct ListArgs {}

/// Remove domains: they lead nowhere any more
#[derive(clap::Args, Debug)]
struct RmArgs {
    /// The domains
    #[arg(required = true, value_name = "DOMAIN")]
    domains: Vec<String>,
}

pub(crate) async fn domain(cx: &Context<'_>, args: DomainArgs) -> Result<ExitCode, CliError> {
    match args.command {
        DomainCommand::Add(args) => add(cx, args).await,
        DomainCommand::Verify(args) => verify(cx, args).await,
        DomainCommand::List(ListArgs {}) => list(cx).await,
        DomainCommand::Rm(args) => rm(cx, args).await,
    }
}

async fn add(cx: &Context<'_>, args: AddArgs) -> Result<ExitCode, CliError> {
    let AddArgs { domain, sandbox, port, public, unchecked } = args;
    let wanted = SetDomain { sandbox, port, public, unchecked };
    let mut added = cx.client.set_domain(&domain, &wanted).await?;
    if !added.verified {
        // The record may be there: a name that was removed and added again, or a CNAME.
        match cx.client.verify_domain(&added.name).await {
            Ok(verified) => added = verified,
            Err(ClientError::Refused(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if cx.output.json {
        cx.output.value(&added)?;
    } else if added.verified {
        let Domain { name, sandbox, port, .. } = &added;
        cx.output.talk(&format!("{name} leads to port {port} of {sandbox}"));
    } else {
        cx.output.line(&format!("{}. TXT \"{}\"", added.record_name, added.record_text))?;
        cx.output.talk("with this record in its zone the domain is shown to be yours; then:");
        cx.output.talk(&format!("  warren domain verify {}", added.name));
    }
    Ok(ExitCode::SUCCESS)
}

async fn verify(cx: &Context<'_>, args: VerifyArgs) -> Result<ExitCode, CliError> {
    let mut verified = Vec::new();
    for name in &args.domains {
        let domain = cx.client.verify_domain(name).await?;
        cx.output.talk(&format!("{} is served", domain.name));
        verified.push(domain);
    }
    if cx.output.json {
        cx.output.value(&verified)?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(cx: &Context<'_>) -> Result<ExitCode, CliError> {
    let list = cx.client.list_domains().await?;
    if cx.output.json {
        cx.output.value(&list)?;
    } else if cx.output.quiet {
        for domain in &list.domains {
            cx.output.line(&domain.name)?;
        }
    } else {
        let rows: Vec<_> = list.domains.iter().map(row).collect();
        cx.output.table(["DOMAIN", "SANDBOX", "PORT", "VISITORS", "STATUS"], &rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(domain: &Domain) -> [String; 5] {
    [
        domain.name.clone(),
        domain.sandbox.clone(),
        domain.port.to_string(),
        if domain.public { "everybody" } else { "with a token" }.to_owned(),
        status(domain).to_owned(),
    ]
}

fn status(domain: &Domain) -> &'static str {
    match &domain.certificate {
        _ if !domain.verified => "to be verified",
        Some(it) if it.failure.is_some() && it.expires_at.is_none() => "no certificate: failed",
        Some(it) if it.failure.is_some() => "served, renewal failed",
        Some(it) if it.expires_at.is_none() => "being certified",
        _ => "served",
    }
}

async fn rm(cx: &Context<'_>, args: RmArgs) -> Result<ExitCode, CliError> {
    for name in &args.domains {
        cx.client.delete_domain(name).await?;
        cx.output.talk(&format!("removed {name}"));
    }
    Ok(ExitCode::SUCCESS)
}
