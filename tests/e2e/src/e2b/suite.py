"""What the documentation of E2B's Python package shows, against a real server.

The package is unchanged, and finds the server by its environment variables alone. `EDGE` is the
address that ports of sandboxes are asked at, for there is no name server here.
"""

import http.client
import json
import os
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid

sys.path.insert(0, os.environ["CHECK"])
from check import Skip, raises, run, wait_until  # noqa: E402

import e2b  # noqa: E402
import httpcore  # noqa: E402
from e2b import CommandExitException, NotFoundException, Sandbox, TimeoutException  # noqa: E402

EDGE = os.environ["EDGE"]
shared = None


def box():
    """The sandbox that all tests share that change nothing of it."""
    global shared
    if shared is None:
        shared = Sandbox.create(timeout=600, metadata={"for": "all of them"}, envs={"WORD": "global"})
    return shared


def close():
    if shared is not None:
        shared.kill()


def fetch(url, method="GET", data=None, headers=None):
    """Status and body of an address, as a program without the package asks for it."""
    request = urllib.request.Request(url, data, headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def at_port(sandbox, port, path="/", headers=None):
    """What a port answers by its name."""
    host = sandbox.get_host(port)
    assert host.startswith(f"{port}-{sandbox.sandbox_id}."), host
    return fetch(f"http://{EDGE}{path}", headers={"Host": host, **(headers or {})})


def need(thing, name):
    if not hasattr(thing, name):
        raise Skip(f"this version has no `{name}`")


def test_create_and_info():
    sandbox = box()
    assert sandbox.is_running()
    info = sandbox.get_info()
    assert info.sandbox_id == sandbox.sandbox_id and info.metadata == {"for": "all of them"}, info
    left = (info.end_at - info.started_at).total_seconds()
    assert 590 <= left <= 610, left


def test_timeouts():
    with Sandbox.create(timeout=120) as sandbox:
        before = sandbox.get_info().end_at
        Sandbox.connect(sandbox.sandbox_id, timeout=30)
        assert sandbox.get_info().end_at == before, "connect never shortens"
        Sandbox.connect(sandbox.sandbox_id, timeout=400)
        longer = sandbox.get_info().end_at
        assert longer > before
        sandbox.set_timeout(60)
        assert sandbox.get_info().end_at < before, "what is set counts"


def test_lists():
    mark = uuid.uuid4().hex
    first = Sandbox.create(timeout=60, metadata={"a b": "c&d=ü", "mark": mark})
    second = Sandbox.create(timeout=60, metadata={"mark": mark})
    try:
        query = e2b.SandboxQuery(metadata={"mark": mark})
        pages = Sandbox.list(query=query, limit=1)
        page = pages.next_items()
        assert [it.sandbox_id for it in page] == [second.sandbox_id], page
        assert pages.has_next
        page = pages.next_items()
        assert [it.sandbox_id for it in page] == [first.sandbox_id] and not pages.has_next
        odd = Sandbox.list(query=e2b.SandboxQuery(metadata={"a b": "c&d=ü"})).next_items()
        assert [it.sandbox_id for it in odd] == [first.sandbox_id], odd
        first.kill()
        left = Sandbox.list(query=query).next_items()
        assert [it.sandbox_id for it in left] == [second.sandbox_id], "a kill is seen at once"
    finally:
        first.kill()
        second.kill()


def test_commands():
    sandbox = box()
    out, err = [], []
    done = sandbox.commands.run(
        "echo out; echo err >&2; printf 'ü€'", on_stdout=out.append, on_stderr=err.append
    )
    assert (done.stdout, done.stderr, done.exit_code) == ("out\nü€", "err\n", 0), done
    assert "".join(out) == done.stdout and "".join(err) == done.stderr
    failed = raises(CommandExitException, lambda: sandbox.commands.run("echo no >&2; exit 7"))
    assert (failed.exit_code, failed.stderr) == (7, "no\n"), failed
    about = sandbox.commands.run("id -un; pwd; echo $WORD $ONE", cwd="/tmp", envs={"ONE": "1"})
    assert about.stdout == "user\n/tmp\nglobal 1\n", about
    assert sandbox.commands.run("id -un; sudo id -un").stdout == "user\nroot\n"
    assert sandbox.commands.run("id -un", user="root").stdout == "root\n"
    nobody = raises(Exception, lambda: sandbox.commands.run("true", user="nobody-here"))
    assert "nobody-here" in str(nobody), nobody
    assert sandbox.commands.run("echo $E2B_SANDBOX $E2B_SANDBOX_ID").stdout == (
        f"true {sandbox.sandbox_id}\n"
    )
    much = sandbox.commands.run("head -c 3000000 /dev/zero | tr '\\0' x")
    assert len(much.stdout) == 3_000_000
    # The package waits as long as the server itself, and where it is first it says so in its own words.
    late = (TimeoutException, httpcore.ReadTimeout)
    raises(late, lambda: sandbox.commands.run("sleep 30", timeout=1))


def test_commands_in_the_background():
    sandbox = box()
    handle = sandbox.commands.run("echo started; sleep 60", background=True)
    assert handle.pid in [it.pid for it in sandbox.commands.list()]
    again = sandbox.commands.connect(handle.pid)
    assert again.pid == handle.pid
    assert handle.kill() is True
    ended = raises(CommandExitException, handle.wait)
    assert ended.exit_code != 0
    assert sandbox.commands.kill(handle.pid) is False
    raises(NotFoundException, lambda: sandbox.commands.connect(999_999))
    reader = sandbox.commands.run("cat", background=True, stdin=True)
    sandbox.commands.send_stdin(reader.pid, "hello\n")
    if hasattr(sandbox.commands, "close_stdin"):
        sandbox.commands.close_stdin(reader.pid)
        assert reader.wait().stdout == "hello\n"
    else:
        assert sandbox.commands.kill(reader.pid)


def test_files():
    files = box().files
    written = files.write("notes/ä b.txt", "one\ntwo")
    assert (written.path, written.name) == ("/home/user/notes/ä b.txt", "ä b.txt"), written
    assert files.read("notes/ä b.txt") == "one\ntwo"
    assert bytes(files.read("notes/ä b.txt", format="bytes")) == b"one\ntwo"
    assert b"".join(files.read("notes/ä b.txt", format="stream")) == b"one\ntwo"
    blob = os.urandom(5_000_000)
    files.write("blob", blob)
    assert bytes(files.read("blob", format="bytes")) == blob
    files.write("empty", "")
    assert files.read("empty") == ""
    several = files.write_files(
        [{"path": "/tmp/many/a", "data": "A"}, {"path": "/tmp/many/b", "data": b"B"}]
    )
    assert [it.path for it in several] == ["/tmp/many/a", "/tmp/many/b"], several
    assert [it.name for it in files.list("/tmp/many")] == ["a", "b"]
    assert files.make_dir("/tmp/many/sub/deep") is True
    assert files.make_dir("/tmp/many/sub/deep") is False
    files.write("/tmp/many/sub/deep/c", "C")
    deep = [it.path for it in files.list("/tmp/many", depth=3)]
    assert deep == [
        "/tmp/many/a", "/tmp/many/b", "/tmp/many/sub", "/tmp/many/sub/deep", "/tmp/many/sub/deep/c",
    ], deep
    moved = files.rename("/tmp/many/a", "/tmp/elsewhere/a")
    assert moved.path == "/tmp/elsewhere/a"
    assert files.exists("/tmp/elsewhere/a") and not files.exists("/tmp/many/a")
    files.remove("/tmp/many")
    files.remove("/tmp/many")
    raises(NotFoundException, lambda: files.list("/tmp/many"))
    raises(NotFoundException, lambda: files.read("/tmp/many/b"))
    if hasattr(files, "get_info"):
        info = files.get_info("blob")
        about = (info.size, info.mode, info.permissions, info.owner, info.group)
        assert about == (5_000_000, 0o644, "-rw-r--r--", "user", "user"), about
        box().commands.run("ln -s blob link")
        link = files.get_info("link")
        assert link.symlink_target == "/home/user/blob", link
    files.write("/root/secret", "s", user="root")
    assert files.read("/root/secret", user="root") == "s"
    raises(Exception, lambda: files.read("/root/secret"))


def test_metadata_of_files():
    import inspect

    files = box().files
    if "metadata" not in inspect.signature(files.write).parameters:
        raise Skip("this version has no metadata of files")
    written = files.write("tagged", "x", metadata={"author": "me"})
    assert written.metadata == {"author": "me"}, written
    assert files.get_info("tagged").metadata == {"author": "me"}
    files.write("tagged", "y")
    assert not files.get_info("tagged").metadata


def test_signed_addresses():
    sandbox = box()
    sandbox.files.write("hello.txt", "signed")
    url = sandbox.download_url("hello.txt")
    assert "signature=" in url, url
    assert fetch(url) == (200, b"signed")
    status, body = fetch(url.replace("hello", "other"))
    assert (status, json.loads(body)) == (401, {"code": 401, "message": "invalid signature"})
    url = sandbox.download_url("hello.txt", use_signature_expiration=60)
    assert fetch(url)[0] == 200
    old = sandbox.download_url("hello.txt", use_signature_expiration=-120)
    expected = {"code": 401, "message": "signature is already expired"}
    status, body = fetch(old)
    assert (status, json.loads(body)) == (401, expected), body
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="up.txt"\r\n\r\nsent\r\n--x--\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    status, body = fetch(sandbox.upload_url("up.txt"), "POST", form, kind)
    assert status == 200, body
    entry = [{"name": "up.txt", "path": "/home/user/up.txt", "type": "file"}]
    assert json.loads(body) == entry, body
    assert sandbox.files.read("up.txt") == "sent"
    named = {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": "49983"}
    status, body = fetch(f"http://{EDGE}/files?path=hello.txt", headers=named)
    assert json.loads(body)["message"] == "missing signature query parameter", body
    wrong = {**named, "X-Access-Token": "wrong"}
    status, body = fetch(f"http://{EDGE}/files?path=hello.txt", headers=wrong)
    assert json.loads(body)["message"] == "access token present in header but does not match", body
    status, body = fetch(f"http://{EDGE}/envs", headers=wrong)
    assert status == 401 and "please provide a valid access token" in json.loads(body)["message"]


def test_watching():
    sandbox = box()
    sandbox.files.make_dir("watched/sub")
    handle = sandbox.files.watch_dir("watched", recursive=True)
    sandbox.files.write("watched/new.txt", "x")
    events = [(it.name, it.type.name) for it in handle.get_new_events()]
    assert events == [("new.txt", "CREATE"), ("new.txt", "CHMOD"), ("new.txt", "WRITE")], events
    sandbox.files.write("watched/sub/deep.txt", "x")
    assert ("sub/deep.txt", "CREATE") in [(it.name, it.type.name) for it in handle.get_new_events()]
    sandbox.files.rename("watched/new.txt", "watched/renamed.txt")
    sandbox.files.remove("watched/renamed.txt")
    kinds = [(it.name, it.type.name) for it in handle.get_new_events()]
    for expected in [("new.txt", "RENAME"), ("renamed.txt", "CREATE"), ("renamed.txt", "REMOVE")]:
        assert expected in kinds, kinds
    handle.stop()
    raises(Exception, lambda: sandbox.files.watch_dir("no/such/directory"))


def test_terminals():
    sandbox = box()
    size = e2b.PtySize(rows=24, cols=91)
    terminal = sandbox.pty.create(size, cwd="/tmp")
    seen = bytearray()

    def read():
        try:
            terminal.wait(on_pty=seen.extend)
        except Exception:
            pass

    reader = threading.Thread(target=read)
    reader.start()
    sandbox.pty.send_stdin(terminal.pid, b"stty size; pwd\n")
    wait_until(lambda: b"24 91" in seen and b"/tmp" in seen, "its size and directory")
    sandbox.pty.resize(terminal.pid, e2b.PtySize(rows=30, cols=100))
    sandbox.pty.send_stdin(terminal.pid, b"stty size; echo $TERM\n")
    wait_until(lambda: b"30 100" in seen and b"xterm-256color" in seen, "its new size")
    sandbox.pty.send_stdin(terminal.pid, b"exit\n")
    reader.join(60)
    assert not reader.is_alive()
    assert sandbox.pty.kill(terminal.pid) is False


def test_git():
    sandbox = box()
    need(sandbox, "git")
    git = sandbox.git
    git.init("/home/user/repository", initial_branch="main")
    git.configure_user("Test", "test@example.com")
    sandbox.files.write("repository/file", "content")
    status = git.status("/home/user/repository")
    assert [it.name for it in status.file_status] == ["file"], status
    git.add("/home/user/repository")
    git.commit("/home/user/repository", "First")
    git.create_branch("/home/user/repository", "other")
    branches = git.branches("/home/user/repository")
    assert sorted(branches.branches) == ["main", "other"], branches
    sandbox.commands.run(
        "git clone -q --bare repository served.git && touch served.git/git-daemon-export-ok"
    )
    daemon = "git daemon --reuseaddr --base-path=/home/user --listen=127.0.0.1 --port=9418"
    served = sandbox.commands.run(daemon, background=True)
    try:
        wait_until(
            lambda: sandbox.commands.run(
                "git ls-remote git://127.0.0.1/served.git >/dev/null 2>&1 && echo yes || echo no"
            ).stdout == "yes\n",
            "the daemon serves",
        )
        git.clone("git://127.0.0.1/served.git", path="/home/user/cloned")
        assert sandbox.files.read("cloned/file") == "content"
    finally:
        served.kill()


def serve_pages(sandbox, port, address="127.0.0.1"):
    sandbox.files.write("/tmp/pages/index.html", "a page")
    words = f"python3 -m http.server --directory /tmp/pages --bind {address} {port}"
    return sandbox.commands.run(words, background=True)


def test_ports():
    sandbox = Sandbox.create(timeout=120)
    serve_pages(sandbox, 8000)
    page = wait_until(lambda: (lambda it: it if it[0] == 200 else None)(at_port(sandbox, 8000)), "a page")
    assert page == (200, b"a page"), page
    id = sandbox.sandbox_id
    status, body = at_port(sandbox, 8123)
    closed = "The sandbox is running but port is not open"
    assert (status, json.loads(body)) == (
        502, {"sandboxId": id, "message": closed, "port": 8123, "code": 502}
    ), body
    host = sandbox.get_host(8000)
    assert sandbox.kill() is True
    status, body = fetch(f"http://{EDGE}/", headers={"Host": host})
    gone = {"sandboxId": id, "message": "The sandbox was not found", "code": 502}
    assert (status, json.loads(body)) == (502, gone), body


def test_private_ports():
    sandbox = Sandbox.create(timeout=120, network={"allow_public_traffic": False})
    try:
        token = sandbox.traffic_access_token
        assert token
        serve_pages(sandbox, 8000)
        assert at_port(sandbox, 8000)[0] == 403
        assert at_port(sandbox, 8000, headers={"e2b-traffic-access-token": "wrong"})[0] == 403
        known = {"e2b-traffic-access-token": token}
        wait_until(lambda: at_port(sandbox, 8000, headers=known) == (200, b"a page"), "a page")
    finally:
        sandbox.kill()


def test_masked_host():
    network = {"mask_request_host": "localhost:${PORT}"}
    sandbox = Sandbox.create(timeout=120, network=network)
    try:
        script = (
            "import http.server as h\n"
            "class H(h.BaseHTTPRequestHandler):\n"
            " def do_GET(self):\n"
            "  body = (self.headers['host'] + ' ' + self.headers['x-forwarded-host']).encode()\n"
            "  self.send_response(200); self.send_header('content-length', str(len(body)))\n"
            "  self.end_headers(); self.wfile.write(body)\n"
            "h.HTTPServer(('127.0.0.1', 8000), H).serve_forever()\n"
        )
        sandbox.files.write("/tmp/host.py", script)
        sandbox.commands.run("python3 /tmp/host.py", background=True)
        found = wait_until(lambda: (lambda it: it[0] == 200 and it[1])(at_port(sandbox, 8000)), "it")
        assert found.decode() == f"localhost:8000 {sandbox.get_host(8000)}", found
    finally:
        sandbox.kill()


def test_no_internet():
    sandbox = Sandbox.create(timeout=60, allow_internet_access=False)
    try:
        failed = sandbox.commands.run(
            "timeout 5 bash -c '</dev/tcp/192.0.2.1/80' 2>/dev/null && echo open || echo closed"
        )
        assert failed.stdout == "closed\n"
    finally:
        sandbox.kill()


def test_kill_is_seen_by_what_runs():
    sandbox = Sandbox.create(timeout=120)
    found = []

    def wait():
        try:
            sandbox.commands.run("echo up; sleep 100", on_stdout=found.append, timeout=0)
        except Exception as error:
            found.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    wait_until(lambda: found, "it runs")
    began = time.monotonic()
    assert sandbox.kill() is True
    waiting.join(60)
    assert time.monotonic() - began < 60
    # Older packages raise what their HTTP client says.
    assert isinstance(found[-1], Exception), found
    assert not sandbox.is_running()
    assert Sandbox.kill(sandbox.sandbox_id) is False
    raises(Exception, lambda: sandbox.commands.run("true"))
    raises(Exception, lambda: Sandbox.connect(sandbox.sandbox_id))


def pause(sandbox):
    (sandbox.pause if hasattr(sandbox, "pause") else sandbox.beta_pause)()


def test_pause_and_resume():
    sandbox = Sandbox.create(timeout=120, envs={"KEPT": "yes"})
    try:
        handle = sandbox.commands.run("sleep 1000", background=True)
        sandbox.files.write("kept", "still here")
        pause(sandbox)
        assert not sandbox.is_running()
        listed = Sandbox.list(query=e2b.SandboxQuery(state=[e2b.SandboxState.PAUSED])).next_items()
        assert sandbox.sandbox_id in [it.sandbox_id for it in listed], listed
        again = Sandbox.connect(sandbox.sandbox_id)
        if not hasattr(again, "fork"):
            # What older packages connect to they ask by its name, whatever the variables say.
            again = sandbox
        assert again.is_running()
        assert again.files.read("kept") == "still here"
        assert handle.pid in [it.pid for it in again.commands.list()]
        assert again.commands.run("echo $KEPT").stdout == "yes\n"
    finally:
        sandbox.kill()


def test_snapshots():
    sandbox = Sandbox.create(timeout=120)
    need(sandbox, "create_snapshot")
    made = None
    try:
        sandbox.files.write("state", "before")
        snapshot = sandbox.create_snapshot()
        sandbox.files.write("state", "after")
        made = Sandbox.create(snapshot.snapshot_id, timeout=60)
        assert made.files.read("state") == "before"
        assert sandbox.files.read("state") == "after"
        known = [it.snapshot_id for it in sandbox.list_snapshots().next_items()]
        assert snapshot.snapshot_id in known, known
        made.kill()
        assert Sandbox.delete_snapshot(snapshot.snapshot_id) is True
        assert Sandbox.delete_snapshot(snapshot.snapshot_id) is False
    finally:
        sandbox.kill()
        if made is not None:
            made.kill()


def test_forks():
    sandbox = Sandbox.create(timeout=120)
    need(sandbox, "fork")
    forks = []
    try:
        sandbox.files.write("state", "shared")
        forks = sandbox.fork(count=2)
        assert len({it.sandbox_id for it in forks} | {sandbox.sandbox_id}) == 3, forks
        forks[0].files.write("state", "own")
        assert [it.files.read("state") for it in [*forks, sandbox]] == ["own", "shared", "shared"]
    finally:
        for it in [sandbox, *forks]:
            it.kill()


def test_measurements():
    sandbox = box()
    need(sandbox, "get_metrics")
    metrics = wait_until(sandbox.get_metrics, "a measurement")
    last = metrics[-1]
    assert last.cpu_count > 0 and last.mem_total > 0, last


def test_ends_by_itself():
    sandbox = Sandbox.create(timeout=1)
    wait_until(lambda: not sandbox.is_running(), "its end")
    raises(Exception, lambda: Sandbox.connect(sandbox.sandbox_id))


def test_pauses_by_itself_and_wakes():
    try:
        lifecycle = {"on_timeout": "pause", "auto_resume": True}
        sandbox = Sandbox.create(timeout=300, lifecycle=lifecycle)
    except TypeError as error:
        raise Skip("this version has no `lifecycle`") from error
    try:
        serve_pages(sandbox, 8000)
        wait_until(lambda: at_port(sandbox, 8000)[0] == 200, "a page")
        sandbox.set_timeout(1)
        paused = e2b.SandboxState.PAUSED
        wait_until(lambda: sandbox.get_info().state == paused, "its pause")
        assert at_port(sandbox, 8000) == (200, b"a page"), "the request is held"
        assert sandbox.get_info().state == e2b.SandboxState.RUNNING
    finally:
        sandbox.kill()


def test_what_is_not_there():
    raises(Exception, lambda: Sandbox.create("no-such-template-here"))
    raises(Exception, lambda: Sandbox.connect("sb-aaaaaaaaaaaaaaaa"))
    error = raises(Exception, lambda: Sandbox.create(api_key="e2b_" + "0" * 40))
    assert type(error).__name__ == "AuthenticationException", error


if __name__ == "__main__":
    run(globals(), close)
