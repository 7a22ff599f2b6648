//! Homes in temporary directories, and what somebody hostile puts into them.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
};

use rustix::fs::{CWD, FileType};
use tempfile::TempDir;

use super::*;

fn home() -> (TempDir, Home) {
    let base = tempfile::tempdir().unwrap();
    let home = Home::open(&base.path().join("a b/.agentvm")).unwrap();
    (base, home)
}

fn name(text: &str) -> AgentName {
    text.parse().unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn everything_is_its_owners_alone() {
    let (_base, home) = home();
    let one = name("one");
    home.make_agent(&one).unwrap();
    home.write(Item::Env, b"A=1\n", true).unwrap();
    home.write(Item::Record(&one), b"x", false).unwrap();
    home.begin_log(&one).unwrap();
    home.append(Item::History, "line").unwrap();
    for path in ["", "state", "workspaces", "homes", "keys", "workspaces/one", "homes/one"] {
        assert_eq!(mode(&home.path().join(path)), 0o700, "{path}");
    }
    for path in ["env", "history.log", "state/one.env", "state/one.log"] {
        assert_eq!(mode(&home.path().join(path)), 0o600, "{path}");
    }
    // Another tool has made them for everybody.
    fs::set_permissions(home.path().join("state"), fs::Permissions::from_mode(0o755)).unwrap();
    Home::open(home.path()).unwrap();
    assert_eq!(mode(&home.path().join("state")), 0o700);
}

#[test]
fn files_are_replaced_whole_and_read_back() {
    let (_base, home) = home();
    let one = name("one");
    assert_eq!(home.read(Item::Record(&one)).unwrap(), None);
    fs::write(home.path().join("state/one.env.partial"), "of a crash").unwrap();
    home.write(Item::Record(&one), b"first", false).unwrap();
    home.write(Item::Record(&one), b"second", true).unwrap();
    assert_eq!(home.read(Item::Record(&one)).unwrap().unwrap(), b"second");
    let names: Vec<_> = fs::read_dir(home.path().join("state")).unwrap().flatten().collect();
    assert_eq!(names.len(), 2, "the record and the lock: {names:?}");
    home.remove(Item::Record(&one)).unwrap();
    home.remove(Item::Record(&one)).unwrap();
    assert_eq!(home.read(Item::Record(&one)).unwrap(), None);
}

#[test]
fn a_log_begins_empty_and_is_gone_on_with() {
    let (_base, home) = home();
    let one = name("one");
    assert!(home.open_log(&one).is_err());
    home.begin_log(&one).unwrap().write_all(b"of before").unwrap();
    home.begin_log(&one).unwrap().write_all(b"first ").unwrap();
    home.open_log(&one).unwrap().write_all(b"second").unwrap();
    assert_eq!(home.read(Item::Log(&one)).unwrap().unwrap(), b"first second");
}

#[test]
fn agents_are_what_has_a_record_with_a_name() {
    let (_base, home) = home();
    for file in
        ["s10.env", "s1.env", "a_b.env", "-x.env", ".env", "s2.log", "..env", "s3.env.partial"]
    {
        fs::write(home.path().join("state").join(file), "").unwrap();
    }
    assert_eq!(home.agents().unwrap(), [name("s1"), name("s10")]);
    assert_eq!(home.own_profiles().unwrap(), []);
    fs::create_dir(home.path().join("profiles")).unwrap();
    for file in ["mine.env", "mine.toml", "other_1.toml", "setup.sh", "x.y.env"] {
        fs::write(home.path().join("profiles").join(file), "").unwrap();
    }
    let names: Vec<_> = home.own_profiles().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["mine", "other_1"]);
}

#[test]
fn what_came_to_be_in_part_is_found() {
    let (_base, home) = home();
    let (whole, part, keyed) = (name("whole"), name("part"), name("keyed"));
    for agent in [&whole, &part] {
        home.make_agent(agent).unwrap();
    }
    home.write(Item::Record(&whole), b"", false).unwrap();
    home.write(Item::Key(&keyed), b"", false).unwrap();
    assert_eq!(home.leftovers().unwrap(), [keyed, part.clone()]);
    home.remove_agent(&home.claim(&part).unwrap()).unwrap();
    assert_eq!(home.leftovers().unwrap().len(), 1);
}

#[test]
fn links_are_neither_read_nor_written_through() {
    let (base, home) = home();
    let one = name("one");
    let target = base.path().join("target");
    fs::write(&target, "theirs").unwrap();
    for item in [Item::Env, Item::History, Item::Record(&one), Item::Log(&one), Item::Key(&one)] {
        symlink(&target, home.path_of(item)).unwrap();
        let error = home.read(item).unwrap_err();
        assert!(matches!(error, HomeError::Kind { .. }), "{error}");
        assert!(home.append(item, "x").is_err());
    }
    home.begin_log(&one).unwrap();
    home.write(Item::Env, b"ours", false).unwrap();
    assert_eq!(fs::read_to_string(&target).unwrap(), "theirs");
    assert_eq!(home.read(Item::Env).unwrap().unwrap(), b"ours");
    // A partial file and a lock that lead elsewhere.
    symlink(&target, home.path().join("config.partial")).unwrap();
    home.write(Item::Config, b"ours", false).unwrap();
    fs::remove_file(home.path().join("state/.lock")).unwrap();
    symlink(&target, home.path().join("state/.lock")).unwrap();
    assert!(home.write(Item::Config, b"ours", false).is_err());
    symlink(&target, home.path().join("state/.one.claim")).unwrap();
    assert!(home.claim(&one).is_err());
    assert_eq!(fs::read_to_string(&target).unwrap(), "theirs");
}

#[test]
fn a_directory_that_is_a_link_is_refused() {
    let (base, home) = home();
    let elsewhere = base.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    for directory in DIRECTORIES {
        fs::remove_dir_all(home.path().join(directory)).unwrap();
        symlink(&elsewhere, home.path().join(directory)).unwrap();
        let error = Home::open(home.path()).unwrap_err();
        assert!(error.to_string().contains("is a link or no directory"), "{error}");
        assert!(home.write(Item::Record(&name("x")), b"", false).is_err() || directory != STATE);
        fs::remove_file(home.path().join(directory)).unwrap();
        fs::create_dir(home.path().join(directory)).unwrap();
    }
    symlink(&elsewhere, home.path().join("workspaces/one")).unwrap();
    assert!(home.make_agent(&name("one")).is_err());
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
}

#[test]
fn pipes_directories_and_endless_files_are_refused() {
    let (_base, home) = home();
    let one = name("one");
    rustix::fs::mknodat(CWD, home.path_of(Item::Env), FileType::Fifo, 0o600.into(), 0).unwrap();
    assert!(matches!(home.read(Item::Env), Err(HomeError::Kind { .. })));
    assert!(matches!(home.append(Item::Env, "x"), Err(HomeError::Kind { .. })));
    fs::create_dir(home.path_of(Item::Record(&one))).unwrap();
    assert!(matches!(home.read(Item::Record(&one)), Err(HomeError::Kind { .. })));
    let large = fs::File::create(home.path_of(Item::Config)).unwrap();
    large.set_len(1 << 40).unwrap();
    assert!(matches!(home.read(Item::Config), Err(HomeError::Size { .. })));
}

#[test]
fn removing_an_agent_follows_no_link_of_its_workspace() {
    let (base, home) = home();
    let (one, other) = (name("s1"), name("s10"));
    let outside = base.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "stays").unwrap();
    for agent in [&one, &other] {
        home.make_agent(agent).unwrap();
        home.write(Item::Record(agent), b"AGENT_WORKSPACE='/etc'\n", false).unwrap();
        home.begin_log(agent).unwrap();
    }
    symlink(&outside, home.workspace(&one).join("link")).unwrap();
    fs::create_dir(home.workspace(&one).join("deep")).unwrap();
    symlink("/", home.agent_home(&one).join(".gitconfig")).unwrap();
    home.remove_agent(&home.claim(&one).unwrap()).unwrap();
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "stays");
    assert_eq!(home.agents().unwrap(), std::slice::from_ref(&other));
    assert!(!home.workspace(&one).exists() && home.workspace(&other).exists());
    assert!(!home.agent_home(&one).exists() && home.path_of(Item::Log(&other)).exists());
    // A workspace that is itself a link: the link goes.
    symlink(&outside, home.workspace(&one)).unwrap();
    home.remove_agent(&home.claim(&one).unwrap()).unwrap();
    assert!(outside.join("file").exists());
}

#[test]
fn a_renamed_agent_takes_everything_along() {
    let (_base, home) = home();
    let (old, new) = (home.claim(&name("old")).unwrap(), home.claim(&name("new")).unwrap());
    let all = |name| [Item::Record(name), Item::Log(name), Item::Prompt(name), Item::Key(name)];
    home.make_agent(old.name()).unwrap();
    fs::write(home.workspace(old.name()).join("file"), "work").unwrap();
    for item in all(old.name()) {
        home.write(item, b"x", false).unwrap();
    }
    home.rename_agent(&old, &new).unwrap();
    let moved = fs::read_to_string(home.workspace(new.name()).join("file")).unwrap();
    assert_eq!((moved.as_str(), home.agents().unwrap()), ("work", vec![name("new")]));
    for (from, to) in all(old.name()).into_iter().zip(all(new.name())) {
        assert_eq!(home.read(from).unwrap(), None);
        assert_eq!(home.read(to).unwrap().unwrap(), b"x");
    }
    // A crash has left the record with the old name: the same command again finishes it.
    fs::rename(home.path().join("state/new.env"), home.path().join("state/old.env")).unwrap();
    home.rename_agent(&old, &new).unwrap();
    assert_eq!(home.agents().unwrap(), [name("new")]);
    // Nothing is moved over what another one has.
    home.make_agent(old.name()).unwrap();
    assert!(home.rename_agent(&old, &new).is_err());
    assert!(home.workspace(new.name()).join("file").exists());
}

#[test]
fn one_command_at_a_time_changes_an_agent() {
    let (_base, home) = home();
    let (one, ten) = (name("s1"), name("s10"));
    let claim = home.claim(&one).unwrap();
    assert!(matches!(home.claim(&one), Err(HomeError::Claimed(_))));
    let other = home.claim(&ten).unwrap();
    drop(claim);
    assert_eq!(home.claim(&one).unwrap().name(), &one);
    drop(other);
    // Nothing of it stays, and what a crash left is taken over.
    let left = |it: &str| home.path().join("state").join(it).exists();
    assert!(!left(".s1.claim") && !left(".s10.claim"));
    fs::write(home.path().join("state/.s1.claim"), "").unwrap();
    home.claim(&one).unwrap();
}

#[test]
fn writers_at_once_leave_one_whole_file() {
    let (_base, home) = home();
    std::thread::scope(|scope| {
        for writer in 0..4_u8 {
            let home = &home;
            scope.spawn(move || {
                for _ in 0..20 {
                    home.write(Item::Env, &[b'a' + writer; 4096], false).unwrap();
                }
            });
        }
    });
    let bytes = home.read(Item::Env).unwrap().unwrap();
    assert_eq!(bytes.len(), 4096);
    assert!(bytes.windows(2).all(|it| it[0] == it[1]));
}
