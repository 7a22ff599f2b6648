"""The same package in its asynchronous form, with several things under way at once."""

import asyncio
import os
import sys

sys.path.insert(0, os.environ["CHECK"])
from check import run  # noqa: E402

import e2b  # noqa: E402
from e2b import AsyncSandbox, CommandExitException  # noqa: E402

shared = None


async def box():
    global shared
    if shared is None:
        shared = await AsyncSandbox.create(timeout=600)
    return shared


async def close():
    if shared is not None:
        await shared.kill()


async def test_create_and_run():
    sandbox = await box()
    assert await sandbox.is_running()
    done = await sandbox.commands.run("echo hello")
    assert (done.stdout, done.exit_code) == ("hello\n", 0), done
    try:
        await sandbox.commands.run("exit 3")
        raise AssertionError("no error")
    except CommandExitException as error:
        assert error.exit_code == 3


async def test_many_at_once():
    sandbox = await box()
    calls = [sandbox.commands.run(f"sleep 0.2; echo {number}") for number in range(20)]
    found = [done.stdout for done in await asyncio.gather(*calls)]
    assert found == [f"{number}\n" for number in range(20)], found
    writes = [sandbox.files.write(f"many/{number}", str(number)) for number in range(30)]
    await asyncio.gather(*writes)
    assert len(await sandbox.files.list("many")) == 30


async def test_files():
    files = (await box()).files
    await files.write("a/b", b"bytes")
    assert bytes(await files.read("a/b", format="bytes")) == b"bytes"
    assert await files.exists("a/b") and not await files.exists("a/c")
    pieces = [bytes(piece) async for piece in await files.read("a/b", format="stream")]
    assert b"".join(pieces) == b"bytes"
    await files.remove("a")


async def test_watching():
    sandbox = await box()
    await sandbox.files.make_dir("watched")
    seen, arrived = [], asyncio.Event()

    def note(event):
        seen.append((event.name, event.type.name))
        if seen[-1] == ("new", "WRITE"):
            arrived.set()

    handle = await sandbox.files.watch_dir("watched", note)
    await sandbox.files.write("watched/new", "x")
    await asyncio.wait_for(arrived.wait(), 20)
    assert seen == [("new", "CREATE"), ("new", "CHMOD"), ("new", "WRITE")], seen
    await handle.stop()


async def test_terminals():
    sandbox = await box()
    seen, arrived = bytearray(), asyncio.Event()

    async def note(data):
        seen.extend(data)
        if b"40 120" in seen:
            arrived.set()

    size = e2b.PtySize(rows=40, cols=120)
    terminal = await sandbox.pty.create(size, on_data=note)
    await sandbox.pty.send_stdin(terminal.pid, b"stty size\n")
    await asyncio.wait_for(arrived.wait(), 20)
    assert await sandbox.pty.kill(terminal.pid) is True


async def test_kill_is_seen_by_what_runs():
    sandbox = await AsyncSandbox.create(timeout=120)
    started = asyncio.Event()
    running = asyncio.ensure_future(
        sandbox.commands.run("echo up; sleep 100", on_stdout=lambda _: started.set(), timeout=0)
    )
    await asyncio.wait_for(started.wait(), 60)
    assert await sandbox.kill() is True
    done, _ = await asyncio.wait([running], timeout=60)
    # Older packages raise what their HTTP client says.
    assert done and running.exception() is not None, "it went on"
    assert not await sandbox.is_running()


if __name__ == "__main__":
    run(globals(), close)
