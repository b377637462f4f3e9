"""Every command and every Python block of the pages runs, in the order in which a reader meets them. These tests take minutes."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.request

import numpy as np
import pytest
from PIL import Image

from search.record.reader import read_study
from tests.pages import PAGES, blocks, commands
from tests.paths import REPOSITORY
from tests.waiting import wait_until
from trainables.errors import StorageError

PROGRAMS = ('run("photos/"', "safe_open", "trainables.training.trainer")
"""A text of each Python block, by which the tests find it."""
QUICK = ["--trials", "2", "--image-size", "32", "--max-concurrent-trials", "1", "--set", "space.epochs=1"]
NOT_HERE = (["injerto", "search"], ["pytest"])
"""The first command, on the whole built-in sample, and the tests: `.ci/run` runs these two."""
COMMANDS = [words for page in PAGES for words in commands(page) if words[0] == "injerto" and words not in NOT_HERE]
COMMANDS = [words for place, words in enumerate(COMMANDS) if words not in COMMANDS[:place]]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder as a reader has it: `photos/`, `study.yaml`, `cluster.yaml`, a storage of its own."""
    place = tmp_path_factory.mktemp("reader")
    rng = np.random.default_rng(0)
    for number, name in enumerate(("rose", "tulip")):
        (place / "photos" / name).mkdir(parents=True)
        for index in range(100):
            pixels = rng.integers(0, 120, (24, 24, 3)) + np.array([100 * number, 0, 100 * (1 - number)])
            Image.fromarray(pixels.astype(np.uint8)).save(place / "photos" / name / f"{index}.png")
    study = next(block for page in PAGES for block in blocks(page, "yaml") if block.startswith("# study.yaml"))
    (place / "study.yaml").write_text(study)
    shutil.copy(REPOSITORY / "cluster" / "examples" / "kuberay.yaml", place / "cluster.yaml")
    return place


def environment(place):
    home = {"HOME": str(place)}  # a job's results go there, and Ray's token
    return os.environ | home | {"INJERTO_STORAGE": f"sqlite:///{place}/studies.db", "INJERTO_CACHE": str(place / "cache")}


def injerto(place, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "search.cli", *arguments], cwd=place, env=environment(place), capture_output=True, text=True, timeout=300
    )


def python(place, program, folder="."):
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=place / folder, env=environment(place), capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def python_block(text):
    """Return the one Python block of the pages that holds a text."""
    (block,) = {block for page in PAGES for block in blocks(page, "python") if text in block}
    return block


def test_each_python_block_is_run_by_a_test():
    found = {block for page in PAGES for block in blocks(page, "python")}
    assert len(found) >= 2
    for block in found:
        assert sum(text in block for text in PROGRAMS) == 1, block


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_command_runs(place):
    assert len(COMMANDS) >= 15
    names = set()
    try:
        for _, verb, *arguments in COMMANDS:
            run(place, verb, arguments, names)
    finally:
        injerto(place, "cluster", "down")


def run(place, verb, arguments, names):
    """Run a command with fewer and shorter trials, in the reader's folders; a name that an earlier search has gets a number."""
    if verb == "dashboard" and "0.0.0.0" in arguments:  # the reader has no login provider
        done = injerto(place, verb, *arguments)
        assert (done.returncode, "[auth]" in done.stderr) == (2, True), done.stderr
        return
    if verb == "dashboard":
        check_dashboard(place, arguments)
        return
    if verb == "resume":
        arguments[arguments.index("--add-trials") + 1] = "1"
    if verb in ("search", "submit", "doctor") and "--dry-run" not in arguments:
        arguments = [*arguments, *QUICK]
    if verb in ("search", "submit") and "study.yaml" in arguments and "--name" not in arguments and "--dry-run" not in arguments:
        arguments = [*arguments, "--name", f"tulips-{len(names)}" if names else "tulips"]
        names.add(arguments[-1])
    if verb == "plan":
        arguments = [*arguments, *QUICK, "--seconds", "2"]
    arguments = [argument.replace("/shared/", f"{place}/shared/") for argument in arguments]
    done = stop_a_search(place, [verb, *arguments]) if verb == "stop" else injerto(place, verb, *arguments)
    assert done.returncode == 0, f"{verb} {arguments}\n{done.stdout}\n{done.stderr}"
    assert done.stdout.strip(), (verb, arguments)


def stop_a_search(place, command):
    """Begin the search that a command stops, run the command during the first trial, and return it."""
    name, storage = command[1], f"sqlite:///{place}/studies.db"
    long = ["--trials", "6", "--set", "space.epochs=8", "--set", "space.unfrozen_stages=0"]
    arguments = [sys.executable, "-m", "search.cli", "search", "photos/", "--name", name, *QUICK, *long]

    def has_an_epoch():
        return any(trial.epochs_done for trial in read_study(name, storage).trials)

    with subprocess.Popen(arguments, cwd=place, env=environment(place), stdout=subprocess.DEVNULL) as process:
        wait_until(has_an_epoch, 120, f"the first epoch of {name}", ignoring=(StorageError,))
        done = injerto(place, *command)
        assert process.wait(timeout=120) == 130
    return done


def check_dashboard(place, arguments):
    port = free_port()
    if "--port" in arguments:
        at = arguments.index("--port")
        arguments = [*arguments[:at], *arguments[at + 2 :]]
    command = [sys.executable, "-m", "search.cli", "dashboard", *arguments, "--port", str(port)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=place, env=environment(place), **quiet) as server:
        try:
            assert wait_until(lambda: health(port), 60, "the dashboard", ignoring=(OSError,)) == "ok"
        finally:
            server.terminate()


def health(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5) as reply:
        return reply.read().decode()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_search_from_python_runs(place):
    program = python_block(PROGRAMS[0])
    quick = program.replace("trials=20", "trials=2, image_size=32, settings=('space.epochs=1',)")
    assert quick != program
    value, rate, scores = re.fullmatch(r"(\S+) (\S+) (\{.*\})", python(place, quick)).groups()
    assert 0 <= float(value) <= 1
    assert float(rate) > 0
    assert "auroc" in scores


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_plain_timm_loads_the_export_and_gives_the_recorded_test_score(place):
    """The program of the page, then the same network over the test images, read from their files."""
    done = injerto(place, "search", "photos/", "--name", "exported", *QUICK, "--trials", "1", "--set", "space.head_layers=1")
    assert done.returncode == 0, done.stderr
    program = python_block(PROGRAMS[1]).replace("best.safetensors", "injerto-output/exported/best.safetensors")
    name, probability = python(place, program).split()
    assert name == "tulip"
    assert 0 < float(probability) < 1
    judge = """
from trainables.data.dataset import prepare
data = prepare(source="photos", image_size=32)
def probability(row):
    return torch.sigmoid(network.head(network(to_input("photos/" + data.names[row])[None]))).item()
print(sum((probability(row) > 0.5) == data.targets[row] for row in data.rows["test"]) / len(data.rows["test"]))
"""
    recorded = json.loads(injerto(place, "best", "exported", "--json").stdout)["test"]["accuracy"]
    assert float(python(place, program + judge)) == pytest.approx(recorded)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_one_trial_in_python_runs(place):
    assert 0 <= float(python(place, python_block(PROGRAMS[2]))) <= 1
