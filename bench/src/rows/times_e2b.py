"""Times E2B's own Python package, unchanged, against what its environment variables say.

`sequential ROUNDS` or `burst ROUNDS`; writes one JSON object of samples in nanoseconds. `create` is
from `create` to the first command answered, `run` a command in a sandbox that has answered one.
"""

import asyncio
import json
import sys
import time

from e2b import AsyncSandbox, Sandbox

COMMAND = "true"
# What is not counted: the first of all connect, and compile what Python has not needed before.
WARM = 3
RUNS = 2
BURST = 100

now = time.perf_counter_ns


def sequential(rounds):
    created, ran = [], []
    for number in range(rounds + WARM):
        began = now()
        sandbox = Sandbox.create()
        sandbox.commands.run(COMMAND)
        took = [now() - began]
        for _ in range(RUNS):
            began = now()
            sandbox.commands.run(COMMAND)
            took.append(now() - began)
        sandbox.kill()
        if number >= WARM:
            created.append(took[0])
            ran += took[1:]
    return {"create": created, "run": ran}


async def one(began):
    sandbox = await AsyncSandbox.create()
    await sandbox.commands.run(COMMAND)
    return now() - began, sandbox


async def burst(rounds):
    created, whole = [], []
    for number in range(rounds + 1):
        began = now()
        done = await asyncio.gather(*(one(began) for _ in range(BURST)))
        last = now() - began
        await asyncio.gather(*(sandbox.kill() for _, sandbox in done))
        if number > 0:
            created += [took for took, _ in done]
            whole.append(last)
        # Pools are filled again.
        await asyncio.sleep(3)
    return {"create": created, "whole": whole}


kind, rounds = sys.argv[1], int(sys.argv[2])
print(json.dumps(sequential(rounds) if kind == "sequential" else asyncio.run(burst(rounds))))
