"""The Python package with nothing but the address of the API and a certificate to trust."""

import os
import sys

sys.path.insert(0, os.environ["CHECK"])
from check import run  # noqa: E402

from e2b import Sandbox  # noqa: E402


def test_sandboxes_are_reached_by_their_names():
    port = os.environ["E2B_API_URL"].rsplit(":", 1)[1]
    sandbox = Sandbox.create(timeout=60)
    try:
        host = sandbox.get_host(8000)
        assert host == f"8000-{sandbox.sandbox_id}.box.localhost:{port}", host
        assert sandbox.commands.run("echo $((6 * 7))").stdout == "42\n"
        sandbox.files.write("x", "y")
        assert sandbox.files.read("x") == "y"
        for number in range(120):
            assert sandbox.files.exists("x"), number
        assert sandbox.download_url("x").startswith(f"https://49983-{sandbox.sandbox_id}.box.localhost")
    finally:
        sandbox.kill()


if __name__ == "__main__":
    run(globals())
