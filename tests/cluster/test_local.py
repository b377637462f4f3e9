import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from cluster import local
from tests.paths import REPOSITORY
from trainables.errors import ResourceError

DRIVER = """
import json, os, sys
from cluster.connect import connect
from cluster.on_each_node import living, on_each
from tests.cluster.asked import leave, process, refuse, slow

with connect(sys.argv[1]) as capacity:
    nodes = living()
    print(json.dumps({
        "cpus": capacity.cpus,
        "nodes": [[node.name, node.head] for node in nodes],
        "named": [answer.value for answer in on_each(process, seconds=60)],
        "refused": [answer.error for answer in on_each(refuse, seconds=60)],
        "slow": [answer.error for answer in on_each(slow, seconds=3)],
        "died": [answer.error for answer in on_each(leave, seconds=60)],
        "mode": os.environ["RAY_AUTH_MODE"],
    }))
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two nodes on loopback, with a token of their own."""
    kept = {name: os.environ.get(name) for name in ("TMPDIR", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE")}
    place = Path("/tmp") / f"test-{os.getpid()}"
    place.mkdir()
    os.environ |= {"TMPDIR": str(place), "RAY_AUTH_TOKEN_PATH": str(place / "token")}
    import tempfile

    tempfile.tempdir = None
    yield local.up(2, cpus=1)
    local.down()
    for name, value in kept.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    tempfile.tempdir = None
    shutil.rmtree(place)


def driver(address, **environment):
    command = [sys.executable, "-c", DRIVER, address]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, cwd=REPOSITORY, env=os.environ | environment)


def test_every_node_is_asked_and_what_each_says_is_kept_apart(cluster):
    done = driver(cluster.address)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["cpus"], found["mode"]) == (2, "token")
    assert [head for _, head in found["nodes"]] == [True, False]
    assert all("127.0.0." in name for name, _ in found["nodes"]), "nodes of one host are told apart"
    assert len(set(found["named"])) == 2
    assert found["refused"] == ["no such image; mend the data"] * 2
    assert found["slow"] == ["no answer within 3 s"] * 2
    assert all("died" in error or "crashed" in error for error in found["died"]), found["died"]


def test_without_the_token_nobody_gets_in(cluster, tmp_path):
    wrong = tmp_path / "token"
    wrong.write_text("0" * 64)
    done = driver(cluster.address, RAY_AUTH_TOKEN_PATH=str(wrong))
    assert done.returncode != 0
    assert f"it does not take the token of this machine; copy the cluster's to {wrong}" in done.stderr
    jobs_only = driver(cluster.dashboard)
    assert "takes jobs, not drivers: use injerto submit" in jobs_only.stderr


def test_a_second_one_is_refused(cluster):
    with pytest.raises(ResourceError, match=r"a local cluster of 2 nodes is up at .*; end it first: injerto cluster down"):
        local.up(1)


HANDED_IN = """
import json, sys
from cluster.jobs import Jobs
from trainables.errors import ResourceError

jobs = Jobs(sys.argv[1])
job = jobs.wait(jobs.submit("fig", ["--version"], about={"more": "facts"}).id)
try:
    jobs.find("plum")
except ResourceError as error:
    unknown = str(error)
print(json.dumps({
    "job": [job.state, job.study, job.command, job.metadata["more"]],
    "log": jobs.logs(job.id).strip(),
    "all": [found.id == job.id for found in jobs.jobs()],
    "found": jobs.find(job.id).id == job.id,
    "unknown": unknown,
}))
"""


def test_a_command_of_ours_runs_there(cluster):
    """In a process of its own: another test's Ray in this one has read another token."""
    done = subprocess.run([sys.executable, "-c", HANDED_IN, cluster.dashboard], capture_output=True, text=True, timeout=180, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["job"] == ["SUCCEEDED", "fig", "--version", "facts"]
    assert found["log"].startswith("injerto ")
    assert (found["all"], found["found"]) == ([True], True)
    assert re.match(r"no job and no study 'plum' on the cluster at .*; its studies are fig", found["unknown"])


def test_it_ends_to_the_last_process(cluster):
    mine = [process for process in psutil.process_iter() if any(cluster.folder in word for word in words(process))]
    assert mine
    assert local.down() == cluster
    assert [process for process in mine if process.is_running() and process.status() != psutil.STATUS_ZOMBIE] == []
    assert not Path(cluster.folder).exists()
    assert local.found() is None
    assert local.down() is None


def words(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.mark.parametrize("nodes", [0, -1, 1000])
def test_numbers_that_are_none(nodes):
    with pytest.raises(ResourceError, match="--local takes 1 to 32 nodes"):
        local.up(nodes)


@pytest.fixture
def folder(tmp_path_factory, monkeypatch):
    """Where a local cluster would be, with one of somebody's in it."""
    place = Path("/tmp") / f"test-folder-{os.getpid()}"
    place.mkdir()
    monkeypatch.setattr(local, "_folder", lambda: place / "injerto")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "canary")
    yield place / "injerto"
    shutil.rmtree(place)


def plant(place, folder):
    place.mkdir(mode=0o700)
    known = {"address": "127.0.0.11:1", "dashboard": "http://127.0.0.11:1", "folder": str(folder), "nodes": 2}
    (place / local.STATE).write_text(json.dumps(known))


def test_what_others_have_planted_is_no_cluster(folder, tmp_path, monkeypatch):
    plant(folder, folder)
    assert local.found().nodes == 2
    with monkeypatch.context() as patch:
        patch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
        assert local.found() is None, "its folder is another user's"
    folder.chmod(0o777)
    assert local.found() is None, "anybody may write there"
    shutil.rmtree(folder)
    plant(tmp_path / "elsewhere", folder)
    folder.symlink_to(tmp_path / "elsewhere")
    assert local.found() is None, "it is a link"
    folder.unlink()
    (tmp_path / "kept").touch()
    plant(folder, tmp_path)
    assert local.down() is None
    assert (tmp_path / "kept").exists(), "the folder that is removed is our own"


def test_of_two_at_the_same_moment_one_is_refused(folder):
    local._claim(local.LocalCluster("127.0.0.11:1", "http://127.0.0.11:2", str(folder), 1))
    with pytest.raises(ResourceError, match=r"a local cluster of 1 nodes is up at 127\.0\.0\.11:1"):
        local._claim(local.LocalCluster("127.0.0.11:3", "http://127.0.0.11:4", str(folder), 2))
    assert local.found().nodes == 1
    assert [path.name for path in folder.parent.iterdir()] == ["injerto"]


def test_who_asks_for_the_end_is_not_ended(folder):
    plant(folder, folder)
    code = "import sys; from pathlib import Path; from cluster import local; local._folder = lambda: Path(sys.argv[1]).parent; local.down()"
    asked = [sys.executable, "-c", f"{code}; print('alive')", f"{folder}/0"]
    done = subprocess.run(asked, capture_output=True, text=True, cwd=REPOSITORY)
    assert done.stdout == "alive\n", done.stderr
