import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from cluster import local
from search.record.reader import read_study
from tests.cluster.http_server import http_server
from tests.cluster.recording_proxy import recording_proxy
from tests.paths import REPOSITORY
from tests.search.conftest import UNTRAINED, folders
from tests.waiting import wait_until
from trainables.errors import InjertoError, ResourceError

pytestmark = pytest.mark.timeout(300)

DRIVER = """
import json, os, sys
from cluster.connect import connect
from cluster.on_each_node import alive_nodes, run_on_each_node
from tests.cluster.node_functions import end_process, process_id, raise_data_error, sleep

with connect(sys.argv[1]) as capacity:
    nodes = alive_nodes()
    print(json.dumps({
        "cpus": capacity.cpus,
        "nodes": [[node.name, node.head] for node in nodes],
        "processes": [answer.value for answer in run_on_each_node(process_id, seconds=60)],
        "errors": [answer.error for answer in run_on_each_node(raise_data_error, seconds=60)],
        "late": [answer.error for answer in run_on_each_node(sleep, seconds=2)],
        "died": [answer.error for answer in run_on_each_node(end_process, seconds=60)],
        "mode": os.environ["RAY_AUTH_MODE"],
    }))
"""
COMMAND = """
import json, sys
from cluster.jobs import Jobs
from trainables.errors import ResourceError

jobs = Jobs(sys.argv[1])
job = jobs.wait(jobs.submit("plum", ["--version"], metadata={"more": "facts"}).id)
try:
    jobs.find("pear")
except ResourceError as error:
    unknown = str(error)
print(json.dumps({
    "job": [job.state, job.study, job.command, job.metadata["more"]],
    "log": jobs.logs(job.id).strip(),
    "listed": job.id in [found.id for found in jobs.jobs()],
    "found": jobs.find(job.id).id == job.id,
    "unknown": unknown,
}))
"""


@pytest.fixture(scope="module")
def place(own_cache):
    """A folder for the cluster and its token. Until the end of the module this process's environment has a proxy, and Ray's usage
    statistics turned on: `reports` gets the headers of those reports, `proxied` the requests that the proxy got."""
    folder, reports = Path("/tmp") / f"test-{os.getpid()}", []
    folder.mkdir()
    before = dict(os.environ)
    with recording_proxy() as proxy, http_server(200, "", asked=reports) as report_url:
        for name in ("no_proxy", "NO_PROXY"):
            os.environ.pop(name, None)
        os.environ |= proxy.environment() | {
            "TMPDIR": str(folder),
            "INJERTO_STORAGE": f"sqlite:///{folder}/studies.db",
            "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
            "RAY_USAGE_STATS_ENABLED": "1",
            "RAY_USAGE_STATS_REPORT_INTERVAL_S": "5",
            "RAY_USAGE_STATS_REPORT_URL": report_url,
        }
        tempfile.tempdir = None
        yield {"folder": folder, "reports": reports, "proxied": proxy.requests}
        local.down()
        os.environ.clear()
        os.environ |= before
        tempfile.tempdir = None
    shutil.rmtree(folder)


@pytest.fixture
def cluster(place):
    """Two nodes on loopback with a token of their own; started again if a test has stopped them."""
    return local.running_cluster() or local.up(2, cpus=1)


def run(*arguments, **environment):
    """Run a command in a process of its own, because Ray reads the token once in a process."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=180, cwd=REPOSITORY, env=os.environ | environment
    )


def injerto(*arguments):
    return run("-m", "search.cli", *arguments)


@pytest.fixture(scope="module")
def drivers(place):
    """What drivers with the right token, with a wrong one and with the dashboard's address print; they run at the same time."""
    cluster = local.running_cluster() or local.up(2, cpus=1)
    wrong = place["folder"] / "wrong"
    wrong.write_text("0" * 64)
    with ThreadPoolExecutor() as threads:
        started = {
            "right": threads.submit(run, "-c", DRIVER, cluster.address),
            "wrong": threads.submit(run, "-c", DRIVER, cluster.address, RAY_AUTH_TOKEN_PATH=str(wrong)),
            "dashboard": threads.submit(run, "-c", DRIVER, cluster.dashboard),
        }
    return {name: future.result() for name, future in started.items()}


def test_every_node_is_called_and_each_answer_is_kept_apart(drivers):
    done = drivers["right"]
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["cpus"], found["mode"]) == (2, "token")
    assert [head for _, head in found["nodes"]] == [True, False]
    assert all("127.0.0." in name for name, _ in found["nodes"]), "nodes of one host are told apart"
    assert len(set(found["processes"])) == 2
    assert found["errors"] == ["no such image; mend the data"] * 2
    assert found["late"] == ["no answer within 2 s"] * 2
    assert all("died" in error or "crashed" in error for error in found["died"]), found["died"]


def test_a_driver_without_the_token_is_rejected(drivers, place):
    assert drivers["wrong"].returncode != 0
    expected = f"it does not accept the token of this machine; copy the cluster's to {place['folder'] / 'wrong'}"
    assert expected in drivers["wrong"].stderr
    assert "takes jobs, not drivers: use injerto submit" in drivers["dashboard"].stderr


def test_up_rejects_a_second_cluster(cluster):
    with pytest.raises(ResourceError, match=r"a local cluster of 2 nodes is up at .*; end it first: injerto cluster down"):
        local.up(1)


def test_a_command_runs_as_a_job(cluster):
    done = run("-c", COMMAND, cluster.dashboard)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["job"] == ["SUCCEEDED", "plum", "--version", "facts"]
    assert found["log"].startswith("injerto ")
    assert (found["listed"], found["found"]) == (True, True)
    assert re.match(r"no job and no study 'pear' on the cluster at .*; its studies are (fig, )?plum", found["unknown"])


@pytest.mark.slow
def test_a_submitted_search_shows_its_logs_and_pauses(cluster, place):
    photos = folders(place["folder"] / "photos", each=8)
    settings = ("--output", place["folder"] / "output", "--set", "space.epochs=200", *UNTRAINED)
    size = ("--trials", 2, "--max-concurrent-trials", 1, "--image-size", 32)
    submitted = injerto("submit", photos, "--name", "fig", "--address", cluster.dashboard, *settings, *size)
    assert submitted.returncode == 0, submitted.stderr
    assert re.search(r"job injerto-fig-search-\w{6}", submitted.stdout), submitted.stdout

    def logs():
        return injerto("logs", "fig", "--address", cluster.dashboard).stdout

    def study():
        return read_study("fig", os.environ["INJERTO_STORAGE"])

    wait_until(lambda: any(trial.epochs_done for trial in study().trials), 120, logs, ignoring=(InjertoError,))
    stopped = injerto("stop", "fig", "--address", cluster.dashboard)
    assert f"injerto resume fig --address {cluster.dashboard}" in stopped.stdout, stopped.stderr
    wait_until(lambda: study().state == "interrupted", 60, logs)

    def search_job():
        jobs = json.loads(injerto("jobs", "--json", "--address", cluster.dashboard).stdout)
        return next(job for job in jobs if (job["study"], job["command"]) == ("fig", "search"))

    wait_until(lambda: search_job()["state"] != "RUNNING", 60, "the end of the job")
    assert search_job()["paused"]
    assert "paused" in logs()


def test_no_request_of_the_cluster_passes_a_proxy(cluster, place):
    """Neither of its nodes nor of the commands above, and no report of usage statistics to a server on loopback.

    For each report Ray asks its dashboard and the metadata services of clouds.
    """
    wait_until(lambda: place["reports"], 90, "a report of usage statistics")
    assert place["proxied"] == []


def test_down_ends_every_process(cluster):
    mine = [process for process in psutil.process_iter() if any(cluster.folder in word for word in command_line(process))]
    assert mine
    assert local.down() == cluster
    assert [process for process in mine if process.is_running() and process.status() != psutil.STATUS_ZOMBIE] == []
    assert not Path(cluster.folder).exists()
    assert local.running_cluster() is None
    assert local.down() is None


def command_line(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.mark.parametrize("nodes", [0, -1, 1000])
def test_up_rejects_invalid_node_counts(nodes):
    with pytest.raises(ResourceError, match="--local takes 1 to 32 nodes"):
        local.up(nodes)


@pytest.fixture
def folder(tmp_path_factory, monkeypatch):
    """The folder that `local` uses for its cluster, in a place of its own."""
    place = Path("/tmp") / f"test-folder-{os.getpid()}"
    place.mkdir()
    monkeypatch.setattr(local, "_folder", lambda: place / "injerto")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "canary")
    yield place / "injerto"
    shutil.rmtree(place)


def plant(place, folder):
    """Write the state file of a cluster that does not run."""
    place.mkdir(mode=0o700)
    state = {"address": "127.0.0.11:1", "dashboard": "http://127.0.0.11:1", "folder": str(folder), "nodes": 2}
    (place / local.STATE).write_text(json.dumps(state))


def test_a_state_file_of_another_user_is_ignored(folder, tmp_path, monkeypatch):
    plant(folder, folder)
    assert local.running_cluster().nodes == 2
    with monkeypatch.context() as patch:
        patch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
        assert local.running_cluster() is None, "the folder belongs to another user"
    folder.chmod(0o777)
    assert local.running_cluster() is None, "everybody can write there"
    shutil.rmtree(folder)
    plant(tmp_path / "elsewhere", folder)
    folder.symlink_to(tmp_path / "elsewhere")
    assert local.running_cluster() is None, "the folder is a link"
    folder.unlink()
    (tmp_path / "kept").touch()
    plant(folder, tmp_path)
    assert local.down() is None
    assert (tmp_path / "kept").exists(), "only our own folder is removed"


def test_of_two_claims_the_second_is_rejected(folder):
    local._claim(local.LocalCluster("127.0.0.11:1", "http://127.0.0.11:2", str(folder), 1))
    with pytest.raises(ResourceError, match=r"a local cluster of 1 nodes is up at 127\.0\.0\.11:1"):
        local._claim(local.LocalCluster("127.0.0.11:3", "http://127.0.0.11:4", str(folder), 2))
    assert local.running_cluster().nodes == 1
    assert [path.name for path in folder.parent.iterdir()] == ["injerto"]


def test_down_does_not_kill_its_caller(folder):
    plant(folder, folder)
    code = "import sys; from pathlib import Path; from cluster import local; local._folder = lambda: Path(sys.argv[1]).parent; local.down()"
    command = [sys.executable, "-c", f"{code}; print('alive')", f"{folder}/0"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert done.stdout == "alive\n", done.stderr
