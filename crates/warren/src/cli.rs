//! The command line: what can be said, not what it does.

use std::{ffi::OsStr, io::Write as _, process::ExitCode};

use clap::{CommandFactory as _, Parser, Subcommand, error::ErrorKind};

use crate::{
    commands::{
        attach::AttachArgs, backup::BackupArgs, ca::CaArgs, completion::CompletionArgs, cp::CpArgs,
        create::CreateArgs, credential::CredentialArgs, diff::DiffArgs, doctor::DoctorArgs,
        domain::DomainArgs, events::EventsArgs, exec::ExecArgs, extend::ExtendArgs,
        files::FilesArgs, fork::ForkArgs, forward::ForwardArgs, git::GitCommandArgs,
        image::ImageArgs, info::InfoArgs, keep::KeepArgs, key::KeyArgs, kill::KillArgs,
        list::ListArgs, logs::LogsArgs, net::NetArgs, pause::PauseArgs, port::PortArgs,
        ports::PortsArgs, project::ProjectArgs, ps::PsArgs, resume::ResumeArgs, rm::RmArgs,
        rollback::RollbackArgs, run::RunArgs, secret::SecretArgs, selftest::SelftestArgs,
        serve::ServeArgs, setup::SetupArgs, shell::ShellArgs, snapshot::SnapshotArgs,
        start::StartArgs, stats::StatsArgs, stop::StopArgs, template::TemplateArgs,
        version::VersionArgs, volume::VolumeArgs,
    },
    config::Overrides,
    error::Kind,
    output::OutputArgs,
    remote::RemoteArgs,
};

/// The exit status of `run`, `exec` and `shell` when the command could not be run.
pub(crate) const COULD_NOT_RUN: u8 = 125;

/// Give every agent a computer of its own
///
/// Warren makes isolated Linux sandboxes in milliseconds, on this machine, without a daemon to
/// set up: the first command that needs a server starts one in the background.
#[derive(Parser, Debug)]
#[command(name = "warren", version, max_term_width = 100, subcommand_required = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    #[command(flatten)]
    pub(crate) overrides: Overrides,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Every command.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    Run(RunArgs),
    Create(CreateArgs),
    #[command(visible_alias = "ls")]
    List(ListArgs),
    Info(InfoArgs),
    Exec(ExecArgs),
    Shell(ShellArgs),
    Cp(CpArgs),
    Files(FilesArgs),
    Ps(PsArgs),
    Attach(AttachArgs),
    Kill(KillArgs),
    Logs(LogsArgs),
    Diff(DiffArgs),
    Git(GitCommandArgs),
    Rm(RmArgs),
    Pause(PauseArgs),
    Resume(ResumeArgs),
    Stop(StopArgs),
    Start(StartArgs),
    Extend(ExtendArgs),
    Snapshot(SnapshotArgs),
    Fork(ForkArgs),
    Rollback(RollbackArgs),
    Keep(KeepArgs),
    Stats(StatsArgs),
    Port(PortArgs),
    Forward(ForwardArgs),
    Ports(PortsArgs),
    Net(NetArgs),
    Events(EventsArgs),
    Image(ImageArgs),
    Volume(VolumeArgs),
    Secret(SecretArgs),
    Domain(DomainArgs),
    Credential(CredentialArgs),
    Serve(ServeArgs),
    Ca(CaArgs),
    Key(KeyArgs),
    Project(ProjectArgs),
    Template(TemplateArgs),
    Backup(BackupArgs),
    Doctor(DoctorArgs),
    Setup(SetupArgs),
    Completion(CompletionArgs),
    Selftest(SelftestArgs),
    Version(VersionArgs),
}

impl Command {
    /// Its name, where it is about the machine it runs on and not about a server somewhere.
    pub(crate) fn about_this_machine(&self) -> Option<&'static str> {
        match self {
            Self::Serve(_) => Some("serve"),
            Self::Doctor(_) => Some("doctor"),
            Self::Setup(_) => Some("setup"),
            Self::Ca(_) => Some("ca"),
            _ => None,
        }
    }

    /// How failures of this command become exit statuses.
    ///
    /// Those that pass on the exit status of somebody else's command have one of their own for
    /// "it could not be run", so that the two can be told apart.
    pub(crate) fn failed_status(&self) -> fn(Kind) -> u8 {
        match self {
            Self::Run(_) | Self::Exec(_) | Self::Shell(_) | Self::Attach(_) => |kind| match kind {
                Kind::BrokenPipe | Kind::Interrupted(_) => kind.status(),
                Kind::Usage | Kind::Refused(_) | Kind::Unreachable | Kind::Local => COULD_NOT_RUN,
            },
            _ => Kind::status,
        }
    }
}

/// Answers a command line that was not understood, or that asked for help or the version.
pub(crate) fn refuse(error: &clap::Error) -> ExitCode {
    let printed = error.print();
    let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if asked || printed.is_err() {
        drop(std::io::stdout().flush()); // a reader that left early has what it wanted
        return ExitCode::SUCCESS;
    }
    let runs = std::env::args_os().skip(1).find_map(|word| passes_on(&word)).unwrap_or(false);
    ExitCode::from(if runs { COULD_NOT_RUN } else { Kind::Usage.status() })
}

/// Whether a command of this name passes on the exit status of another's; `None` where there is no
/// such command, as with the value of a flag before it.
fn passes_on(word: &OsStr) -> Option<bool> {
    let commands = Cli::command();
    let names = commands.get_subcommands().flat_map(|it| {
        let name = it.get_name();
        std::iter::once(name).chain(it.get_all_aliases()).map(move |alias| (alias, name))
    });
    let (_, name) = names.into_iter().find(|(alias, _)| word == OsStr::new(alias))?;
    Some(["run", "exec", "shell", "attach"].contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    /// Help of every command, as `docs/cli.md` has it.
    fn page() -> String {
        let mut page = String::from(
            "# The command line\n\n<!-- Generated from crates/warren/src/commands. To write it anew:\n     \
             UPDATE=1 cargo test -p warren cli_page -->\n",
        );
        let mut root = Cli::command().term_width(96);
        root.build();
        page.push_str(&format!("\n## `warren`\n\n```text\n{}```\n", trimmed(&mut root)));
        add_commands(&mut page, "warren", &mut root);
        page
    }

    fn add_commands(page: &mut String, parent: &str, command: &mut clap::Command) {
        for command in command.get_subcommands_mut().filter(|it| it.get_name() != "help") {
            let (name, help) = (format!("{parent} {}", command.get_name()), trimmed(command));
            page.push_str(&format!("\n## `{name}`\n\n```text\n{help}```\n"));
            add_commands(page, &name, command);
        }
    }

    #[test]
    fn a_command_is_told_from_the_values_before_it() {
        assert_eq!(passes_on(OsStr::new("run")), Some(true));
        assert_eq!(passes_on(OsStr::new("ls")), Some(false));
        assert_eq!(passes_on(OsStr::new("https://a")), None);
    }

    fn trimmed(command: &mut clap::Command) -> String {
        let help = command.render_long_help().to_string();
        help.lines().map(|line| format!("{}\n", line.trim_end())).collect()
    }

    #[test]
    fn the_cli_page_is_what_help_says() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");
        crate::golden::check(file, &page());
    }
}
