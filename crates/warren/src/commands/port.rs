//! `warren port`

use std::{
    ffi::CString,
    fs::File,
    os::{fd::AsFd as _, unix::ffi::OsStrExt as _, unix::fs::PermissionsExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use warren_api::edge::{CreateLink, Link};
use warren_sys::spawn::{Program, Streams, spawn};

mod page;

use super::Context;
use crate::{
    config::{Environment, Lasting},
    error::{CliError, Kind},
    session::Signals,
};
use page::Page;

/// How long a browser may take to read the page that leads it on.
const READ_IN: Duration = Duration::from_secs(10);

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
        let mut signals = Signals::watch()?;
        let (shown, page) = shown(cx.environment, &link)?;
        open(cx.environment, &shown)?;
        if let Some(page) = page {
            let read = tokio::time::timeout(READ_IN, signals.end()).await;
            drop(page);
            if let Ok(end) = read {
                return Err(end);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What is to be opened.
fn address(link: &Link) -> &str {
    link.link.as_deref().or(link.url.as_deref()).unwrap_or_default()
}

/// What a browser is started with: the address itself where there is no secret in it, else a page
/// that leads there.
fn shown(environment: &Environment, link: &Link) -> Result<(String, Option<Page>), CliError> {
    if link.token.is_none() {
        return Ok((address(link).to_owned(), None));
    }
    // Browsers in a box of their own read what is in the home directory and has no dot.
    let home = environment.get("HOME").filter(|home| home.starts_with('/')).ok_or_else(|| {
        CliError::new(Kind::Local, "there is no home directory for a page that opens the port")
            .hint("open the address by hand")
    })?;
    let host = link.url.as_deref().and_then(|url| url.split("://").nth(1)).unwrap_or_default();
    let name = host.split(['.', ':', '/']).next().unwrap_or_default();
    let page = Page::write(Path::new(home), name, address(link));
    let page = page.map_err(CliError::local("write the page that opens the port"))?;
    Ok((page.address(), Some(page)))
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
    fn no_token_is_an_argument() {
        let home = tempfile::tempdir().unwrap();
        let pairs = [("HOME", home.path().to_str().unwrap())];
        let environment = Environment::of(&pairs);
        let url = "http://3000-sb-a.localhost:7424/";
        let public = Link {
            sandbox_id: "sb-a".to_owned(),
            public: true,
            url: Some(url.to_owned()),
            link: Some(url.to_owned()),
            token: None,
            expires_at: None,
        };
        let (argument, page) = shown(&environment, &public).unwrap();
        assert_eq!((argument.as_str(), page.is_some()), (url, false));
        let with_token = format!("{url}?warren_token=secret");
        let token = Some("secret".to_owned());
        let private = Link { public: false, link: Some(with_token.clone()), token, ..public };
        let (argument, page) = shown(&environment, &private).unwrap();
        let path = home.path().join("warren-3000-sb-a.html");
        assert_eq!(argument, format!("file://{}", path.display()));
        assert!(std::fs::read_to_string(&path).unwrap().contains(&with_token));
        drop(page);
        assert!(!path.exists());
        shown(&Environment::of(&[]), &private).unwrap_err();
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
