"""Runs the functions of a module that begin with `test_`, in the order they are written in, and says
of each how it went: `ok NAME`, `skip NAME: why` or `FAIL NAME`, with the trace on standard error.

Words of the command line are the names of those that are wanted alone.
"""

import asyncio
import inspect
import os
import sys
import time
import traceback


class Skip(Exception):
    """The package is too old for this, or something is not installed."""


def run(module, close=None):
    wanted = sys.argv[1:]
    tests = [(name, it) for name, it in module.items() if name.startswith("test_")]
    tests.sort(key=lambda it: it[1].__code__.co_firstlineno)
    loop, failed = asyncio.new_event_loop(), False
    for name, test in tests:
        if wanted and name not in wanted:
            continue
        began = time.monotonic()
        try:
            result = test()
            if inspect.iscoroutine(result):
                loop.run_until_complete(result)
            print(f"ok {name} {time.monotonic() - began:.2f}", flush=True)
        except Skip as why:
            print(f"skip {name}: {why}", flush=True)
        except BaseException:
            failed = True
            print(f"FAIL {name}", flush=True)
            traceback.print_exc()
            sys.stderr.flush()
    if close is not None:
        result = close()
        if inspect.iscoroutine(result):
            loop.run_until_complete(result)
    # Not by way of Python's own end: now and then the HTTP client of the package aborts there
    # (`AsyncSandbox` of 2.63.0, one run of eight, all work done).
    sys.stdout.flush()
    os._exit(failed)


def wait_until(holds, what, seconds=60):
    """Looks again and again, for what nobody announces."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = holds()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what}")


def raises(kind, call):
    """What a call raises, which must be of this kind."""
    try:
        value = call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind} was raised but {value!r} came back")
