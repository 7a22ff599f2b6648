//! The commands, one file each. They hold no policy: a command is a few calls of the API.

pub(crate) mod attach;
pub(crate) mod backup;
pub(crate) mod ca;
pub(crate) mod completion;
pub(crate) mod cp;
pub(crate) mod create;
pub(crate) mod credential;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod domain;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod extend;
pub(crate) mod files;
pub(crate) mod fork;
pub(crate) mod forward;
pub(crate) mod git;
pub(crate) mod image;
pub(crate) mod info;
pub(crate) mod keep;
pub(crate) mod key;
pub(crate) mod kill;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod net;
pub(crate) mod pause;
pub(crate) mod port;
pub(crate) mod ports;
pub(crate) mod project;
pub(crate) mod ps;
pub(crate) mod resume;
pub(crate) mod rm;
pub(crate) mod rollback;
pub(crate) mod run;
pub(crate) mod secret;
pub(crate) mod selftest;
pub(crate) mod serve;
pub(crate) mod setup;
pub(crate) mod shell;
pub(crate) mod snapshot;
mod snapshot_transfer;
pub(crate) mod start;
pub(crate) mod stats;
pub(crate) mod stop;
pub(crate) mod template;
pub(crate) mod version;
pub(crate) mod volume;

mod copying;

mod exposed;

mod making;

mod mounts;

mod pulling;

mod reach;

mod variables;

mod wanted;

use std::{process::ExitCode, sync::Arc};

use warren_api::{client::Client, sandbox::Sandbox};

use crate::{
    background::LocalServer,
    cli::{Cli, Command},
    config::{self, Config, Environment, Overrides},
    dirs::Dirs,
    error::{CliError, Kind},
    output::{self, Output},
    remote::RemoteServer,
};

/// What a command has to work with.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) output: Output,
    pub(crate) environment: &'a Environment,
    pub(crate) client: Client,
    server: Server,
}

/// Whose server a command talks to.
#[derive(Clone, Debug)]
enum Server {
    /// This user's on this machine, started if need be.
    Local(Arc<LocalServer>, Dirs),
    /// One that was named.
    Remote,
}

impl Context<'_> {
    /// Says what sandboxes lack on this machine, once for each server and not for each sandbox.
    fn say_what_is_weaker(&self, sandbox: &Sandbox) {
        // Of a named server its owner knows.
        if let Server::Local(server, _) = &self.server
            && server.was_started()
        {
            for warning in &sandbox.warnings {
                self.output.talk(&format!("note: {warning}"));
            }
        }
    }

    /// Waits for `work`, and says so to a person who has waited for half a second.
    pub(crate) async fn wait<T>(&self, text: &str, work: impl Future<Output = T>) -> T {
        output::waiting(self.output, text, work).await
    }

    /// Says what a sandbox is doing now.
    fn show_state(&self, sandbox: &Sandbox) -> Result<(), CliError> {
        if self.output.json {
            return self.output.value(sandbox);
        }
        self.output.talk(&format!("{} is {}", sandbox.id, sandbox.state));
        Ok(())
    }

    /// Where the server's files are, if they are this machine's.
    fn dirs(&self) -> Option<&Dirs> {
        match &self.server {
            Server::Local(_, dirs) => Some(dirs),
            Server::Remote => None,
        }
    }

    /// Whether the server's files are this machine's.
    fn is_local(&self) -> bool {
        self.dirs().is_some()
    }
}

/// Runs a command and gives its exit status.
pub(crate) fn run(
    cli: Cli,
    environment: &Environment,
    output: Output,
) -> Result<ExitCode, CliError> {
    let is_root = rustix::process::geteuid().is_root();
    let loaded = config::load(environment, &cli.overrides, is_root);
    let remote = RemoteServer::named(&cli.remote, environment)?;
    let project = cli.remote.project(environment);
    let (overrides, remote) = (&cli.overrides, remote.as_ref());
    let setup = Setup { environment, overrides, remote, project, output };
    if let (Some(remote), Some(name)) = (remote, cli.command.about_this_machine()) {
        return Err(remote.refuse(name));
    }
    match cli.command {
        // The doctor also tells what is wrong with the configuration.
        Command::Doctor(args) => doctor::doctor(&setup, args, loaded),
        Command::Setup(args) => setup::setup(&setup, args, &loaded?),
        Command::Ca(args) => ca::ca(&setup, args, &loaded?),
        Command::Serve(args) => serve::serve(&setup, &args, &loaded?),
        Command::Run(args) => setup.client(&loaded?, async |cx| run::run(cx, args).await),
        Command::Create(args) => setup.client(&loaded?, async |cx| create::create(cx, args).await),
        Command::List(args) => setup.client(&loaded?, async |cx| list::list(cx, args).await),
        Command::Info(args) => setup.client(&loaded?, async |cx| info::info(cx, args).await),
        Command::Exec(args) => setup.client(&loaded?, async |cx| exec::exec(cx, args).await),
        Command::Shell(args) => setup.client(&loaded?, async |cx| shell::shell(cx, args).await),
        Command::Cp(args) => setup.client(&loaded?, async |cx| cp::cp(cx, args).await),
        Command::Files(args) => setup.client(&loaded?, async |cx| files::files(cx, args).await),
        Command::Ps(args) => setup.client(&loaded?, async |cx| ps::ps(cx, args).await),
        Command::Attach(args) => setup.client(&loaded?, async |cx| attach::attach(cx, args).await),
        Command::Kill(args) => setup.client(&loaded?, async |cx| kill::kill(cx, args).await),
        Command::Events(args) => setup.client(&loaded?, async |cx| events::events(cx, args).await),
        Command::Image(args) => setup.client(&loaded?, async |cx| image::image(cx, args).await),
        Command::Completion(args) => completion::completion(&setup, &args),
        Command::Rm(args) => setup.client(&loaded?, async |cx| rm::rm(cx, args).await),
        Command::Pause(args) => setup.client(&loaded?, async |cx| pause::pause(cx, args).await),
        Command::Resume(args) => setup.client(&loaded?, async |cx| resume::resume(cx, args).await),
        Command::Stop(args) => setup.client(&loaded?, async |cx| stop::stop(cx, args).await),
        Command::Snapshot(args) => {
            setup.client(&loaded?, async |cx| snapshot::snapshot(cx, args).await)
        }
        Command::Fork(args) => setup.client(&loaded?, async |cx| fork::fork(cx, args).await),
        Command::Rollback(args) => {
            setup.client(&loaded?, async |cx| rollback::rollback(cx, args).await)
        }
        Command::Keep(args) => setup.client(&loaded?, async |cx| keep::keep(cx, args).await),
        Command::Start(args) => setup.client(&loaded?, async |cx| start::start(cx, args).await),
        Command::Extend(args) => setup.client(&loaded?, async |cx| extend::extend(cx, args).await),
        Command::Stats(args) => setup.client(&loaded?, async |cx| stats::stats(cx, args).await),
        Command::Port(args) => setup.client(&loaded?, async |cx| port::port(cx, args).await),
        Command::Forward(args) => {
            setup.client(&loaded?, async |cx| forward::forward(cx, args).await)
        }
        Command::Ports(args) => setup.client(&loaded?, async |cx| ports::ports(cx, args).await),
        Command::Net(args) => setup.client(&loaded?, async |cx| net::net(cx, args).await),
        Command::Git(args) => setup.client(&loaded?, async |cx| git::git(cx, args).await),
        Command::Diff(args) => setup.client(&loaded?, async |cx| diff::diff(cx, args).await),
        Command::Logs(args) => setup.client(&loaded?, async |cx| logs::logs(cx, args).await),
        Command::Selftest(args) => {
            setup.client(&loaded?, async |cx| selftest::selftest(cx, args).await)
        }
        Command::Key(args) => setup.client(&loaded?, async |cx| key::key(cx, args).await),
        Command::Template(args) => {
            setup.client(&loaded?, async |cx| template::template(cx, args).await)
        }
        Command::Project(args) => {
            setup.client(&loaded?, async |cx| project::project(cx, args).await)
        }
        Command::Domain(args) => setup.client(&loaded?, async |cx| domain::domain(cx, args).await),
        Command::Volume(args) => setup.client(&loaded?, async |cx| volume::volume(cx, args).await),
        Command::Credential(args) => {
            setup.client(&loaded?, async |cx| credential::credential(cx, args).await)
        }
        Command::Secret(args) => setup.client(&loaded?, async |cx| secret::secret(cx, args).await),
        Command::Backup(args) => setup.client(&loaded?, async |cx| backup::backup(cx, args).await),
        Command::Version(args) => version::version(&setup, &args, &loaded?),
    }
}

/// What is known before a command runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup<'a> {
    pub(crate) environment: &'a Environment,
    pub(crate) overrides: &'a Overrides,
    /// The server that was named, if any.
    pub(crate) remote: Option<&'a RemoteServer>,
    /// The project that was named, if any.
    pub(crate) project: Option<&'a str>,
    pub(crate) output: Output,
}

impl Setup<'_> {
    /// Runs a command that is a client of the server, on this thread alone: a pool of threads
    /// would cost more than the whole command.
    fn client(
        &self,
        config: &Config,
        command: impl AsyncFnOnce(&Context<'_>) -> Result<ExitCode, CliError>,
    ) -> Result<ExitCode, CliError> {
        let (client, server) = match self.remote {
            Some(remote) => (remote.client()?, Server::Remote),
            None => self.local(config)?,
        };
        let client = match self.project {
            Some(name) => client.in_project(name)?,
            None => client,
        };
        let cx = Context { output: self.output, environment: self.environment, client, server };
        let result = block_on(command(&cx))?;
        result.map_err(|error| match &cx.server {
            Server::Local(server, dirs) => with_last_words(error, server, dirs),
            Server::Remote => error,
        })
    }

    /// This user's own server, and a client of it.
    fn local(&self, config: &Config) -> Result<(Client, Server), CliError> {
        let dirs = Dirs::open(config, self.environment).map_err(|error| {
            CliError::new(Kind::Local, error).hint("WARREN_DATA_DIR names another data directory")
        })?;
        let arguments = self.overrides.to_arguments();
        let server = LocalServer::new(dirs.clone(), self.environment, arguments, self.output);
        let server = Arc::new(server);
        Ok((Client::new(Arc::clone(&server)), Server::Local(server, dirs)))
    }
}

/// Runs a future on a runtime of this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CliError::local("start the event loop"))?;
    Ok(runtime.block_on(future))
}

/// Adds what the server that we started wrote before it went away.
fn with_last_words(error: CliError, server: &LocalServer, dirs: &Dirs) -> CliError {
    if error.kind != Kind::Unreachable {
        return error;
    }
    let error = match server.last_words() {
        Some(words) => error.hint(format!("the server's last words: {words}")),
        None => error,
    };
    error
        .hint(format!("its log is {}", dirs.log().display()))
        .hint("`warren doctor` looks for what is missing on this machine")
}
