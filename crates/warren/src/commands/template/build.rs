//! `warren template build`

use std::{
    collections::BTreeMap,
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use warren_api::{
    Base64,
    template::{
        Build, BuildLine, BuildLogLevel, BuildStatus, BuildTemplate, ReadyCheck, TemplateLimits,
        TemplateStart,
    },
};

use super::{
    super::{Context, wanted::pairs, wanted::whole_seconds},
    context, source,
};
use crate::{
    config::{Cpus, Lasting, Size},
    error::{CliError, Kind},
    session::Signals,
};

/// Build a template from a Dockerfile or a list of steps
///
/// Every step that changes files runs in a sandbox of its own, on the layers of the steps before
/// it; what a step made is kept and found again while what it was made from is the same. `FROM`
/// takes `host`, `template:NAME[:TAG]`, `scratch`, another stage, or an OCI image. The log goes to
/// standard error.
#[derive(clap::Args, Debug)]
pub(super) struct BuildArgs {
    /// The directory that `COPY` takes files from; what its `.dockerignore` names stays out
    #[arg(default_value = ".", value_name = "DIR")]
    directory: PathBuf,
    /// The Dockerfile, or a `.toml` file with a list of steps (default: DIR/Dockerfile, else
    /// DIR/warren.toml)
    #[arg(long = "file", short, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// What to call it; may be repeated with other tags
    #[arg(long = "tag", short, value_name = "NAME[:TAG]")]
    tags: Vec<String>,
    /// A secret for `RUN --mount=type=secret`; may be repeated. `src=-` reads standard input
    #[arg(long = "secret", value_name = "id=ID,src=FILE")]
    secrets: Vec<String>,
    /// A value for an `ARG`; may be repeated
    #[arg(long = "build-arg", value_name = "NAME=VALUE")]
    arguments: Vec<String>,
    /// The stage that is wanted
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// Do every step, although its result is known
    #[arg(long)]
    no_cache: bool,
    /// Let other projects use it, as `PROJECT/NAME`
    #[arg(long)]
    public: bool,
    /// What is started in each new sandbox, by a shell
    #[arg(long, value_name = "COMMAND")]
    start: Option<String>,
    /// When a new sandbox is ready: `port:8080`, `http:8080/health`, `file:/PATH`, `command:TEXT`
    #[arg(long, value_name = "CHECK")]
    ready: Option<String>,
    /// How long a new sandbox may take to be ready
    #[arg(long, value_name = "DURATION")]
    ready_timeout: Option<Lasting>,
    /// How many sandboxes wait started and ready, 0 to 16
    #[arg(long, value_name = "COUNT")]
    warm: Option<u32>,
    /// How many processor cores a sandbox of it may use, unless it says otherwise
    #[arg(long, value_name = "CORES")]
    cpus: Option<Cpus>,
    /// How much memory a sandbox of it may use, unless it says otherwise
    #[arg(long, value_name = "SIZE")]
    memory: Option<Size>,
    /// How many processor cores a step may use
    #[arg(long, value_name = "CORES")]
    build_cpus: Option<Cpus>,
    /// How much memory a step may use
    #[arg(long, value_name = "SIZE")]
    build_memory: Option<Size>,
    /// How much a step may write to the disk
    #[arg(long, value_name = "SIZE")]
    build_disk: Option<Size>,
    /// How long the build may take (default: 1h)
    #[arg(long, value_name = "DURATION")]
    timeout: Option<Lasting>,
    /// Print the build's id and do not wait for it
    #[arg(long, short)]
    detach: bool,
}

pub(super) async fn build(cx: &Context<'_>, args: BuildArgs) -> Result<ExitCode, CliError> {
    let source = source::read(args.recipe.as_deref(), &args.directory)?;
    let ignore = context::ignore(&args.directory, &source.path)?;
    let (directory, detach) = (args.directory.clone(), args.detach);
    let mut request = request(args, source.request)?;
    let mut signals = Signals::watch()?;
    let started = async {
        if source.needs_files {
            let archive = context::archive(&directory, ignore)?;
            let uploaded = cx.client.upload_build_files(archive);
            request.context = Some(cx.wait("sending the files", uploaded).await?.id);
        }
        Ok::<_, CliError>(cx.client.build_template(&request).await?)
    };
    let build = tokio::select! {
        started = started => started?,
        ended = signals.end() => return Err(ended),
    };
    if detach {
        if cx.output.json {
            cx.output.value(&build)?;
        } else {
            cx.output.line(&build.id)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    tokio::select! {
        done = follow(cx, &build.id) => done,
        ended = signals.end() => {
            cx.client.cancel_build(&build.id).await?;
            Err(ended)
        }
    }
}

/// Shows what a build says, to its end.
pub(super) async fn follow(cx: &Context<'_>, id: &str) -> Result<ExitCode, CliError> {
    let mut stream = cx.client.follow_build(id, None).await?;
    loop {
        let line = stream.next().await?;
        print(cx, &line)?;
        if let BuildLine::End(build) = line {
            return outcome(&build);
        }
    }
}

/// Shows one line of a build's log.
pub(crate) fn print(cx: &Context<'_>, line: &BuildLine) -> Result<(), CliError> {
    if cx.output.json {
        return cx.output.value(line);
    }
    if let BuildLine::Entry(entry) = line {
        // A command's output is a stranger's: it does not command the terminal.
        let text: String =
            entry.message.chars().filter(|it| !it.is_control() || *it == '\t').collect();
        let indent = match entry.level {
            BuildLogLevel::Debug | BuildLogLevel::Warn => "  ",
            BuildLogLevel::Info | BuildLogLevel::Error => "",
        };
        cx.output.talk(&format!("{indent}{text}"));
    }
    Ok(())
}

fn outcome(build: &Build) -> Result<ExitCode, CliError> {
    match (build.status, &build.failure) {
        (BuildStatus::Ready, _) => Ok(ExitCode::SUCCESS),
        (_, Some(failure)) => {
            let at = failure.line.map(|line| format!("line {line}: ")).unwrap_or_default();
            let error = CliError::new(Kind::Local, format!("{at}{}", failure.message));
            Err(error.hint(format!("`warren template logs {}` shows its log again", build.id)))
        }
        (..) => Err(CliError::new(Kind::Local, "the build was cancelled")),
    }
}

/// What the flags say, on top of what the file says.
fn request(args: BuildArgs, mut request: BuildTemplate) -> Result<BuildTemplate, CliError> {
    for tag in &args.tags {
        let (name, tag) = tag.split_once(':').unwrap_or((tag, "latest"));
        if !request.name.is_empty() && request.name != name {
            let known = &request.name;
            return Err(CliError::usage(format!(
                "it is called `{known}` and `{name}`: expected one"
            )));
        }
        name.clone_into(&mut request.name);
        request.tags.push(tag.to_owned());
    }
    if request.name.is_empty() {
        let hint = "such as `warren template build --tag web .`";
        return Err(CliError::usage("a template needs a name: `--tag NAME[:TAG]`").hint(hint));
    }
    request.args.extend(pairs("--build-arg", &args.arguments)?);
    for text in &args.secrets {
        let (id, value) = secret(text)?;
        request.secrets.insert(id, value);
    }
    request.target = args.target;
    request.no_cache |= args.no_cache;
    if args.public {
        request.public = Some(true);
    }
    request.start = start(args.start, args.ready, args.ready_timeout, request.start)?;
    request.warm = args.warm.or(request.warm);
    let limits = &mut request.limits;
    limits.cpu_millis = args.cpus.map(|cpus| cpus.0).or(limits.cpu_millis);
    limits.memory_bytes = args.memory.map(|memory| memory.0).or(limits.memory_bytes);
    let given = request.build_limits;
    request.build_limits = TemplateLimits {
        cpu_millis: args.build_cpus.map(|cpus| cpus.0).or(given.cpu_millis),
        memory_bytes: args.build_memory.map(|memory| memory.0).or(given.memory_bytes),
        disk_bytes: args.build_disk.map(|disk| disk.0).or(given.disk_bytes),
        ..given
    };
    let timeout = args.timeout.map(|timeout| whole_seconds(timeout.0));
    request.timeout_seconds = timeout.or(request.timeout_seconds);
    Ok(request)
}

fn start(
    command: Option<String>,
    ready: Option<String>,
    timeout: Option<Lasting>,
    given: Option<TemplateStart>,
) -> Result<Option<TemplateStart>, CliError> {
    if command.is_none() && ready.is_none() && timeout.is_none() {
        return Ok(given);
    }
    let mut start = given.unwrap_or_default();
    if let Some(command) = command {
        start.command = ["/bin/sh", "-c", &command].map(str::to_owned).to_vec();
    }
    if let Some(text) = ready {
        start.ready = Some(ready_check(&text)?);
    }
    if let Some(timeout) = timeout {
        start.timeout_seconds = Some(whole_seconds(timeout.0));
    }
    Ok(Some(start))
}

fn ready_check(text: &str) -> Result<ReadyCheck, CliError> {
    let expected = || {
        let known = "`port:8080`, `http:8080/health`, `file:/PATH` or `command:TEXT`";
        CliError::usage(format!("`--ready {text}`: expected {known}"))
    };
    let (kind, rest) = text.split_once(':').ok_or_else(expected)?;
    match kind {
        "port" => rest.parse().map(ReadyCheck::Port).map_err(|_not_a_port| expected()),
        "http" => Ok(ReadyCheck::Http(rest.to_owned())),
        "file" => Ok(ReadyCheck::File(rest.to_owned())),
        "command" => Ok(ReadyCheck::Command(rest.to_owned())),
        _ => Err(expected()),
    }
}

/// Reads `id=ID,src=FILE`.
fn secret(text: &str) -> Result<(String, Base64), CliError> {
    let mut parts = BTreeMap::new();
    for part in text.split(',') {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        parts.insert(name, value);
    }
    let source = parts.remove("src").or_else(|| parts.remove("source"));
    let (Some(id), Some(source), None) = (parts.remove("id"), source, parts.keys().next()) else {
        return Err(CliError::usage(format!("`--secret {text}`: expected `id=ID,src=FILE`")));
    };
    let mut bytes = Vec::new();
    let read = match source {
        "-" => std::io::stdin().lock().read_to_end(&mut bytes).map(drop),
        path => std::fs::read(Path::new(path)).map(|read| bytes = read),
    };
    read.map_err(|error| {
        CliError::new(Kind::Local, format!("could not read the secret `{id}`: {error}"))
    })?;
    Ok((id.to_owned(), Base64(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_check_is_read() {
        assert_eq!(ready_check("port:80").unwrap(), ReadyCheck::Port(80));
        assert_eq!(ready_check("http:80/x:y").unwrap(), ReadyCheck::Http("80/x:y".into()));
        assert!(["port:x", "80", "udp:1"].iter().all(|text| ready_check(text).is_err()));
    }

    #[test]
    fn a_secret_comes_from_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hush").unwrap();
        let (id, value) = secret(&format!("id=t,src={}", file.path().display())).unwrap();
        assert_eq!((id.as_str(), value.0.as_slice()), ("t", &b"hush"[..]));
        for bad in ["t", "id=t", "src=x", "id=t,src=x,foo=1", "id=t,src=/no/such/file"] {
            assert!(secret(bad).is_err(), "{bad}");
        }
    }
}
