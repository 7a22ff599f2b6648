//! The secret is searched for in everything that a sandbox and its server have.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use serde_json::json;

use super::{HALVES, arrived, bearer, value, with_credentials};
use crate::harness::{Leftovers, in_world, needs};

/// Finds the value in every file, environment, command line and memory that root inside can read,
/// and prints where. Its own process is left out: it has the value itself.
const SEARCH: &str = r#"
import json, os, sys
needle = "".join(sys.argv[1:3]).encode()
found = []

def look(path, stream):
    rest = b""
    while piece := stream.read(1 << 20):
        if needle in rest + piece:
            found.append(path)
            return
        rest = piece[-len(needle):]

def files():
    for directory, below, names in os.walk("/", onerror=lambda _: None):
        if directory == "/":
            below[:] = [it for it in below if it not in ("proc", "sys", "dev", "usr", "lib")]
        for name in names:
            yield os.path.join(directory, name)

for path in files():
    try:
        if os.path.isfile(path) and not os.path.islink(path):
            with open(path, "rb") as stream:
                look(path, stream)
    except OSError:
        pass
for pid in filter(str.isdigit, os.listdir("/proc")):
    if int(pid) == os.getpid():
        continue
    for name in ("environ", "cmdline"):
        try:
            with open(f"/proc/{pid}/{name}", "rb") as stream:
                look(stream.name, stream)
        except OSError:
            pass
print(json.dumps(found))
"#;

#[test]
fn the_secret_is_nowhere_in_the_sandbox() {
    needs!("python3");
    needs!("curl");
    in_world(|world| {
        let sandbox = with_credentials(world);
        // Long enough for its memory to be looked at, and has used the secret.
        sandbox.root(
            "curl -sS https://one.example/ -o /tmp/answer; \
             (curl -sS -N https://one.example/events > /tmp/events 2>&1 &) > /dev/null 2>&1; \
             env > /tmp/env",
        );
        assert_eq!(arrived(world, "one.example").header("authorization"), Some(&*bearer()));
        let search = json!({
            "command": ["/usr/bin/python3", "-c", SEARCH, HALVES[0], HALVES[1]],
            "user": "root", "timeout_ms": 80_000,
        });
        let outcome = sandbox.exec_as(&search);
        assert_eq!(outcome["stdout"], "[]\n", "{outcome}");
        // What it cannot read itself is read from outside: the memory of all its processes.
        let processes = Leftovers::processes(&world.home);
        assert!(processes.len() >= 2, "the agent and a client: {processes:?}");
        for pid in processes {
            assert!(!remembers(pid, value().as_bytes()), "process {pid} has it in its memory");
        }
        let server = world.home.server_pid().expect("a server runs");
        assert!(remembers(server, value().as_bytes()), "what is searched for would be found");
    });
}

#[test]
fn the_secret_is_in_no_file_of_the_server_and_no_answer_has_it() {
    needs!("curl");
    in_world(|world| {
        let sandbox = with_credentials(world);
        sandbox.root("curl -sS https://one.example/ -o /tmp/answer");
        let holders = [world.home.data(), world.home.run_directory()]
            .into_iter()
            .flat_map(|directory| files(&directory))
            .filter(|path| fs::read(path).is_ok_and(|bytes| contains(&bytes, value().as_bytes())));
        assert_eq!(holders.collect::<Vec<_>>(), Vec::<PathBuf>::new());
        for arguments in [
            &["secret", "list", "--json"][..],
            &["credential", "show", &sandbox.id, "--json"],
            &["info", &sandbox.id, "--json"],
            &["net", "show", &sandbox.id, "--json"],
        ] {
            let said = world.home.warren(arguments).good().text();
            assert!(!said.contains(HALVES[1]), "{arguments:?}: {said}");
        }
    });
}

/// Whether a process has these bytes in memory that it can write to.
fn remembers(pid: u32, needle: &[u8]) -> bool {
    let Ok(maps) = fs::read_to_string(format!("/proc/{pid}/maps")) else { return false };
    let Ok(mut memory) = File::open(format!("/proc/{pid}/mem")) else { return false };
    let regions = maps.lines().filter(|line| line.contains(" rw")).filter_map(|line| {
        let (first, rest) = line.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        Some((number(first)?, number(rest.split(' ').next()?)?))
    });
    for (first, end) in regions.collect::<Vec<_>>() {
        let mut bytes = Vec::new();
        // A region may go while it is read.
        let read = memory.seek(SeekFrom::Start(first)).is_ok()
            && (&mut memory).take(end - first).read_to_end(&mut bytes).is_ok();
        if read && contains(&bytes, needle) {
            return true;
        }
    }
    false
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

/// Every file below a directory that is no mount of somebody else's.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}
