"""Templates and volumes of E2B's Python package, as its documentation shows them."""

import os
import sys
import uuid

sys.path.insert(0, os.environ["CHECK"])
from check import Skip, raises, run  # noqa: E402

import e2b  # noqa: E402
from e2b import Sandbox, Template  # noqa: E402


def test_templates():
    name = f"built-{uuid.uuid4().hex[:8]}"
    os.makedirs("context/sub", exist_ok=True)
    for path, text in [("context/one", "1"), ("context/sub/two", "2")]:
        with open(path, "w") as file:
            file.write(text)
    template = (
        Template(file_context_path=os.getcwd())
        .from_template("base")
        .copy("context", "/home/user/context")
        .set_envs({"BUILT": "yes"})
        .run_cmd("echo done > /home/user/done && id -un >> /home/user/done")
        .set_workdir("/home/user/context")
        .set_start_cmd("python3 -m http.server 8000 --directory /home/user", "curl -sf localhost:8000/done")
    )
    said = []
    built = Template.build(template, name, on_build_logs=said.append)
    assert built.template_id and said, built
    assert Template.exists(name) and not Template.exists(f"{name}-not")
    with Sandbox.create(name, timeout=60) as sandbox:
        assert sandbox.files.read("/home/user/done") == "done\nuser\n"
        assert sandbox.files.read("/home/user/context/sub/two") == "2"
        found = sandbox.commands.run("echo $BUILT; pwd; curl -sf localhost:8000/done")
        assert found.stdout == "yes\n/home/user/context\ndone\nuser\n", found
    with Sandbox.create(built.template_id, timeout=60) as sandbox:
        assert sandbox.files.exists("/home/user/done")


def test_a_failed_build_says_which_step():
    template = Template().from_template("base").run_cmd("echo first").run_cmd("echo no >&2; exit 3")
    error = raises(e2b.BuildException, lambda: Template.build(template, f"bad-{uuid.uuid4().hex[:8]}"))
    assert "3" in str(error), error


def test_tags_of_templates():
    name = f"tagged-{uuid.uuid4().hex[:8]}"
    Template.build(Template().from_template("base").run_cmd("echo 1 > /tmp/version"), name)
    Template.assign_tags(name, "stable")
    tags = [it.tag for it in Template.get_tags(name)]
    assert "stable" in tags, tags
    with Sandbox.create(f"{name}:stable", timeout=60) as sandbox:
        assert sandbox.is_running()
    Template.remove_tags(name, "stable")
    assert "stable" not in [it.tag for it in Template.get_tags(name)]


def test_volumes():
    if not hasattr(e2b, "Volume"):
        raise Skip("this version has no volumes")
    volume = e2b.Volume.create(f"data-{uuid.uuid4().hex[:8]}")
    try:
        volume.make_dir("/dir")
        volume.write_file("/dir/file.txt", "from outside")
        assert volume.read_file("/dir/file.txt") == "from outside"
        assert volume.exists("/dir") and not volume.exists("/none")
        with Sandbox.create(timeout=60, volume_mounts={"/mnt/data": volume}) as sandbox:
            assert sandbox.files.read("/mnt/data/dir/file.txt", user="root") == "from outside"
            sandbox.files.write("/mnt/data/dir/other.txt", "from inside", user="root")
        assert volume.read_file("/dir/other.txt") == "from inside"
        volume.remove("/dir/file.txt")
        assert not volume.exists("/dir/file.txt")
        assert volume.volume_id in [it.volume_id for it in e2b.Volume.list()]
    finally:
        assert e2b.Volume.destroy(volume.volume_id) is True
    assert e2b.Volume.destroy(volume.volume_id) is False


if __name__ == "__main__":
    run(globals())
