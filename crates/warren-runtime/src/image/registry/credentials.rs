//! Users and passwords, from where Docker keeps them: its configuration file, and the programs that
//! the file names.
//!
//! # Source
//!
//! docker-credential-helpers, "Development"; `docker login`, "Credential stores".

use std::{collections::HashMap, fmt, fs::File, io::Read as _, path::Path, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use warren_core::images::{DEFAULT_REGISTRY, ImageError};

use crate::image::{program::Program, settings::Settings};

/// The longest file that is read, in bytes.
const MOST_BYTES: u64 = 1 << 20;
/// How long a program may take to answer.
const ANSWER: Duration = Duration::from_secs(20);
/// What Docker calls its default registry in its configuration.
const DEFAULT_KEY: &str = "https://index.docker.io/v1/";

/// How to sign in to a registry.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(in crate::image) enum Login {
    Password {
        user: String,
        password: String,
    },
    /// What a registry gave instead of a password.
    Token(String),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login")
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DockerConfig {
    auths: HashMap<String, Auth>,
    cred_helpers: HashMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: Option<String>,
    identitytoken: Option<String>,
}

/// What a program answers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// How to sign in to `registry`, where anybody knows. May run a program, and so must not be called
/// where nothing may block.
///
/// # Errors
///
/// [`ImageError::Unusable`] for a file that cannot be understood. A program that fails has no
/// credentials: what follows says that the registry wants some.
pub(in crate::image) fn look_up(
    settings: &Settings,
    registry: &str,
) -> Result<Option<Login>, ImageError> {
    let Some(path) = &settings.docker_config else { return Ok(None) };
    let Some(config) = load(path)? else { return Ok(None) };
    let names = names(registry);
    let helper = names.iter().find_map(|name| config.cred_helpers.get(name));
    for helper in helper.into_iter().chain(&config.creds_store) {
        match ask(settings, helper, &names) {
            Some(login) => return Ok(Some(login)),
            None => tracing::debug!(helper, registry, "no credentials there"),
        }
    }
    Ok(names.iter().find_map(|name| config.auths.get(name)).and_then(login))
}

fn load(path: &Path) -> Result<Option<DockerConfig>, ImageError> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MOST_BYTES).read_to_string(&mut text));
    match read {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ImageError::unusable(path.display().to_string(), error)),
    }
    let parsed = serde_json::from_str(&text);
    parsed.map(Some).map_err(|error| ImageError::unusable(path.display().to_string(), error))
}

/// Under which names a registry may stand in the file.
fn names(registry: &str) -> Vec<String> {
    if registry == DEFAULT_REGISTRY {
        let others = ["index.docker.io", "docker.io", "registry-1.docker.io"];
        return [DEFAULT_KEY].into_iter().chain(others).map(str::to_owned).collect();
    }
    let forms = ["", "https://", "http://"].map(|scheme| format!("{scheme}{registry}"));
    let paths = ["", "/", "/v1/", "/v2/"];
    forms.iter().flat_map(|form| paths.map(|path| format!("{form}{path}"))).collect()
}

fn login(auth: &Auth) -> Option<Login> {
    if let Some(token) = auth.identitytoken.as_ref().filter(|it| !it.is_empty()) {
        return Some(Login::Token(token.clone()));
    }
    let decoded = STANDARD.decode(auth.auth.as_ref()?.trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    let password = password.trim_end_matches('\0').to_owned();
    Some(Login::Password { user: user.to_owned(), password })
}

/// Asks a program for the first of these names that it knows.
fn ask(settings: &Settings, helper: &str, names: &[String]) -> Option<Login> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if helper.is_empty() || !helper.bytes().all(good) {
        return None;
    }
    let program = format!("docker-credential-{helper}");
    let program = Program::find(&program, &settings.environment)?;
    let answer = |name: &String| {
        let answer = program.answer(&["get"], name.as_bytes(), ANSWER);
        let answer =
            answer.inspect_err(|error| tracing::debug!(helper, %error, "no answer")).ok()?;
        let Answer { username, secret } = serde_json::from_slice(&answer).ok()?;
        Some(match username.as_str() {
            "<token>" => Login::Token(secret),
            _ => Login::Password { user: username, password: secret },
        })
    };
    names.iter().find_map(answer)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn password(user: &str, password: &str) -> Option<Login> {
        Some(Login::Password { user: user.into(), password: password.into() })
    }

    #[test]
    fn credentials_are_found_as_docker_writes_them() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("config.json");
        let auth = |text: &str| STANDARD.encode(text);
        fs::write(
            &file,
            format!(
                r#"{{"auths": {{"{DEFAULT_KEY}": {{"auth": "{}"}}, "a.example:5000": {{"auth": "{}"}},
                "https://b.example/v2/": {{"identitytoken": "t"}}, "c.example": {{}}}}, "other": 1}}"#,
                auth("me:pass:word"),
                auth("you:x"),
            ),
        )
        .unwrap();
        let settings = Settings { docker_config: Some(file.clone()), ..Settings::default() };
        let found = |registry| look_up(&settings, registry).unwrap();
        assert_eq!(found("docker.io"), password("me", "pass:word"));
        assert_eq!(found("a.example:5000"), password("you", "x"));
        assert_eq!(found("b.example"), Some(Login::Token("t".into())));
        assert_eq!(found("c.example"), None);
        assert_eq!(found("a.example"), None);
        fs::write(&file, "{").unwrap();
        assert!(look_up(&settings, "a").unwrap_err().to_string().contains("cannot be used"));
        fs::remove_file(&file).unwrap();
        assert_eq!(look_up(&settings, "a").unwrap(), None);
    }

    #[test]
    fn programs_are_asked_first() {
        let home = tempfile::tempdir().unwrap();
        let bin = home.path().join("bin");
        fs::create_dir(&bin).unwrap();
        let helper = bin.join("docker-credential-test");
        let script = "#!/bin/sh\nread name\n[ \"$1\" = get ] || exit 1\n\
            [ \"$name\" = a.example ] || { echo 'not found'; exit 1; }\n\
            echo '{\"ServerURL\":\"x\",\"Username\":\"u\",\"Secret\":\"'$HOME'\"}'\n";
        fs::write(&helper, script).unwrap();
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
        let file = home.path().join("config.json");
        fs::write(&file, r#"{"credsStore": "test", "credHelpers": {"c.example": "../../evil"}}"#)
            .unwrap();
        let path = format!("PATH={}:/usr/bin:/bin", bin.display());
        let settings = Settings {
            docker_config: Some(file),
            environment: vec![path, "HOME=/h".to_owned()],
            ..Settings::default()
        };
        assert_eq!(look_up(&settings, "a.example").unwrap(), password("u", "/h"));
        assert_eq!(look_up(&settings, "b.example").unwrap(), None);
        assert_eq!(look_up(&settings, "c.example").unwrap(), None);
    }
}
