//! Files by name, in JSON as E2B's SDKs ask for them.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use serde_json::{Value, json};
use warren_proto::{Code, Status};

use crate::client::Agent;

async fn call(agent: &Agent, method: &str, body: Value) -> Result<Value, Status> {
    agent.json(&format!("filesystem.Filesystem/{method}"), &body).await
}

async fn stat(agent: &Agent, path: &str) -> Value {
    call(agent, "Stat", json!({"path": path})).await.unwrap()["entry"].clone()
}

async fn code(agent: &Agent, method: &str, body: Value) -> Code {
    call(agent, method, body).await.unwrap_err().code
}

#[tokio::test]
async fn a_file_is_described_as_the_sdks_read_it() {
    let agent = Agent::start().await;
    let path = agent.path("hello.txt");
    fs::write(&path, "hello").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let entry = stat(&agent, &path).await;
    let owner = agent.run("id -un; id -gn").await;
    let names: Vec<_> = owner.text().lines().collect();
    assert!(entry["modifiedTime"].as_str().unwrap().ends_with('Z'), "{entry}");
    let mut rest = entry.clone();
    rest.as_object_mut().unwrap().remove("modifiedTime");
    let expected = json!({"name": "hello.txt", "type": "FILE_TYPE_FILE", "path": path, "size": "5",
        "mode": 0o640, "permissions": "-rw-r-----", "owner": names[0], "group": names[1]});
    assert_eq!(rest, expected);
    assert_eq!(code(&agent, "Stat", json!({"path": agent.path("none")})).await, Code::NotFound);
}

#[tokio::test]
async fn a_link_has_its_own_name_and_the_type_of_its_target() {
    let agent = Agent::start().await;
    fs::create_dir(agent.path("dir")).unwrap();
    fs::write(agent.path("dir/file"), "12345").unwrap();
    fs::set_permissions(agent.path("dir/file"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink("dir/file", agent.path("link")).unwrap();
    symlink("dir", agent.path("to_dir")).unwrap();
    symlink("nowhere", agent.path("dangling")).unwrap();
    symlink("loop", agent.path("loop")).unwrap();
    let link = stat(&agent, &agent.path("link")).await;
    assert_eq!((&link["name"], &link["type"]), (&json!("link"), &json!("FILE_TYPE_FILE")));
    assert_eq!((&link["mode"], &link["permissions"]), (&json!(0o600), &json!("Lrwxrwxrwx")));
    assert_eq!(link["symlinkTarget"], json!(agent.path("dir/file")));
    assert_eq!(link.get("isSymlink"), None);
    assert_eq!(stat(&agent, &agent.path("to_dir")).await["type"], "FILE_TYPE_DIRECTORY");
    for name in ["dangling", "loop"] {
        let entry = stat(&agent, &agent.path(name)).await;
        assert_eq!(entry["type"], "FILE_TYPE_SYMLINK");
        assert_eq!(entry["symlinkTarget"], json!(agent.path(name)));
    }
    let below = json!({"path": agent.path("loop/x")});
    assert_eq!(code(&agent, "Stat", below).await, Code::FailedPrecondition);
}

#[tokio::test]
async fn paths_start_at_the_default_directory_and_at_home() {
    let agent = Agent::start().await;
    let work = agent.work().to_str().unwrap().to_owned();
    assert_eq!(stat(&agent, "").await["path"], json!(work));
    let home = stat(&agent, "~").await["path"].as_str().unwrap().to_owned();
    assert_eq!(stat(&agent, ".").await["path"], json!(home));
    assert_eq!(stat(&agent, &format!("{work}//x/..//./")).await["path"], json!(work));
    assert_eq!(stat(&agent, "/").await["name"], "/");
}

#[tokio::test]
async fn directories_are_made_listed_moved_and_removed() {
    let agent = Agent::start().await;
    let made = call(&agent, "MakeDir", json!({"path": agent.path("a/b/c")})).await.unwrap();
    assert_eq!(made["entry"]["permissions"], "drwxr-xr-x");
    let again = code(&agent, "MakeDir", json!({"path": agent.path("a/b/c")})).await;
    assert_eq!(again, Code::AlreadyExists);
    fs::write(agent.path("a/file"), "").unwrap();
    let above = code(&agent, "MakeDir", json!({"path": agent.path("a/file/x")})).await;
    assert_eq!(above, Code::InvalidArgument);
    let list = |depth: u32| json!({"path": agent.path("a"), "depth": depth});
    let names = |value: Value| -> Vec<String> {
        let entries = value["entries"].as_array().unwrap().iter();
        entries.map(|it| it["path"].as_str().unwrap().replace(&agent.path(""), "")).collect()
    };
    assert_eq!(names(call(&agent, "ListDir", list(1)).await.unwrap()), ["a/b", "a/file"]);
    assert_eq!(names(call(&agent, "ListDir", list(2)).await.unwrap()), ["a/b", "a/b/c", "a/file"]);
    let no_depth = json!({"path": agent.path("a")});
    assert_eq!(names(call(&agent, "ListDir", no_depth).await.unwrap()), ["a/b", "a/file"]);
    let moving = json!({"source": agent.path("a/b"), "destination": agent.path("new/place")});
    let moved = call(&agent, "Move", moving.clone()).await.unwrap();
    assert_eq!(moved["entry"]["path"], json!(agent.path("new/place")));
    assert_eq!(code(&agent, "Move", moving).await, Code::NotFound);
    for _ in 0..2 {
        assert_eq!(call(&agent, "Remove", list(0)).await, Ok(json!({})));
    }
    assert_eq!(code(&agent, "ListDir", list(1)).await, Code::NotFound);
    let file = agent.path("f");
    fs::write(&file, "").unwrap();
    assert_eq!(code(&agent, "ListDir", json!({"path": file})).await, Code::InvalidArgument);
    assert_eq!(code(&agent, "Remove", json!({"path": "/"})).await, Code::InvalidArgument);
}

#[tokio::test]
async fn special_files_are_described_and_never_wait() {
    let agent = Agent::start().await;
    let pipe = agent.path("pipe");
    let place = rustix::fs::CWD;
    rustix::fs::mknodat(place, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let entry = stat(&agent, &pipe).await;
    assert_eq!(entry["permissions"], "prw-------");
    assert_eq!(entry.get("type"), None, "no type that the protocol knows");
    for path in [&pipe, "/dev/null", "/dev/tty"] {
        let answer = agent.http("GET", &format!("/files?path={path}"), &[], "").await;
        assert!([400, 404, 500].contains(&answer.status), "{path}: {}", answer.status);
    }
    let headers = [("content-type", "application/octet-stream")];
    let answer = agent.http("POST", &format!("/files?path={pipe}"), &headers, "x").await;
    assert_eq!(answer.status, 400, "a pipe that nobody reads: {:?}", answer.body);
}

#[tokio::test]
async fn the_agents_own_process_cannot_be_reached_as_files() {
    let agent = Agent::start().await;
    for name in ["mem", "environ", "fd/3", "root/etc/passwd", "cwd"] {
        for process in ["self".to_owned(), agent.pid().to_string(), "thread-self".to_owned()] {
            let path = format!("/files?path=/proc/{process}/{name}");
            let read = agent.http("GET", &path, &[], "").await;
            assert!((400..500).contains(&read.status), "{path}: {}", read.status);
            let headers = [("content-type", "application/octet-stream")];
            let written = agent.http("POST", &path, &headers, "x").await;
            assert!((400..500).contains(&written.status), "{path}: {}", written.status);
        }
    }
    let version = agent.http("GET", "/files?path=/proc/version", &[], "").await;
    assert!(version.body.starts_with(b"Linux"), "other files of /proc are read");
}

#[tokio::test]
async fn another_user_is_held_to_permissions() {
    let agent = Agent::start().await;
    if !warren_sys::users::may_switch_users() {
        // Everything runs as the one user there is; the name must exist all the same.
        let answer = agent.http("GET", "/files?path=/&username=no-such", &[], "").await;
        return assert_eq!(answer.status, 401);
    }
    let secret = agent.path("secret");
    fs::write(&secret, "s").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    for folder in [agent.work(), agent.work().parent().unwrap().to_owned()] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let nobody = [("authorization", "Basic bm9ib2R5Og==")];
    let path = format!("/files?path={secret}");
    assert_eq!(agent.http("GET", &path, &nobody, "").await.status, 403);
    assert_eq!(agent.http("GET", &path, &[], "").await.status, 200);
    let headers = [nobody[0], ("content-type", "application/octet-stream")];
    assert_eq!(agent.http("POST", &path, &headers, "x").await.status, 403);
    let open = agent.path("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let path = format!("/files?path={open}/sub/mine");
    assert_eq!(agent.http("POST", &path, &headers, "x").await.status, 200);
    assert_eq!(stat(&agent, &format!("{open}/sub/mine")).await["owner"], "nobody");
    assert_eq!(stat(&agent, &format!("{open}/sub")).await["owner"], "nobody");
    let request = crate::client::shell("id -un; id -u");
    let done = agent.spawn_with(&nobody, request).await.unwrap().finish().await;
    assert_eq!(done.text(), "nobody\n65534");
}
