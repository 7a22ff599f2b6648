use std::{io::Read as _, time::Duration};

use tokio_util::task::TaskTracker;
use warren_core::{
    Caller, SandboxError,
    access::{ApiKey, Authenticated, KeyRefused, KeyScope, ProjectQuota, Secret, WantedKey},
    caller::Owner,
    sandbox::Wanted,
    store::Store,
};

use crate::world::World;

fn wanted(project: &str, lifetime: Option<Duration>) -> WantedKey {
    let scope = KeyScope::Project(project.parse().unwrap());
    WantedKey { name: "ci".into(), scope, lifetime }
}

impl World {
    fn key(&self, project: &str) -> (ApiKey, Secret) {
        self.run(self.sandboxes.create_key(&self.caller, wanted(project, None))).unwrap()
    }

    fn caller_of(&self, secret: &Secret) -> Caller {
        match self.sandboxes.authenticate(secret.expose()) {
            Ok(Authenticated::Caller(caller)) => caller,
            other => panic!("{other:?}"),
        }
    }

    fn make(&self, caller: &Caller) -> Result<String, String> {
        let made = self.run(self.sandboxes.create(caller, Wanted::default(), None));
        made.map(|made| made.sandbox.id.to_string()).map_err(|error| error.to_string())
    }

    fn remove_project(&self, name: &str) -> Result<(), String> {
        let removed = self.run(self.sandboxes.delete_project(&self.caller, name));
        removed.map_err(|error| error.to_string())
    }
}

#[test]
fn a_key_opens_its_project_until_it_is_revoked() {
    let mut world = World::start();
    world.project("team", ProjectQuota::default());
    let (key, secret) = world.key("team");
    let caller = world.caller_of(&secret);
    assert_eq!((caller.owner().as_str(), caller.is_host()), ("team", false));
    assert_eq!(caller.key(), Some(key.id));
    world.crash(|_| {});
    assert_eq!(world.caller_of(&secret).owner().as_str(), "team", "it is on the disk");
    let listed = world.sandboxes.keys(&world.caller).unwrap();
    assert_eq!((listed[0].id, listed[0].name.as_str()), (key.id, "ci"));
    assert!(secret.expose().starts_with(&listed[0].prefix));
    world.run(world.sandboxes.revoke_key(&world.caller, key.id.as_str())).unwrap();
    let refused = world.sandboxes.authenticate(secret.expose()).unwrap_err();
    assert_eq!(refused, KeyRefused::Unknown);
    world.crash(|_| {});
    assert_eq!(world.sandboxes.authenticate(secret.expose()).unwrap_err(), KeyRefused::Unknown);
    let again = world.run(world.sandboxes.revoke_key(&world.caller, key.id.as_str()));
    assert!(matches!(again, Err(SandboxError::NoSuchKey { .. })));
}

#[test]
fn no_key_is_in_the_database() {
    let world = World::start();
    let (_, secret) = world.key("default");
    let digits = secret.expose().strip_prefix("wrn_").unwrap().to_owned();
    for entry in std::fs::read_dir(world.directory.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let found = bytes.windows(digits.len()).any(|window| window == digits.as_bytes());
        assert!(!found);
    }
}

#[test]
fn an_expired_key_is_refused_as_such() {
    let world = World::start();
    let made =
        world.sandboxes.create_key(&world.caller, wanted("default", Some(Duration::from_secs(60))));
    let (_, secret) = world.run(made).unwrap();
    world.clock.advance(Duration::from_secs(59));
    world.caller_of(&secret);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.sandboxes.authenticate(secret.expose()).unwrap_err(), KeyRefused::Expired);
}

#[test]
fn the_last_use_of_a_key_survives() {
    let mut world = World::start();
    let (_, secret) = world.key("default");
    world.caller_of(&secret);
    let used = world.sandboxes.keys(&world.caller).unwrap()[0].last_used_at;
    assert!(used.is_some());
    world.restart(|_| {});
    assert_eq!(world.sandboxes.keys(&world.caller).unwrap()[0].last_used_at, used);
}

#[test]
fn a_metrics_key_is_nobody() {
    let world = World::start();
    let metrics = WantedKey { name: "m".into(), scope: KeyScope::Metrics, lifetime: None };
    let made = world.sandboxes.create_key(&world.caller, metrics);
    let (key, secret) = world.run(made).unwrap();
    match world.sandboxes.authenticate(secret.expose()) {
        Ok(Authenticated::Metrics(id)) => assert_eq!(id, key.id),
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_host_callers_administer() {
    let world = World::start();
    let (key, secret) = world.key("default");
    let caller = world.caller_of(&secret);
    let denied = |error: SandboxError| assert!(matches!(error, SandboxError::Denied { .. }));
    let (core, quota) = (&world.sandboxes, ProjectQuota::default());
    denied(world.run(core.create_key(&caller, wanted("default", None))).unwrap_err());
    denied(world.run(core.revoke_key(&caller, key.id.as_str())).unwrap_err());
    denied(world.run(core.create_project(&caller, "mine", quota)).unwrap_err());
    denied(world.run(core.set_project_quota(&caller, "default", quota)).unwrap_err());
    denied(world.run(core.delete_project(&caller, "default")).unwrap_err());
    denied(world.run(core.backup(&caller)).unwrap_err());
    denied(core.keys(&caller).unwrap_err());
    denied(core.projects(&caller).unwrap_err());
    denied(core.project(&caller, "default").unwrap_err());
}

#[test]
fn a_key_caller_stays_in_its_project() {
    let world = World::start();
    world.project("team", ProjectQuota::default());
    let (_, secret) = world.key("team");
    let (core, caller) = (&world.sandboxes, world.caller_of(&secret));
    assert_eq!(core.in_project(&caller, "team").unwrap().owner().as_str(), "team");
    for name in ["default", "nothing", "?"] {
        let error = core.in_project(&caller, name).unwrap_err();
        assert!(matches!(error, SandboxError::OtherProject), "{name}: {error}");
    }
    let moved = core.in_project(&world.caller, "team").unwrap();
    assert_eq!((moved.owner().as_str(), moved.is_host()), ("team", true));
    let missing = core.in_project(&world.caller, "nothing").unwrap_err();
    assert!(matches!(missing, SandboxError::NoSuchProject { .. }), "{missing}");
}

#[test]
fn a_projects_quota_holds_across_a_restart() {
    let mut world = World::start();
    world.project("team", ProjectQuota { sandboxes: Some(1), memory_bytes: None });
    let caller = Caller::remote(Owner::new("team"));
    let first = world.make(&caller).unwrap();
    let full = "the project's limit of 1 sandboxes is reached";
    assert_eq!(world.make(&caller).unwrap_err(), full);
    world.restart(|_| {});
    assert_eq!(world.make(&caller).unwrap_err(), full);
    world.create();
    let shown = world.sandboxes.project(&world.caller, "team").unwrap();
    assert_eq!((shown.sandboxes, shown.memory_bytes), (1, 1 << 30));
    world.run(world.sandboxes.delete(&caller, &first)).unwrap();
    world.until("released", |world| {
        world.sandboxes.project(&world.caller, "team").unwrap().sandboxes == 0
    });
    world.make(&caller).unwrap();
    let memory = ProjectQuota { sandboxes: None, memory_bytes: Some(3 << 29) };
    world.run(world.sandboxes.set_project_quota(&world.caller, "team", memory)).unwrap();
    let error = world.make(&caller).unwrap_err();
    assert_eq!(error, "the project's limit of 1610612736 bytes of memory is reached");
    world.restart(|_| {});
    assert_eq!(world.sandboxes.project(&world.caller, "team").unwrap().quota, memory);
}

#[test]
fn nothing_is_made_in_a_project_that_is_not_there() {
    let world = World::start();
    let nobody = Caller::remote(Owner::new("nothing"));
    assert_eq!(world.make(&nobody).unwrap_err(), "there is no project nothing");
    assert_eq!(world.runtime.guests(), []);
}

#[test]
fn a_project_goes_when_nothing_of_it_is_left() {
    let mut world = World::start();
    world.project("team", ProjectQuota::default());
    let (key, secret) = world.key("team");
    let caller = world.caller_of(&secret);
    let id = world.make(&caller).unwrap();
    let sandboxes = "project team has 1 sandboxes, those that ended included";
    assert_eq!(world.remove_project("team").unwrap_err(), sandboxes);
    world.run(world.sandboxes.delete(&caller, &id)).unwrap();
    world.until("its driver ended", |world| {
        world.sandboxes.project(&world.caller, "team").unwrap().sandboxes == 0
    });
    assert_eq!(world.remove_project("team").unwrap_err(), "project team has 1 keys");
    world.run(world.sandboxes.revoke_key(&world.caller, key.id.as_str())).unwrap();
    world.remove_project("team").unwrap();
    assert_eq!(world.remove_project("team").unwrap_err(), "there is no project team");
    assert_eq!(world.remove_project("default").unwrap_err(), "project default is always there");
    world.crash(|_| {});
    let names: Vec<_> =
        world.sandboxes.projects(&world.caller).unwrap().into_iter().map(|it| it.name).collect();
    assert_eq!(names.iter().map(|it| it.as_str()).collect::<Vec<_>>(), ["default"]);
    // Who takes the name again does not see the past of whoever had it.
    world.project("team", ProjectQuota::default());
    let again = Caller::remote(Owner::new("team"));
    let id = world.make(&again).unwrap();
    let mut events = world.sandboxes.events(&again, None, Some(0));
    let first = world.run(events.next()).unwrap().unwrap();
    assert_eq!(first.sandbox.to_string(), id);
    assert!(first.seq > 3, "numbers are not given twice");
}

#[test]
fn bad_names_and_lifetimes_are_refused() {
    let world = World::start();
    let (core, host) = (&world.sandboxes, &world.caller);
    let message = |error: SandboxError| error.to_string();
    let project = world.run(core.create_project(host, "A b", ProjectQuota::default()));
    assert!(message(project.unwrap_err()).starts_with("project: "));
    let twice = world.run(core.create_project(host, "default", ProjectQuota::default()));
    assert_eq!(message(twice.unwrap_err()), "a project named default exists");
    for name in ["", "a\nb", &"x".repeat(101)] {
        let key = WantedKey { name: name.into(), ..wanted("default", None) };
        assert!(message(world.run(core.create_key(host, key)).unwrap_err()).starts_with("name: "));
    }
    let key = wanted("default", Some(Duration::from_millis(1)));
    let refused = message(world.run(core.create_key(host, key)).unwrap_err());
    assert_eq!(refused, "expires_in_seconds: expected 1 second to 100 years");
    let nowhere = world.run(core.create_key(host, wanted("nothing", None)));
    assert_eq!(message(nowhere.unwrap_err()), "there is no project nothing");
    assert_eq!(core.keys(host).unwrap(), []);
}

#[test]
fn what_was_made_before_there_were_projects_is_the_default_ones() {
    let mut world = World::start();
    let sandbox = world.create();
    assert_eq!(world.events(&sandbox, 2).len(), 2);
    // The database as the version before this one left it.
    for statement in [
        "UPDATE sandboxes SET owner = 'local'",
        "UPDATE events SET owner = 'local'",
        "DROP TABLE api_keys",
        "DROP TABLE projects",
        "DELETE FROM _sqlx_migrations WHERE version = 2",
    ] {
        world.meddle(statement);
    }
    world.crash(|_| {});
    assert_eq!(world.get(&sandbox).id, sandbox.id);
    assert_eq!(world.events(&sandbox, 2).len(), 2);
}

#[test]
fn a_backup_is_a_whole_database_and_leaves_nothing() {
    let world = World::start();
    let sandbox = world.create();
    let backup = world.run(world.sandboxes.backup(&world.caller)).unwrap();
    let mut bytes = Vec::new();
    (&backup.file).read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, backup.length);
    let left: Vec<_> = std::fs::read_dir(world.directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with("warren.db") && !name.starts_with("logs.db"))
        .collect();
    assert!(left.is_empty(), "{left:?}");

    let elsewhere = tempfile::tempdir().unwrap();
    let path = elsewhere.path().join("warren.db");
    std::fs::write(&path, bytes).unwrap();
    world.run(async {
        use sqlx::{ConnectOptions as _, Row as _, sqlite::SqliteConnectOptions};
        let options = SqliteConnectOptions::new().filename(&path);
        let mut copy = options.connect().await.unwrap();
        let row = sqlx::query("SELECT id FROM sandboxes").fetch_one(&mut copy).await.unwrap();
        assert_eq!(row.get::<String, _>(0), sandbox.id.to_string());
    });
}

#[test]
fn a_copy_that_a_dead_server_left_is_removed() {
    let mut world = World::start();
    let left = world.directory.path().join("backup-key-aaaaaaaaaaaaaaaa");
    std::fs::write(&left, "half a copy").unwrap();
    world.crash(|_| {});
    assert!(!left.exists());
}

#[tokio::test]
async fn a_database_in_memory_says_that_it_is_not_copied() {
    use std::sync::Arc;
    use warren_core::{Sandboxes, clock::SystemClock, config::Config, fake::FakeRuntime};
    let store = Store::in_memory(&TaskTracker::new()).await.unwrap();
    let runtime = Arc::new(FakeRuntime::default());
    let core = Sandboxes::open(runtime, store, Arc::new(SystemClock), Config::default());
    let error = core.await.unwrap().backup(&Caller::local()).await.unwrap_err();
    assert_eq!(error.to_string(), "could not back up the database");
}
