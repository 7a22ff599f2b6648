//! Sessions of git as they are stored.

use serde::{Deserialize, Serialize};
use warren_git::{BranchName, Identity, Repository};

use super::{Object, ObjectKind};
use crate::{
    git::{Fetch, PushMoments, Settings, Token, WhenMoved},
    secrets::Sealed,
};

/// The document of a session's row.
#[derive(Serialize, Deserialize)]
struct Record {
    repository: String,
    session: String,
    #[serde(default)]
    reference: Option<String>,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    identity: Option<(String, String)>,
    user: String,
    #[serde(default)]
    secret: Option<String>,
    #[serde(default)]
    sealed: Option<Sealed>,
    push: bool,
    auto_commit: bool,
    push_on_pause: bool,
    push_on_stop: bool,
    on_moved: Moved,
    #[serde(default)]
    depth: Option<u32>,
    #[serde(default)]
    blobless: bool,
    #[serde(default)]
    single_branch: bool,
    #[serde(default)]
    submodules: bool,
    #[serde(default)]
    anywhere: bool,
    #[serde(default)]
    begun: bool,
    #[serde(default)]
    saved: bool,
    #[serde(default)]
    push_on_deadline: bool,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Moved {
    Rebase,
    Merge,
    Rescue,
}

/// The row of a session.
pub(crate) fn git_object(settings: &Settings) -> Object {
    let (secret, sealed) = match &settings.token {
        Token::None => (None, None),
        Token::Secret(name) => (Some(name.clone()), None),
        Token::Sealed(sealed) => (None, Some(sealed.clone())),
    };
    let identity = settings.identity.as_ref();
    let record = Record {
        repository: settings.repository.url(),
        session: settings.session.to_string(),
        reference: settings.reference.clone(),
        path: settings.path.clone(),
        identity: identity.map(|it| (it.name().to_owned(), it.email().to_owned())),
        user: settings.user.clone(),
        secret,
        sealed,
        push: settings.push,
        auto_commit: settings.auto_commit,
        push_on_pause: settings.push_on.pause,
        push_on_stop: settings.push_on.stop,
        on_moved: match settings.on_moved {
            WhenMoved::Rebase => Moved::Rebase,
            WhenMoved::Merge => Moved::Merge,
            WhenMoved::Rescue => Moved::Rescue,
        },
        depth: settings.fetch.depth,
        blobless: settings.fetch.blobless,
        single_branch: settings.fetch.single_branch,
        submodules: settings.fetch.submodules,
        anywhere: settings.anywhere,
        begun: settings.begun,
        saved: settings.saved,
        push_on_deadline: settings.push_on.deadline,
    };
    Object {
        kind: ObjectKind::Git,
        id: settings.sandbox.to_string(),
        owner: settings.owner.clone(),
        // Plain fields alone: there is nothing that JSON could not say.
        record: serde_json::to_string(&record).unwrap_or_default(),
    }
}

/// The session of a row; none where it cannot be understood.
pub(crate) fn object_git(object: &Object) -> Option<Settings> {
    let record: Record = serde_json::from_str(&object.record).ok()?;
    let identity = record.identity.map(|(name, email)| Identity::new(name, email));
    Some(Settings {
        sandbox: object.id.parse().ok()?,
        owner: object.owner.clone(),
        repository: Repository::parse(&record.repository).ok()?,
        reference: record.reference,
        session: BranchName::session(&record.session).ok()?,
        path: record.path,
        identity: identity.transpose().ok()?,
        user: record.user,
        token: match (record.secret, record.sealed) {
            (Some(name), _) => Token::Secret(name),
            (None, Some(sealed)) => Token::Sealed(sealed),
            (None, None) => Token::None,
        },
        push: record.push,
        auto_commit: record.auto_commit,
        push_on: PushMoments {
            pause: record.push_on_pause,
            stop: record.push_on_stop,
            deadline: record.push_on_deadline,
        },
        on_moved: match record.on_moved {
            Moved::Rebase => WhenMoved::Rebase,
            Moved::Merge => WhenMoved::Merge,
            Moved::Rescue => WhenMoved::Rescue,
        },
        fetch: Fetch {
            depth: record.depth,
            blobless: record.blobless,
            single_branch: record.single_branch,
            submodules: record.submodules,
        },
        anywhere: record.anywhere,
        begun: record.begun,
        saved: record.saved,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{caller::Owner, id::SandboxId};

    #[test]
    fn a_session_reads_back() {
        let settings = Settings {
            sandbox: SandboxId::mint(),
            owner: Owner::new("a"),
            repository: Repository::parse("https://git.example/a/b.git").unwrap(),
            reference: Some("main".to_owned()),
            session: BranchName::session("work").unwrap(),
            path: Some("/srv/repo".to_owned()),
            identity: Some(Identity::new("Agent", "agent@git.example").unwrap()),
            user: "oauth2".to_owned(),
            token: Token::Sealed(Sealed::default()),
            push: true,
            auto_commit: true,
            push_on: PushMoments { pause: false, stop: true, deadline: true },
            on_moved: WhenMoved::Merge,
            fetch: Fetch { depth: Some(1), blobless: true, single_branch: true, submodules: true },
            anywhere: true,
            begun: true,
            saved: true,
        };
        assert_eq!(object_git(&git_object(&settings)), Some(settings.clone()));
        let named = Settings { token: Token::Secret("TOKEN".to_owned()), ..settings };
        assert_eq!(object_git(&git_object(&named)), Some(named));
    }
}
