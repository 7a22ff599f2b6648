//! `warren port`

use std::{
    ffi::CString,
    fs::File,
    os::{fd::AsFd as _, unix::ffi::OsStrExt as _, unix::fs::PermissionsExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use warren_api::edge::{CreateLink, Link};
use warren_sys::spawn::{Program, Streams, spawn};

use super::Context;
use crate::{
    config::{Environment, Lasting},
    error::{CliError, Kind},
};

/// What shows a page on this machine, the best first.
const OPENERS: [&str; 3] = ["xdg-open", "open", "wslview"];

/// Variables that a browser needs to find its display.
const FOR_BROWSERS: [&str; 10] = [
    "HOME",
    "PATH",
    "USER",
    "LANG",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
    "BROWSER",
];

/// Print a link to a port of a sandbox, to be opened in a browser
///
/// A port is private unless it is made public: the link has a token in it, which the browser keeps
/// in a cookie of that name alone. Where the server listens on no TCP address it listens on one of
/// the loopback from then on, for ports of sandboxes alone.
#[derive(clap::Args, Debug)]
pub(crate) struct PortArgs {
    /// Its id or name
    sandbox: String,
    /// The port
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Open it in this machine's browser
    #[arg(long)]
    open: bool,
    /// Let everybody reach it who knows the address, from now on
    #[arg(long, conflicts_with = "private")]
    public: bool,
    /// Let nobody reach it any more without a token
    #[arg(long)]
    private: bool,
    /// For how long the link is good, such as `1h`; until it is revoked where absent
    #[arg(long, value_name = "DURATION", conflicts_with = "public")]
    expires: Option<Lasting>,
    /// Revoke every link to the sandbox that was printed before
    #[arg(long)]
    revoke: bool,
}

pub(crate) async fn port(cx: &Context<'_>, args: PortArgs) -> Result<ExitCode, CliError> {
    if args.revoke {
        cx.client.revoke_links(&args.sandbox).await?;
    }
    if args.public || args.private {
        cx.client.publish_port(&args.sandbox, args.port, args.public).await?;
    }
    let expires_seconds = match args.expires.map(|lasting| lasting.0.as_secs()) {
        Some(0) => return Err(CliError::usage("a link is good for at least one second")),
        seconds => seconds,
    };
    let request = CreateLink { port: Some(args.port), expires_seconds };
    let link = cx.client.create_link(&args.sandbox, &request).await?;
    match cx.output.json {
        true => cx.output.value(&link)?,
        false => cx.output.line(address(&link))?,
    }
    if !cx.is_local() && is_local_name(address(&link)) {
        cx.output.warn(
            "names below `localhost` lead to this machine and not to the server: its setting \
             `domain` gives others, and `warren forward` needs none",
        );
    }
    if args.open {
        open(cx.environment, address(&link))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What is to be opened.
fn address(link: &Link) -> &str {
    link.link.as_deref().or(link.url.as_deref()).unwrap_or_default()
}

/// Whether browsers look for the name on their own machine.
fn is_local_name(address: &str) -> bool {
    let host = address.split("://").nth(1).and_then(|rest| rest.split(['/', ':']).next());
    host.is_some_and(|host| host.ends_with(".localhost"))
}

/// Shows a page in this machine's browser. What that does is not waited for.
fn open(environment: &Environment, address: &str) -> Result<(), CliError> {
    let opener = OPENERS.iter().find_map(|name| find(environment, name)).ok_or_else(|| {
        CliError::new(Kind::Local, "there is no program here that opens a browser")
            .hint(format!("looked for {}; open the address by hand", OPENERS.join(", ")))
    })?;
    let text = |text: &[u8]| CString::new(text).map_err(CliError::local("open the browser"));
    let path = text(opener.as_os_str().as_bytes())?;
    let variables = FOR_BROWSERS.iter().filter_map(|name| Some((name, environment.get(name)?)));
    let variables = variables.map(|(name, value)| text(format!("{name}={value}").as_bytes()));
    let variables = variables.collect::<Result<Vec<_>, _>>()?;
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.map_err(CliError::local("open the browser"))?;
    spawn(&Program {
        path: &path,
        arguments: &[path.clone(), text(address.as_bytes())?],
        environment: &variables,
        directory: c"/",
        identity: None,
        streams: Streams::Each([null.as_fd(), null.as_fd(), null.as_fd()]),
        open_files: None,
        mark: None,
    })
    .map(drop)
    .map_err(CliError::local("open the browser"))
}

/// Where a program of this name is.
fn find(environment: &Environment, name: &str) -> Option<PathBuf> {
    let runs = |path: &Path| {
        path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    let directories = environment.get("PATH")?.split(':').filter(|it| it.starts_with('/'));
    directories.map(|directory| Path::new(directory).join(name)).find(|path| runs(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_this_machine_is_told_from_others() {
        assert!(is_local_name("http://3000-sb-a.localhost:7424/?warren_token=x"));
        assert!(!is_local_name("https://3000-sb-a.sandboxes.example/"));
    }

    #[test]
    fn a_program_is_found_where_it_can_be_run() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().display().to_string();
        let pairs = [("PATH", format!("relative:/nowhere:{path}"))];
        let environment = Environment::of(&pairs.each_ref().map(|(n, v)| (*n, v.as_str())));
        let file = directory.path().join("xdg-open");
        std::fs::write(&file, "").unwrap();
        assert_eq!(find(&environment, "xdg-open"), None, "it cannot be run");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find(&environment, "xdg-open"), Some(file));
    }
}
