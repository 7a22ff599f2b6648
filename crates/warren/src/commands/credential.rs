//! `warren credential`, and the flags that say what requests of sandboxes are given.

use std::{
    collections::BTreeMap,
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Subcommand;
use warren_api::credentials::{
    CredentialRule, Credentials, EgressProxy, EgressProxyKind, GivenCredentials, GivenRule,
};

use super::Context;
use crate::error::CliError;

/// The longest file of credentials, in bytes.
const LONGEST: u64 = 1 << 20;

/// What requests of a sandbox are given on their way out.
#[derive(clap::Args, Debug, Default)]
pub(crate) struct GivenArgs {
    /// A header that requests to a host are given outside of the sandbox, such as
    /// `api.example.com=Authorization: Bearer {{secret:TOKEN}}`; may be repeated
    #[arg(long = "credential", value_name = "HOST=HEADER: VALUE")]
    headers: Vec<String>,
    /// A secret whose `{{secret:NAME}}` in headers of requests to a host becomes its value outside
    /// of the sandbox; may be repeated
    #[arg(long = "placeholder", value_name = "HOST=SECRET")]
    placeholders: Vec<String>,
    /// A file of credentials in JSON, as the API takes them; `-` for standard input
    #[arg(long = "credentials", value_name = "PATH")]
    from: Option<PathBuf>,
    /// The proxy that all its connections go through:
    /// `socks5://[USER[:PASSWORD]@]HOST:PORT`, or `http://`; the password may be `{{secret:NAME}}`
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
}

/// Show and change what requests of sandboxes are given outside of them
#[derive(clap::Args, Debug)]
pub(crate) struct CredentialArgs {
    #[command(subcommand)]
    command: CredentialCommand,
}

#[derive(Subcommand, Debug)]
enum CredentialCommand {
    /// Show what requests of a sandbox are given, without values
    Show {
        /// Its id or name
        sandbox: String,
    },
    /// Give requests of a running sandbox other credentials, in place of all that they are given
    Set {
        /// Its id or name
        sandbox: String,
        #[command(flatten)]
        given: Box<GivenArgs>,
    },
    /// Give requests of a running sandbox nothing any more
    Clear {
        /// Its id or name
        sandbox: String,
    },
}

pub(crate) async fn credential(
    cx: &Context<'_>,
    args: CredentialArgs,
) -> Result<ExitCode, CliError> {
    match args.command {
        CredentialCommand::Show { sandbox } => {
            show(cx, &cx.client.get_credentials(&sandbox).await?)?;
        }
        CredentialCommand::Set { sandbox, given } => {
            let wanted = given.credentials()?.ok_or_else(|| {
                CliError::usage(
                    "nothing to give: expected --credential, --placeholder, --credentials or \
                     --proxy",
                )
                .hint(format!("`warren credential clear {sandbox}` takes everything back"))
            })?;
            set(cx, &sandbox, &wanted).await?;
        }
        CredentialCommand::Clear { sandbox } => set(cx, &sandbox, &Credentials::default()).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn set(cx: &Context<'_>, sandbox: &str, wanted: &Credentials) -> Result<(), CliError> {
    let given = cx.client.set_credentials(sandbox, wanted).await?;
    if cx.output.json {
        return cx.output.value(&given);
    }
    let hosts: Vec<_> = given.rules.iter().map(|rule| rule.host.as_str()).collect();
    let proxy = given.proxy.is_some().then_some("its proxy");
    let what: Vec<_> = hosts.into_iter().chain(proxy).collect();
    let what = if what.is_empty() { "nothing".to_owned() } else { what.join(", ") };
    cx.output.talk(&format!("{sandbox}: requests are given credentials for {what}"));
    Ok(())
}

fn show(cx: &Context<'_>, given: &GivenCredentials) -> Result<(), CliError> {
    if cx.output.json {
        return cx.output.value(given);
    }
    let rows: Vec<_> = given.rules.iter().map(row).collect();
    if !rows.is_empty() {
        cx.output.table(["HOST", "HEADERS", "PLACEHOLDERS", "METHODS", "PATHS"], &rows)?;
    }
    if let Some(proxy) = &given.proxy {
        let kind = match proxy.kind {
            EgressProxyKind::Socks5 => "socks5",
            EgressProxyKind::Http => "http",
        };
        let user = proxy.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        cx.output.line(&format!("proxy {kind}://{user}{}:{}", proxy.host, proxy.port))?;
    }
    if rows.is_empty() && given.proxy.is_none() {
        cx.output.talk("requests are given nothing");
    }
    Ok(())
}

fn row(rule: &GivenRule) -> [String; 5] {
    let list = |texts: &[String], none: &str| match texts {
        [] => none.to_owned(),
        texts => texts.join(","),
    };
    [
        rule.host.clone(),
        list(&rule.headers, "-"),
        list(&rule.placeholders, "-"),
        list(&rule.methods, "all"),
        list(&rule.paths, "all"),
    ]
}

impl GivenArgs {
    /// The credentials that these flags describe; none where they say nothing. A flag adds to the
    /// file's rule for its host.
    pub(super) fn credentials(&self) -> Result<Option<Credentials>, CliError> {
        let mut wanted = match &self.from {
            Some(path) => read(path)?,
            None => Credentials::default(),
        };
        let mut rules: BTreeMap<String, CredentialRule> = BTreeMap::new();
        for text in &self.headers {
            let parts = text.split_once('=').and_then(|(host, header)| {
                let (name, value) = header.split_once(':')?;
                Some((host.trim(), name.trim(), value.trim()))
            });
            let Some((host, name, value)) = parts else {
                // It may hold a secret as it is.
                return Err(CliError::usage("--credential: expected `HOST=HEADER: VALUE`"));
            };
            let rule = rules.entry(host.to_ascii_lowercase()).or_default();
            rule.headers.insert(name.to_owned(), value.to_owned());
        }
        for text in &self.placeholders {
            let Some((host, secret)) = text.split_once('=') else {
                return Err(CliError::usage(format!(
                    "--placeholder {text}: expected `HOST=SECRET`"
                )));
            };
            let rule = rules.entry(host.trim().to_ascii_lowercase()).or_default();
            rule.placeholders.push(secret.trim().to_owned());
        }
        for (host, rule) in rules {
            add(&mut wanted.rules, CredentialRule { host, ..rule });
        }
        if let Some(url) = &self.proxy {
            wanted.proxy = Some(proxy(url)?);
        }
        let nothing = wanted.rules.is_empty() && wanted.proxy.is_none();
        Ok((!nothing).then_some(wanted))
    }
}

/// Adds a rule, to the one of its host where there is one.
fn add(rules: &mut Vec<CredentialRule>, rule: CredentialRule) {
    match rules.iter_mut().find(|it| it.host.eq_ignore_ascii_case(&rule.host)) {
        Some(there) => {
            there.headers.extend(rule.headers);
            there.placeholders.extend(rule.placeholders);
        }
        None => rules.push(rule),
    }
}

fn read(path: &Path) -> Result<Credentials, CliError> {
    let failed = CliError::local("read the credentials");
    let mut text = String::new();
    let read = match path.to_str() {
        Some("-") => std::io::stdin().lock().take(LONGEST).read_to_string(&mut text),
        _ => {
            std::fs::File::open(path).and_then(|file| file.take(LONGEST).read_to_string(&mut text))
        }
    };
    read.map_err(failed)?;
    // What is wrong is told by its place: the text may hold secrets as they are.
    serde_json::from_str(&text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let from = if path == Path::new("-") { Path::new("standard input") } else { path };
        CliError::usage(format!(
            "{}: no credentials at line {line}, column {column}",
            from.display()
        ))
        .hint("expected `{\"rules\": [{\"host\": …, \"headers\": {…}}], \"proxy\": {…}}`")
    })
}

/// The parts of `KIND://[USER[:PASSWORD]@]HOST:PORT`, as they are written.
fn proxy(url: &str) -> Result<EgressProxy, CliError> {
    let bad = || {
        CliError::usage("--proxy: expected `socks5://[USER[:PASSWORD]@]HOST:PORT`, or `http://`")
    };
    let (kind, rest) = url.split_once("://").ok_or_else(bad)?;
    let kind = match kind {
        "socks5" | "socks5h" => EgressProxyKind::Socks5,
        "http" => EgressProxyKind::Http,
        _ => return Err(bad()),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (who, place) = rest.rsplit_once('@').map_or((None, rest), |(who, it)| (Some(who), it));
    let (host, port) = place.rsplit_once(':').ok_or_else(bad)?;
    let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let host = bare.unwrap_or(host).to_owned();
    let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(bad)?;
    let user =
        who.map(|who| who.split_once(':').map_or((who, None), |(user, it)| (user, Some(it))));
    let password = user.and_then(|(_, password)| password).map(str::to_owned);
    let user = user.map(|(user, _)| user.to_owned());
    if host.is_empty() || user.as_ref().is_some_and(String::is_empty) {
        return Err(bad());
    }
    Ok(EgressProxy { kind, host, port, user, password })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(headers: &[&str], placeholders: &[&str]) -> GivenArgs {
        let own = |texts: &[&str]| texts.iter().map(|it| (*it).to_owned()).collect();
        GivenArgs { headers: own(headers), placeholders: own(placeholders), ..GivenArgs::default() }
    }

    #[test]
    fn flags_are_rules_of_hosts() {
        let given = ["a.b=X: 1", "A.b=Y: {{secret:Z}}", "c.d=Authorization:Bearer a=b:c"];
        let wanted = flags(&given, &["a.b=Z"]).credentials().unwrap().unwrap();
        assert_eq!(wanted.rules.len(), 2);
        assert_eq!(wanted.rules[0].headers["Y"], "{{secret:Z}}");
        assert_eq!(wanted.rules[0].placeholders, ["Z"]);
        assert_eq!(wanted.rules[1].headers["Authorization"], "Bearer a=b:c");
        let refused = flags(&["hunter2"], &[]).credentials().unwrap_err();
        assert!(!format!("{refused:?}").contains("hunter2"));
        assert!(flags(&[], &["Z"]).credentials().is_err());
        assert_eq!(flags(&[], &[]).credentials().unwrap(), None);
    }

    #[test]
    fn a_flag_adds_to_the_rule_of_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = r#"{"rules":[{"host":"a.b","headers":{"X":"1"},"paths":["/mine/**"]}]}"#;
        std::fs::write(file.path(), text).unwrap();
        let from = Some(file.path().to_owned());
        let given = GivenArgs { from: from.clone(), ..flags(&["a.b=Y: 2"], &[]) };
        let wanted = given.credentials().unwrap().unwrap();
        assert_eq!((wanted.rules.len(), wanted.rules[0].headers.len()), (1, 2));
        assert_eq!(wanted.rules[0].paths, ["/mine/**"]);
        std::fs::write(file.path(), r#"{"hunter2":1}"#).unwrap();
        let refused = GivenArgs { from, ..GivenArgs::default() }.credentials().unwrap_err();
        assert!(!format!("{refused:?}").contains("hunter2"), "{refused:?}");
    }

    #[test]
    fn a_proxy_is_a_url_whose_password_is_taken_as_it_is() {
        let it = proxy("socks5://me:{{secret:P}}@proxy.example:1080").unwrap();
        assert_eq!((it.kind, it.host.as_str()), (EgressProxyKind::Socks5, "proxy.example"));
        assert_eq!(it.user.as_deref(), Some("me"));
        assert_eq!(it.password.as_deref(), Some("{{secret:P}}"));
        let it = proxy("http://[2001:db8::1]:3128/").unwrap();
        assert_eq!((it.host.as_str(), it.port, it.user), ("2001:db8::1", 3128, None));
        for bad in ["proxy.example:1", "ftp://a:1", "http://a", "http://a:0", "http://:p@a:1"] {
            assert!(proxy(bad).is_err(), "{bad}");
        }
    }
}
