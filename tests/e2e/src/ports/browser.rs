//! Ports in a real browser: preview, cookies, WebSockets, and pages of strangers.

use std::{
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::Served;
use crate::harness::{Home, command, kill, needs, wait_until};

/// What a page of the sandbox may do, and says afterwards.
pub(crate) const PREVIEW: &str = r#"<!doctype html><title>preview</title><script>
const report = found => fetch('/report', {method: 'POST', body: JSON.stringify(found)});
const found = {cookie: document.cookie, address: location.href, secure: isSecureContext};
const socket = new WebSocket(`${location.origin.replace('http', 'ws')}/socket`);
socket.onerror = () => report({...found, socket: 'refused'});
socket.onopen = () => socket.send('hello');
socket.onmessage = async message => {
  found.socket = message.data;
  found.fetched = (await (await fetch('/data')).text()).split(' ')[1];
  report(found);
};
</script>"#;

/// What a page of another sandbox tries. `VICTIM` is the host of the first one's port.
const STRANGER: &str = r#"<!doctype html><title>stranger</title><script>
const tried = async (url, options) => {
  try { return String((await fetch(url, options)).status); } catch (error) { return 'failed'; }
};
(async () => {
  const found = {};
  found.read = await tried('http://VICTIM/stolen', {credentials: 'include'});
  await tried('http://VICTIM/written', {method: 'POST', mode: 'no-cors', credentials: 'include', body: 'x'});
  found.api = await tried(`http://localhost:${location.port}/v1/sandboxes`, {credentials: 'include'});
  found.socket = await new Promise(done => {
    const socket = new WebSocket('ws://VICTIM/socket?stolen');
    socket.onopen = () => done('opened');
    socket.onerror = () => done('failed');
  });
  await fetch('/report', {method: 'POST', body: JSON.stringify(found)});
})();
</script>"#;

/// A browser with a profile of its own.
pub(crate) struct Browser {
    profile: TempDir,
    /// Where it finds whom to trust.
    home: PathBuf,
    open: Option<Child>,
}

impl Browser {
    fn new() -> Self {
        let mut browser = Self::of(Path::new("/"));
        browser.home = browser.profile.path().to_owned();
        browser
    }

    /// The browser of somebody with this home.
    pub(crate) fn of(home: &Path) -> Self {
        let profile = tempfile::Builder::new().prefix("warren-e2e-browser-").tempdir();
        Self { profile: profile.expect("a directory"), home: home.to_owned(), open: None }
    }

    /// Opens a page, in the same browser as the ones before it: what it keeps in memory stays.
    pub(crate) fn open(&mut self, address: &str) {
        if self.open.is_some() {
            return self.open_another(address);
        }
        let mut chromium = command("chromium");
        chromium
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--no-first-run", "--disable-background-networking", "--disable-extensions"])
            .arg(format!("--user-data-dir={}", self.profile.path().display()))
            .arg("--remote-debugging-port=0")
            .arg(address)
            .env("HOME", &self.home)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.open = Some(chromium.spawn().expect("a browser"));
    }

    /// Opens a page in the browser that runs, through the port of its developer tools.
    fn open_another(&self, address: &str) {
        let port = std::fs::read_to_string(self.profile.path().join("DevToolsActivePort"));
        let port: u16 = port.expect("its port").lines().next().unwrap().parse().expect("a port");
        let mut tools = std::net::TcpStream::connect(("127.0.0.1", port)).expect("its tools");
        let request = format!(
            "PUT /json/new?{address} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\
             Connection: close\r\n\r\n"
        );
        tools.write_all(request.as_bytes()).expect("ask for a page");
        let mut answer = [0; 12];
        tools.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 200", "{}", answer.escape_ascii());
    }

    fn close(&mut self) {
        let Some(mut child) = self.open.take() else { return };
        // Asked first, so that it writes its cookies down.
        drop(command("kill").arg(child.id().to_string()).output());
        let ended = std::time::Instant::now();
        while child.try_wait().is_ok_and(|status| status.is_none()) {
            if ended.elapsed().as_secs() > 20 {
                kill(child.id());
            }
            std::thread::yield_now();
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.close();
    }
}

/// What a page has reported.
pub(crate) fn reported(served: &Served<'_>) -> Value {
    let read = || served.sandbox.api("GET", "/files?path=/tmp/report", b"");
    wait_until("the page reports", || read().status == 200);
    serde_json::from_slice(&read().body).expect("a report")
}

#[test]
fn a_browser_opens_a_link_and_strangers_get_nothing_from_that() {
    needs!("python3");
    needs!("chromium");
    let home = Home::new();
    let served = Served::start(&home, &json!({}), PREVIEW);
    let mut browser = Browser::new();
    let url = served.link["url"].as_str().expect("an address");
    browser.open(&format!("{url}page?warren_token={}", served.token()));
    let found = reported(&served);
    assert_eq!(found["address"], format!("{url}page"), "the token is gone: {found}");
    assert_eq!(found["cookie"], "", "the page does not see the cookie: {found}");
    assert_eq!((&found["socket"], &found["fetched"]), (&"hello".into(), &"/data".into()));
    assert_eq!(found["secure"], true, "{found}");
    let log = served.sandbox.root("cat /tmp/requests");
    assert!(!log.contains("warren_token") && !log.contains("wrt_"), "{log}");

    // The same browser, a page of another sandbox, which knows the name of the first.
    let page = STRANGER.replace("VICTIM", &served.host(3000));
    let stranger = Served::start(&home, &json!({"public_ports": [3000]}), &page);
    let url = stranger.link["url"].as_str().expect("an address");
    browser.open(&format!("{url}page"));
    let found = reported(&stranger);
    assert_eq!((&found["read"], &found["socket"]), (&"failed".into(), &"failed".into()), "{found}");
    assert_eq!(found["api"], "failed", "{found}");
    let log = served.sandbox.root("cat /tmp/requests");
    assert!(!log.contains("stolen") && !log.contains("written"), "{log}");
    // The cookie was there all the time.
    served.sandbox.root("rm /tmp/report");
    let url = served.link["url"].as_str().expect("an address");
    browser.open(&format!("{url}page"));
    assert_eq!(reported(&served)["socket"], "hello");
}
