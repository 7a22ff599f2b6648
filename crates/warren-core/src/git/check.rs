//! What somebody wants of git, checked before a sandbox is made for it.

use warren_git::{BranchName, Identity, Repository};

use super::{Settings, Token, WantedGit, WantedToken};
use crate::{
    caller::Caller,
    error::SandboxError,
    id::SandboxId,
    secrets::{self, SealKey},
};

/// The name under which hosts of repositories take tokens.
const TOKEN_USER: &str = "x-access-token";
/// The longest path and reference.
const LONGEST: usize = 4096;

/// The settings that a request means, of a sandbox that has this id. A token is sealed with `key`.
///
/// # Errors
///
/// [`SandboxError::Invalid`], without the token; [`SandboxError::Unsupported`] without a key.
pub(crate) fn settings(
    wanted: &WantedGit,
    sandbox: SandboxId,
    caller: &Caller,
    key: Option<&SealKey>,
) -> Result<Settings, SandboxError> {
    let repository = repository(wanted, caller)?;
    let session = match &wanted.session {
        Some(name) => BranchName::session(name),
        None => BranchName::session(&format!("warren/{sandbox}")),
    };
    let session = session.map_err(|error| invalid("git.session", error))?;
    let identity = wanted.identity.clone().map(|(name, email)| Identity::new(name, email));
    let identity = identity.transpose().map_err(|error| invalid("git.identity", error))?;
    if let Some(path) = &wanted.path {
        check_path(path)?;
    }
    if let Some(reference) = &wanted.reference
        && (reference.is_empty() || reference.len() > LONGEST || reference.starts_with('-'))
    {
        let reason = "expected a branch, a tag or the name of a commit";
        return Err(SandboxError::invalid("git.ref", reason));
    }
    let user = wanted.user.clone().unwrap_or_else(|| TOKEN_USER.to_owned());
    Ok(Settings {
        sandbox,
        owner: caller.owner().clone(),
        token: token(wanted, &user, sandbox, caller, key)?,
        repository,
        reference: wanted.reference.clone(),
        session,
        path: wanted.path.clone(),
        identity,
        user,
        push: wanted.push,
        auto_commit: wanted.auto_commit && wanted.push,
        push_on: wanted.push_on,
        on_moved: wanted.on_moved,
        fetch: wanted.fetch,
        anywhere: caller.is_host(),
        begun: false,
        saved: false,
    })
}

fn repository(wanted: &WantedGit, caller: &Caller) -> Result<Repository, SandboxError> {
    let field = "git.repository";
    let repository =
        Repository::parse(&wanted.repository).map_err(|error| invalid(field, error))?;
    let open = repository.scheme() == "http";
    let local = open && !repository.is_open() && caller.is_host();
    if repository.scheme() != "https" && !local {
        let reason = "expected https://; http:// is for a repository on this machine, and for the \
                      user who runs this server";
        return Err(SandboxError::invalid(field, reason));
    }
    // What the broker takes for a path, so that nobody waits for a clone to be told.
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.~+@/".contains(c);
    let part = |part: &str| part.is_empty() || part == "." || part == "..";
    let path = repository.path();
    if !path.chars().all(good) || path.trim_end_matches(".git").split('/').any(part) {
        let reason = "expected a path of letters, digits and any of - _ . ~ + @ between slashes";
        return Err(SandboxError::invalid(field, reason));
    }
    if repository.authority().contains('[') {
        return Err(SandboxError::invalid(field, "expected a host's name or an IPv4 address"));
    }
    Ok(repository)
}

fn token(
    wanted: &WantedGit,
    user: &str,
    sandbox: SandboxId,
    caller: &Caller,
    key: Option<&SealKey>,
) -> Result<Token, SandboxError> {
    match &wanted.token {
        None => Ok(Token::None),
        Some(WantedToken::Secret(name)) => {
            secrets::check_name(name)?;
            Ok(Token::Secret(name.clone()))
        }
        Some(WantedToken::Given(token)) => {
            warren_git::Credential::new(user, token.as_str())
                .map_err(|error| invalid("git.token", error))?;
            let key = key.ok_or(SandboxError::Unsupported { operation: "keep tokens" })?;
            let binding = Settings::binding(sandbox, caller.owner());
            let sealed = key.seal(token.as_bytes(), &binding);
            let broken = |_broken| SandboxError::Broken("a token could not be sealed");
            Ok(Token::Sealed(sealed.map_err(broken)?))
        }
    }
}

fn check_path(path: &str) -> Result<(), SandboxError> {
    let odd = |part: &str| part.is_empty() || part == "." || part == "..";
    let parts = path.strip_prefix('/');
    let good = parts.is_some_and(|it| !it.split('/').any(odd));
    if good && path.len() <= LONGEST && !path.contains(char::is_control) {
        return Ok(());
    }
    Err(SandboxError::invalid("git.path", "expected an absolute path, without . and .. in it"))
}

fn invalid(field: &'static str, error: impl std::fmt::Display) -> SandboxError {
    SandboxError::invalid(field, error.to_string())
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::{
        caller::Owner,
        git::{Fetch, PushMoments, WhenMoved},
    };

    fn wanted(repository: &str) -> WantedGit {
        WantedGit {
            repository: repository.to_owned(),
            reference: None,
            session: None,
            path: None,
            identity: None,
            user: None,
            token: None,
            push: true,
            auto_commit: true,
            push_on: PushMoments::default(),
            on_moved: WhenMoved::default(),
            fetch: Fetch::default(),
        }
    }

    fn check(wanted: &WantedGit, caller: &Caller) -> Result<Settings, SandboxError> {
        settings(wanted, SandboxId::mint(), caller, Some(&SealKey::generate()))
    }

    #[test]
    fn open_wires_are_for_this_machine_and_its_user() {
        let (local, remote) = (Caller::local(), Caller::remote(Owner::new("a")));
        let here = wanted("http://127.0.0.1:8080/a.git");
        assert!(check(&here, &local).unwrap().anywhere);
        assert!(check(&here, &remote).is_err());
        assert!(check(&wanted("http://git.example/a.git"), &local).is_err());
        assert!(check(&wanted("file:///a.git"), &local).is_err());
        assert!(!check(&wanted("https://git.example/a.git"), &remote).unwrap().anywhere);
    }

    #[test]
    fn a_session_has_a_branch_of_its_own_where_none_is_named() {
        let settings = check(&wanted("https://git.example/a"), &Caller::local()).unwrap();
        assert_eq!(settings.session.as_str(), format!("warren/{}", settings.sandbox));
    }

    #[test]
    fn what_cannot_be_is_refused_without_its_secret() {
        let good = wanted("https://git.example/a");
        let caller = Caller::local();
        for bad in [
            WantedGit { repository: "https://s3cret@git.example/a".to_owned(), ..good.clone() },
            WantedGit { repository: "https://git.example/a/../b".to_owned(), ..good.clone() },
            WantedGit { session: Some("session/x".to_owned()), ..good.clone() },
            WantedGit { path: Some("repo".to_owned()), ..good.clone() },
            WantedGit { reference: Some("--upload-pack=x".to_owned()), ..good.clone() },
            WantedGit {
                token: Some(WantedToken::Given(Zeroizing::new("s3cret\n".to_owned()))),
                ..good.clone()
            },
            WantedGit { identity: Some(("<".to_owned(), "a".to_owned())), ..good.clone() },
        ] {
            let error = check(&bad, &caller).unwrap_err();
            assert!(matches!(error, SandboxError::Invalid { .. }), "{error}");
            assert!(!format!("{error} {bad:?}").contains("s3cret\\n"), "{bad:?}");
        }
    }

    #[test]
    fn a_token_is_sealed_for_its_sandbox() {
        let key = SealKey::generate();
        let token = WantedToken::Given(Zeroizing::new("s3cret".to_owned()));
        let wanted = WantedGit { token: Some(token), ..wanted("https://git.example/a") };
        let caller = Caller::local();
        let settings = settings(&wanted, SandboxId::mint(), &caller, Some(&key)).unwrap();
        let Token::Sealed(sealed) = &settings.token else { panic!("it is not sealed") };
        let opened = |id| key.open(sealed, &Settings::binding(id, caller.owner()));
        assert_eq!(opened(settings.sandbox).unwrap().expose(), b"s3cret");
        assert!(opened(SandboxId::mint()).is_err());
    }
}
