//! `warren ca`

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::json;
use warren_tls::local::{self, Authority};

use super::Setup;
use crate::{
    config::Config,
    dirs::Dirs,
    error::{CliError, Kind},
};

mod trust;

/// Make a certificate authority of this machine's own, and trust it
///
/// For development: with `tls=local` the server signs its own certificates with it, for the names
/// that it was made for and for this machine. Nobody else believes them. What it signs for any
/// other name is good nowhere.
#[derive(clap::Args, Debug)]
pub(crate) struct CaArgs {
    #[command(subcommand)]
    command: CaCommand,
}

#[derive(clap::Subcommand, Debug)]
enum CaCommand {
    Init(InitArgs),
    Show(ShowArgs),
    Trust(TrustArgs),
}

/// Make the authority
///
/// Its key stays in the data directory, where its owner alone can read it. It is good for ten
/// years, for `localhost`, for the domains named here and for what is below them.
#[derive(clap::Args, Debug)]
struct InitArgs {
    /// Domains that it may sign for beside `localhost` (default: those of `tls_names`)
    #[arg(value_name = "DOMAIN")]
    domains: Vec<String>,
}

/// Print the authority's certificate, for whatever is to trust it
#[derive(clap::Args, Debug)]
struct ShowArgs {}

/// Let this machine's programs and browsers trust the authority
///
/// It goes into the system's bundle, which is for root to do, and into the databases of browsers
/// of this user where `certutil` is installed. First all of it is listed and asked about.
#[derive(clap::Args, Debug)]
struct TrustArgs {
    /// Take it out again
    #[arg(long)]
    undo: bool,
    /// Ask nothing
    #[arg(long, short)]
    yes: bool,
    /// Where the system is, for images of systems and tests
    #[arg(long, value_name = "DIRECTORY", default_value = "/", hide = true)]
    root: PathBuf,
}

pub(crate) fn ca(setup: &Setup<'_>, args: CaArgs, config: &Config) -> Result<ExitCode, CliError> {
    let dirs =
        Dirs::open(config, setup.environment).map_err(|error| CliError::new(Kind::Local, error))?;
    match args.command {
        CaCommand::Init(args) => init(setup, args, config, &dirs),
        CaCommand::Show(ShowArgs {}) => show(setup, &dirs),
        CaCommand::Trust(args) => trust(setup, &args, &dirs),
    }
}

fn init(
    setup: &Setup<'_>,
    args: InitArgs,
    config: &Config,
    dirs: &Dirs,
) -> Result<ExitCode, CliError> {
    let domains = match args.domains {
        named if named.is_empty() => {
            let names = config.tls_names.0.iter();
            names.map(|name| name.trim_start_matches("*.").to_owned()).collect()
        }
        named => named.iter().map(|it| it.to_ascii_lowercase()).collect::<Vec<_>>(),
    };
    let made = Authority::create(&dirs.data, &domains).map_err(|error| {
        let hint = matches!(error, local::LocalError::Exists { .. }).then_some(
            "`warren ca show` prints it; to make another, take trust back with \
             `warren ca trust --undo` and remove that file",
        );
        let error = CliError::new(Kind::Local, error);
        hint.into_iter().fold(error, CliError::hint)
    })?;
    if setup.output.json {
        setup.output.value(&about(&made, dirs))?;
        return Ok(ExitCode::SUCCESS);
    }
    setup.output.talk(&format!("made {}", made.name()));
    setup.output.talk("`warren ca trust` lets this machine trust it");
    setup.output.talk("`--set tls=local` makes the server use it");
    Ok(ExitCode::SUCCESS)
}

fn show(setup: &Setup<'_>, dirs: &Dirs) -> Result<ExitCode, CliError> {
    let authority = open(&dirs.data)?;
    if setup.output.json {
        setup.output.value(&about(&authority, dirs))?;
    } else {
        setup.output.line(authority.pem().trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn about(authority: &Authority, dirs: &Dirs) -> serde_json::Value {
    let (_, certificate) = local::files(&dirs.data);
    json!({
        "name": authority.name(),
        "domains": authority.domains(),
        "expires_at": authority.until(),
        "file": certificate,
        "certificate": authority.pem(),
    })
}

fn open(data: &Path) -> Result<Authority, CliError> {
    let found = Authority::open(data).map_err(|error| CliError::new(Kind::Local, error))?;
    found.ok_or_else(|| {
        CliError::new(Kind::Local, "there is no local authority").hint("`warren ca init` makes one")
    })
}

fn trust(setup: &Setup<'_>, args: &TrustArgs, dirs: &Dirs) -> Result<ExitCode, CliError> {
    let authority = open(&dirs.data)?;
    let (_, certificate) = local::files(&dirs.data);
    let home = setup.environment.get("HOME").map(Path::new);
    let plan = trust::plan(&args.root, home, &authority.name(), &certificate, args.undo);
    for note in &plan.notes {
        setup.output.talk(&format!("note: {note}"));
    }
    if plan.steps.is_empty() {
        let error = "there is nothing here that could be told whom to trust";
        return Err(CliError::new(Kind::Local, error)
            .hint("`warren ca show` prints the certificate for whatever is to trust it"));
    }
    if !args.yes && !confirmed(setup, &plan)? {
        setup.output.talk("nothing was changed");
        return Ok(ExitCode::FAILURE);
    }
    let done = trust::carry_out(&plan, authority.pem());
    if setup.output.json {
        let steps = plan.steps.iter().map(trust::Step::text).collect::<Vec<_>>();
        setup.output.value(&json!({ "done": steps.get(..done.count), "failed": done.failures }))?;
    }
    for failure in &done.failures {
        setup.output.warn(failure);
    }
    if !done.failures.is_empty() {
        let error = CliError::new(Kind::Local, "not everything could be done");
        let hint = "the system's bundle is for root: sudo warren --set data_dir=DIRECTORY ca trust, \
                    with this user's data directory";
        return Err(error.hint(hint));
    }
    let what = if args.undo { "is trusted here no more" } else { "is trusted here" };
    setup.output.talk(&format!("{} {what}", authority.name()));
    Ok(ExitCode::SUCCESS)
}

/// Lists what will be done, and asks.
fn confirmed(setup: &Setup<'_>, plan: &trust::Plan) -> Result<bool, CliError> {
    if !io::stdin().is_terminal() {
        let error = "this changes whom this machine trusts, and nobody can be asked";
        return Err(CliError::usage(error).hint("`--yes` says that this is meant"));
    }
    // Also with --quiet: nobody can agree to what they were not told.
    for step in &plan.steps {
        setup.output.line(&format!("  {}", step.text()))?;
    }
    setup.output.line("do all of it? [y/N]")?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(CliError::local("read the answer"))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
