//! Warren under a service manager: what `deploy/` says, and what the server does there.

use std::{
    fs,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use serde_json::json;

use crate::harness::{Home, command, run, skip, wait_until};

/// A file of `deploy/`.
fn recipe(name: &str) -> (PathBuf, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(name);
    let text = fs::read_to_string(&path).expect("a file of deploy/");
    (path, text)
}

/// A service manager that waits to be told.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(home: &Home) -> Self {
        let path = home.data().with_file_name("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(60))).expect("set a timeout");
        Self { socket, path }
    }

    fn start(&self, home: &Home) -> Service {
        let mut serve = home.command(&["serve"]);
        serve.env("NOTIFY_SOCKET", &self.path).stderr(Stdio::null());
        Service(serve.spawn().expect("start a server"))
    }

    /// What it is told next.
    #[track_caller]
    fn told(&self) -> String {
        let mut text = [0; 256];
        let length = self.socket.recv(&mut text).expect("to be told");
        String::from_utf8_lossy(&text[..length]).into_owned()
    }
}

/// A server in the foreground, ended when this is dropped.
struct Service(Child);

impl Service {
    fn end(&mut self) {
        run(command("kill").args(["-TERM", &self.0.id().to_string()]), b"").good();
        assert!(self.0.wait().expect("wait for the server").success());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.0.kill()); // gone already is as good
        drop(self.0.wait());
    }
}

#[test]
fn the_unit_is_one_that_systemd_understands() {
    let (_, unit) = recipe("warren.service");
    for needed in ["Type=notify", "KillMode=process", "Delegate=yes", "TasksMax=infinity"] {
        assert!(unit.lines().any(|line| line == needed), "no {needed}");
    }
    // Whatever a guest would inherit, or what needs a mount namespace of the server's own.
    for line in unit.lines().filter(|line| !line.starts_with('#')) {
        let key = line.split('=').next().unwrap_or_default();
        let harmful = ["NoNewPrivileges", "SystemCallFilter", "Restrict", "Protect", "Private"];
        assert!(!harmful.iter().any(|it| key.starts_with(it)), "{line}");
    }
    if !Path::new("/usr/bin/systemd-analyze").exists() {
        skip!("systemd-analyze is not installed");
    }
    let directory = tempfile::tempdir().expect("a directory");
    let copy = directory.path().join("warren.service");
    // The program that a unit names must exist.
    fs::write(&copy, unit.replace("/usr/local/bin/warren", "/bin/true")).expect("a copy");
    let said = run(command("systemd-analyze").arg("verify").arg(&copy), b"").good();
    let ours: Vec<String> =
        said.errors().lines().filter(|line| line.contains("warren")).map(Into::into).collect();
    assert!(ours.is_empty(), "{ours:?}");
}

/// Runs the container's entry point with the binary under test, as an init would.
fn container(home: &Home) -> Service {
    let mut entry = home.command(&[]);
    let warren = PathBuf::from(entry.get_program());
    let bin = home.data().with_file_name("bin");
    fs::create_dir(&bin).expect("a directory");
    std::os::unix::fs::symlink(warren, bin.join("warren")).expect("a link");
    let environment: Vec<_> = entry
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
        .collect();
    entry = command("sh");
    entry.arg(recipe("entrypoint.sh").0).envs(environment).stderr(Stdio::null());
    entry.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bin.display()));
    Service(entry.spawn().expect("start the entry point"))
}

#[test]
fn in_a_container_sandboxes_outlive_the_server_and_the_next_one_is_started() {
    let home = Home::new();
    let mut container = container(&home);
    wait_until("a server listens", || home.socket().exists());
    let sandbox = home.create(&json!({}));
    home.kill_server();
    wait_until("there is another server", || home.server_pid().is_some());
    assert_eq!(sandbox.exec(&["echo", "alive"])["stdout"], "alive\n");
    let before = home.server_pid();
    home.warren(&["serve", "--stop"]).good();
    wait_until("there is a third server", || {
        home.server_pid().is_some_and(|pid| Some(pid) != before)
    });
    assert_eq!(sandbox.get()["state"], "running");
    container.end();
    assert_eq!(home.server_pid(), None);
}

#[test]
fn the_container_has_an_init_and_a_volume() {
    let (_, recipe) = recipe("Dockerfile");
    let lines: Vec<&str> = recipe.lines().collect();
    for needed in [
        r#"ENTRYPOINT ["tini", "--", "warren-entrypoint"]"#,
        "COPY deploy/entrypoint.sh /usr/local/bin/warren-entrypoint",
        "VOLUME /var/lib/warren",
    ] {
        assert!(lines.contains(&needed), "no {needed}");
    }
}

#[test]
fn a_service_tells_its_manager_and_takes_over_from_a_background_server() {
    let home = Home::new();
    let sandbox = home.create(&json!({"name": "kept"}));
    let before = home.server_pid();
    let manager = Manager::new(&home);
    let mut service = manager.start(&home);
    assert_eq!(manager.told(), "READY=1\nSTATUS=serving");
    assert_ne!(home.server_pid(), before);
    assert_eq!(sandbox.get()["state"], "running");
    assert_eq!(home.api("GET", "/v1/ready", b"").json()["status"], "ok");
    // A second service is told of the first, and does not end it.
    let second = home.warren(&["serve"]);
    assert!(second.errors().contains("a server runs already"), "{}", second.errors());
    service.end();
    assert!(manager.told().starts_with("STOPPING=1\n"));
    // The next command starts a server in the background again, and the sandbox is there.
    assert_eq!(home.warren(&["list", "--quiet"]).good().text().trim(), sandbox.id);
    wait_until("the sandbox answers", || sandbox.exec(&["true"])["exit_code"] == 0);
}
