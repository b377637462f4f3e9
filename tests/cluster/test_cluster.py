"""Searches on a cluster of separate machines, submitted from another machine that holds the record and the bucket, and their faults."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import nullcontext, suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from search.record.reader import study_record
from search.record.store import list_study_names, load_study, open_storage
from tests.cluster import machines as network
from tests.paths import REPOSITORY
from tests.search import postgres
from tests.search.conftest import UNTRAINED, folders
from tests.waiting import wait_until
from trainables.errors import StorageError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(network.missing() is not None, reason=str(network.missing())),
    pytest.mark.skipif(postgres.missing() is not None, reason=str(postgres.missing())),
]
CANARIES = {"token": "c0ffee" * 10 + "beef", "password": "canary-of-the-database", "secret": "canary-of-the-bucket"}
ROOT = REPOSITORY
WAIT_SECONDS = 240


class Site:
    """The machines, the record and the bucket that they share, and the command line on this machine."""

    def __init__(self, folder):
        from moto.server import ThreadedMotoServer
        from pyarrow.fs import FileSystem

        self.folder, self.photos = folder, folders(folder / "photos")
        token, passwords = folder / "token", folder / "pgpass"
        token.write_text(CANARIES["token"])
        passwords.write_text(f"*:*:*:{postgres.USER}:{CANARIES['password']}\n")
        for file in (token, passwords):
            file.chmod(0o600)
        self.secrets = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "PGPASSFILE": str(passwords),
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": CANARIES["secret"],
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        quick = {"RAY_health_check_period_ms": "1000", "RAY_health_check_timeout_ms": "3000", "RAY_health_check_failure_threshold": "3"}
        self.machines = network.Machines(folder / "machines", self.secrets | quick)
        self.server = postgres.Server(f"{self.machines.network}.0/24", self.machines.outside)
        self.server.start()
        self.server.do(f"ALTER USER {postgres.USER} PASSWORD '{CANARIES['password']}'")
        self.storage = re.sub(r"127\.0\.0\.1", self.machines.outside, self.server.database())
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.bucket_server = ThreadedMotoServer(ip_address=self.machines.outside, port=0, verbose=False)
        self.bucket_server.start()
        host, port = self.bucket_server.get_host_and_port()
        place = f"endpoint_override=http://{host}:{port}&region=us-east-1"
        filesystem, path = FileSystem.from_uri(f"s3://studies?{place}&allow_bucket_creation=true")
        filesystem.create_dir(path)
        self.root = f"s3://studies/injerto?{place}"
        (folder / "machines").mkdir()
        self.machines.add("head", "--num-cpus", "0")
        self.settled = False

    def restore(self):
        """Have the head, alpha, and beta, which does not see the images, and no other machine: each test begins with these.

        A machine that an earlier test has just cut off may count as alive at the first look, and end later; so there is a second one.
        """
        for seconds in (60, 180):
            self._start_missing()
            with suppress(pytest.fail.Exception) if seconds < 180 else nullcontext():
                wait_until(
                    lambda: set(node_ids(self)) == {"head", "alpha", "beta"},
                    seconds,
                    lambda: f"three nodes; alive: {sorted(node_ids(self))}",
                )
                return

    def _start_missing(self):
        alive = node_ids(self)
        for name in [name for name in self.machines.numbers if name not in ("head", "alpha", "beta") or name not in alive]:
            self.machines.kill(name)
        if "alpha" not in self.machines.numbers:
            self.machines.add("alpha", "--num-cpus", "1")
        if "beta" not in self.machines.numbers:
            self.machines.add("beta", "--num-cpus", "1", hidden=self.photos)

    def close(self):
        self.machines.close()
        self.server.close()
        self.bucket_server.stop()

    def run(self, *arguments, code=0, **environment):
        """Run a command on this machine, which is not part of the cluster."""
        own = {**os.environ, **self.secrets, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **environment}
        done = subprocess.run(
            [sys.executable, "-m", "search.cli", *map(str, arguments)],
            env=own,
            capture_output=True,
            text=True,
            timeout=WAIT_SECONDS,
            cwd=self.folder,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def there(self, *arguments, **options):
        return self.run(*arguments, "--address", self.machines.dashboard, **options)

    def submit(self, name, *arguments, epochs=8, trials=4, concurrent=2, **options):
        places = ("--storage", self.storage, "--root", self.root, "--output", self.folder / "output")
        size = ("--trials", trials, "--max-concurrent-trials", concurrent, "--image-size", 32, "--set", f"space.epochs={epochs}")
        return self.there(
            "submit", self.photos, "--name", name, *places, *size, *UNTRAINED, "--set", "algorithm.scheduler=none", *arguments, **options
        )

    def jobs(self):
        return {job["study"]: job for job in reversed(json.loads(self.there("jobs", "--json"))) if job["command"] in ("search", "resume")}

    def ended(self, name, seconds=60):
        """Wait until Ray has seen a search's job end, and return it."""
        wait_until(lambda: self.jobs()[name]["state"] != "RUNNING", seconds, f"the end of the job of {name}")
        return self.jobs()[name]

    def record(self, name):
        return study_record(load_study(self.opened, name))

    def until(self, name, holds, seconds=WAIT_SECONDS):
        """Wait until a condition holds for a study's record, and return the record."""

        def record():
            time.sleep(0.5)  # each look reads the database
            found = self.record(name)
            return found if holds(found) else None

        what = f"the expected record of {name}"
        return wait_until(record, seconds, lambda: f"{what}; its log:\n{self.there('logs', name)}", ignoring=(StorageError,))


@pytest.fixture(scope="module")
def whole_site(tmp_path_factory):
    before = dict(os.environ)
    site = Site(tmp_path_factory.mktemp("site"))
    os.environ.update(site.secrets)
    site.opened = open_storage(site.storage, create=True)
    yield site
    os.environ.clear()
    os.environ.update(before)
    site.close()


@pytest.fixture
def site(whole_site):
    """The site with the machines that every test begins with."""
    whole_site.restore()
    return whole_site


@pytest.fixture
def settled(site):
    """The name of a study that has finished on the site."""
    if not site.settled:
        site.submit("settled", trials=1, epochs=2)
        site.until("settled", lambda record: record.state == "finished")
        site.settled = True
    return "settled"


def nodes(record):
    """The machines that its trials reported from last."""
    return {trial.attributes["facts"]["node"] for trial in record.trials if "facts" in trial.attributes}


def whole(record):
    """Whether every trial has finished with all of its epochs, each recorded once."""
    return all(
        trial.state == "finished" and trial.epochs_done == trial.epochs_planned == len(trial.history["objective"])
        for trial in record.trials
    )


def test_trials_of_a_lost_machine_are_retried_and_a_new_machine_is_used(site):
    output = site.submit("lossy", trials=7, concurrent=4)
    began = time.monotonic()
    assert re.search(r"study lossy runs on the cluster as job injerto-lossy-search-\w{6}", output)
    seen = site.until("lossy", lambda record: nodes(record) >= {"alpha", "beta"})
    first = time.monotonic() - began
    leaked = [name for name, secret in CANARIES.items() if secret in all_command_lines()]
    assert seen.counts["running"] == 2
    site.machines.kill("beta")
    site.machines.add("gamma", "--num-cpus", "1", hidden=site.photos)
    record = site.until("lossy", lambda record: record.state == "finished")
    assert record.counts["finished"] == 7
    assert whole(record)
    assert "gamma" in nodes(record), site.there("logs", "lossy")
    assert any(retry["kind"] == "lost node" for trial in record.trials for retry in trial.attributes.get("retries", []))
    assert (site.folder / "output" / "lossy" / "best.safetensors").stat().st_size > 10_000
    print(f"both nodes had reported an epoch {first:.1f} s after the job was submitted")
    assert leaked == [], "on a command line"


def all_command_lines():
    return "\n".join(path.read_bytes().replace(b"\0", b" ").decode(errors="replace") for path in lines() if path.exists())


def lines():
    return [folder / "cmdline" for folder in Path("/proc").iterdir() if folder.name.isdigit()]


def test_no_secret_is_on_a_page_in_the_record_or_in_a_log(site, settled):
    request = urllib.request.Request(f"{site.machines.dashboard}/api/jobs/", headers={"Authorization": f"Bearer {CANARIES['token']}"})
    page = urllib.request.urlopen(request).read().decode()
    assert settled in page
    with psycopg.connect(site.storage.replace("+psycopg", "")) as connection:
        tables = [row[0] for row in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()]
        record = "\n".join(str(connection.execute(f"SELECT * FROM {table}").fetchall()) for table in tables)
    assert settled in record
    logs = {file.name: file.read_text(errors="replace") for file in Path(site.machines.session).rglob("logs/**/*") if file.is_file()}
    assert any(settled in text for text in logs.values())
    output = "\n".join(file.read_text(errors="replace") for file in (site.folder / "output").rglob("*.yaml"))
    places = {"job page": page, "record": record, "output": output, "log": site.there("logs", settled)} | logs
    assert {(place, name) for place, text in places.items() for name, secret in CANARIES.items() if secret in text} == set()


def test_of_two_searches_one_is_stopped_and_resumed(site):
    site.submit("steady", epochs=12, trials=3, concurrent=1)
    site.submit("brief", epochs=12, trials=3, concurrent=1)
    site.until("steady", lambda record: any(trial.epochs_done for trial in record.trials))
    site.until("brief", lambda record: any(trial.epochs_done for trial in record.trials))
    assert [site.jobs()[name]["state"] for name in ("steady", "brief")] == ["RUNNING", "RUNNING"]
    assert f"injerto resume brief --address {site.machines.dashboard}" in site.there("stop", "brief")
    paused = site.until("brief", lambda record: record.state == "interrupted")
    assert paused.counts["running"] == 0
    assert site.ended("brief")["paused"]
    assert "steady" in site.there("resume", "steady", code=2), "a study that runs cannot be resumed"
    assert "study brief runs on the cluster" in site.there("resume", "brief", "--add-trials", 1)
    resumed, untouched = (site.until(name, lambda record: record.state == "finished") for name in ("brief", "steady"))
    assert (resumed.counts["finished"], untouched.counts["finished"]) == (4, 3)
    assert whole(resumed)
    assert whole(untouched)


def test_a_search_that_cannot_work_is_rejected_before_any_trial(site, settled):
    blind = site.there("doctor", site.photos, "--root", site.root, "--set", "resources.ship_up_to=0", code=2)
    remedy = "name a folder or a bucket that every node shares"
    assert re.search(rf"1 of 3 nodes cannot run trials:\n\s+beta: data: .*cannot be read \(No such file.*{remedy}", blind), blind
    assert "✗" in blind
    huge = site.submit("huge", "--set", "resources.cpus_per_trial=64", code=2)
    assert "no node has 64 CPUs" in huge
    assert "huge" not in list_study_names(site.opened)
    assert "does not accept the token" in site.there("jobs", code=2, RAY_AUTH_TOKEN="0" * 64)
    secret = site.storage.replace(postgres.USER, f"{postgres.USER}:{CANARIES['password']}")
    refused = site.there("submit", "--storage", secret, code=2)
    assert "was given with a password" in refused
    assert CANARIES["password"] not in refused
    assert settled in site.there("submit", site.photos, "--name", settled, "--storage", site.storage, "--root", site.root, code=2)
    assert "trial 0 finished" in site.there("logs", settled), "the search, not the one that failed because its name is taken"
    assert "no job and no study 'nobody'" in site.there("logs", "nobody", code=2)
    unknown = site.there("resume", "nobody", "--storage", site.storage, code=2)
    assert "no study 'nobody'" in unknown, "without such a job the record is asked"


def node_ids(site):
    request = urllib.request.Request(
        f"{site.machines.dashboard}/nodes?view=summary", headers={"Authorization": f"Bearer {CANARIES['token']}"}
    )
    found = json.load(urllib.request.urlopen(request))["data"]["summary"]
    return {node["hostname"]: node["raylet"]["nodeId"] for node in found if node["raylet"]["state"] == "ALIVE"}


def test_a_trial_leaves_a_drained_machine_at_the_end_of_an_epoch(site):
    site.machines.add("delta", "--num-cpus", "1")
    site.submit("drained", epochs=40, trials=2)
    seen = site.until("drained", nodes)
    leaves = nodes(seen).pop()
    leaving_id = wait_until(lambda: node_ids(site).get(leaves), 60, f"{leaves} on Ray's dashboard, which lists new nodes with a delay")
    ray = [sys.executable, "-m", "ray.scripts.scripts", "drain-node", "--address", site.machines.gcs, "--node-id", leaving_id]
    why = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot", "--deadline-remaining-seconds", "600"]
    subprocess.run([*ray, *why], env={**os.environ, **site.secrets}, check=True, capture_output=True)
    record = site.until("drained", lambda record: record.state == "finished")
    assert whole(record)
    retries = [retry for trial in record.trials for retry in trial.attributes.get("retries", [])]
    assert [retry["kind"] for retry in retries] == ["lost node"]
    assert retries[0]["message"] == "its node went away"


def test_a_network_failure_of_half_a_minute_loses_no_trial(site):
    site.machines.add("epsilon", "--num-cpus", "1")
    site.submit("cut", epochs=10, trials=4)
    site.until("cut", lambda record: "epsilon" in nodes(record))
    site.machines.cut("epsilon")
    time.sleep(30)
    site.machines.reconnect("epsilon")
    record = site.until("cut", lambda record: record.state == "finished")
    assert record.counts["finished"] == 4
    assert whole(record)


def test_a_search_whose_driver_was_killed_can_be_resumed(site):
    site.submit("orphan", epochs=10, trials=3)
    before = site.until("orphan", lambda record: sum(trial.epochs_done for trial in record.trials) >= 3)
    seconds = {trial.number: trial.history["seconds_training"] for trial in before.trials if trial.epochs_done}
    drivers = [id for id in site.machines.processes("head") if re.search(r"-m search\.cli search study\.yaml$", command_line(id))]
    assert drivers
    for id in drivers:
        os.kill(id, signal.SIGKILL)
    site.until("orphan", lambda record: record.state == "interrupted")
    assert site.ended("orphan")["state"] == "FAILED"
    site.there("resume", "orphan")
    record = site.until("orphan", lambda record: record.state == "finished")
    assert whole(record)
    for number, epochs in seconds.items():
        assert record.trials[number].history["seconds_training"][: len(epochs)] == epochs, "recorded epochs are not trained again"


def command_line(id):
    try:
        return " ".join(psutil.Process(id).cmdline())
    except psutil.Error:
        return ""
