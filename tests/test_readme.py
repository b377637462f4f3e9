"""The README is true: its commands run, its tables are those of the code, its links resolve."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search.config import Algorithm, Budget, Keep, Resources, SearchConfig
from search.record.records import read_study
from trainables.config import DataConfig, TrialConfig
from trainables.errors import StorageError

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text()
QUICK = ["--trials", "2", "--image-size", "32", "--max-concurrent-trials", "1", "--set", "space.epochs=1"]
BY_CI = ("pip install uv && uv run injerto search", "uv run pytest")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


COMMANDS = [line for block in blocks("sh") for line in block.splitlines() if line not in BY_CI]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder as the README's reader has it: `photos/`, `study.yaml`, `cluster.yaml`, a storage of its own."""
    place = tmp_path_factory.mktemp("reader")
    rng = np.random.default_rng(0)
    for number, name in enumerate(("rose", "tulip")):
        (place / "photos" / name).mkdir(parents=True)
        for index in range(100):
            pixels = rng.integers(0, 120, (24, 24, 3)) + np.array([100 * number, 0, 100 * (1 - number)])
            Image.fromarray(pixels.astype(np.uint8)).save(place / "photos" / name / f"{index}.png")
    (place / "study.yaml").write_text(blocks("yaml")[0])
    shutil.copy(README.parent / "cluster" / "examples" / "kuberay.yaml", place / "cluster.yaml")
    return place


def environment(place):
    home = {"HOME": str(place)}  # a job's results go there, and Ray's token
    return os.environ | home | {"INJERTO_STORAGE": f"sqlite:///{place}/studies.db", "INJERTO_CACHE": str(place / "cache")}


def injerto(place, *arguments, **variables):
    return subprocess.run(
        [sys.executable, "-m", "search.cli", *arguments],
        cwd=place,
        env=environment(place) | variables,
        capture_output=True,
        text=True,
        timeout=300,
    )


def stopped(place, name, command):
    """Begin a search and stop it with a command from elsewhere; return what the command said."""
    arguments = [
        "search",
        "photos/",
        "--name",
        name,
        *QUICK,
        "--trials",
        "6",
        "--set",
        "space.epochs=8",
        "--set",
        "space.unfrozen_stages=0",
    ]
    with subprocess.Popen(
        [sys.executable, "-m", "search.cli", *arguments], cwd=place, env=environment(place), stdout=subprocess.DEVNULL
    ) as process:
        for _ in range(1200):
            with suppress(StorageError):
                if any(trial.epochs_done for trial in read_study(name, f"sqlite:///{place}/studies.db").trials):
                    break
            time.sleep(0.1)
        done = injerto(place, *command)
        assert process.wait(timeout=120) == 130
    return done


def test_the_two_main_commands_stand_where_ci_finds_them():
    assert all(any(command == line for block in blocks("sh") for line in block.splitlines()) for command in BY_CI)


@pytest.mark.timeout(900)
def test_every_command_runs(place):
    try:
        for command in COMMANDS:
            _run(place, command)
    finally:
        injerto(place, "cluster", "down")


def _run(place, command):
    program, verb, *arguments = shlex.split(command)
    assert program == "injerto"
    if verb == "dashboard":
        _serves(place, arguments)
        return
    if verb == "resume":
        arguments[arguments.index("--add-trials") + 1] = "1"
    if verb in ("search", "submit", "doctor") and "--dry-run" not in arguments:
        arguments = [*arguments, *QUICK]
    if verb == "plan":
        arguments = [*arguments, *QUICK, "--seconds", "2"]
    arguments = [argument.replace("/shared/", f"{place}/shared/") for argument in arguments]
    done = stopped(place, arguments[0], [verb, *arguments]) if verb == "stop" else injerto(place, verb, *arguments)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert done.stdout.strip(), command


def _serves(place, arguments):
    arguments = arguments if "--port" in arguments else [*arguments, "--port", "8502"]
    with subprocess.Popen(
        [sys.executable, "-m", "search.cli", "dashboard", *arguments],
        cwd=place,
        env=environment(place),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            port = arguments[arguments.index("--port") + 1]
            assert _answer(f"http://127.0.0.1:{port}/_stcore/health") == "ok"
        finally:
            server.terminate()


def _answer(address):
    for _ in range(150):
        try:
            with urllib.request.urlopen(address, timeout=5) as reply:
                return reply.read().decode()
        except OSError:
            time.sleep(0.2)
    return "no answer"


def python(place, program, folder="."):
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=place / folder, env=environment(place), capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.timeout(300)
def test_the_search_from_python_runs(place):
    program = next(block for block in blocks("python") if "search.driver.launch" in block)
    quick = program.replace("trials=20", "trials=2, image_size=32, settings=('space.epochs=1',)")
    assert quick != program
    value, rate, scores = re.fullmatch(r"(\S+) (\S+) (\{.*\})", python(place, quick)).groups()
    assert 0 <= float(value) <= 1
    assert float(rate) > 0
    assert "auroc" in scores


@pytest.mark.timeout(300)
def test_plain_torchvision_loads_the_export_and_gives_the_recorded_test_score(place):
    """The README's program, then the same network over the test images, read from their files."""
    done = injerto(place, "search", "photos/", "--name", "exported", *QUICK, "--trials", "1", "--set", "space.head_layers=1")
    assert done.returncode == 0, done.stderr
    program = next(block for block in blocks("python") if "safe_open" in block)
    program = program.replace("best.safetensors", "injerto-output/exported/best.safetensors")
    name, probability = python(place, program).split()
    assert name == "tulip"
    assert 0 < float(probability) < 1
    judge = """
from trainables.data.dataset import prepare
data = prepare(source="photos", image_size=32)
def probability(row):
    square = ImageOps.fit(Image.open("photos/" + data.names[row]).convert("RGB"), (steps["square"],) * 2, Image.Resampling.BICUBIC)
    return torch.sigmoid(network(to_input(square)[None])).item()
print(sum((probability(row) > 0.5) == data.targets[row] for row in data.rows["test"]) / len(data.rows["test"]))
"""
    recorded = json.loads(injerto(place, "best", "exported", "--json").stdout)["test"]["accuracy"]
    assert float(python(place, program + judge)) == pytest.approx(recorded)


@pytest.mark.parametrize("kind", [SearchConfig, DataConfig, Budget, Resources, Algorithm, Keep, TrialConfig])
def test_every_key_is_in_a_table_with_its_own_description(kind):
    prefix = {DataConfig: "data.", Budget: "budget.", Resources: "resources.", Algorithm: "algorithm.", Keep: "keep."}.get(kind, "")
    for name, field in kind.model_fields.items():
        if field.description is not None and (kind is not TrialConfig or name not in SearchConfig.model_fields):
            assert f"| `{prefix}{name}` | {field.description} |" in TEXT


def test_links_resolve():
    links = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert links
    assert all((README.parent / link).exists() for link in links if "://" not in link)


def test_the_example_files_are_valid_and_say_only_what_differs():
    import yaml

    defaults = SearchConfig()
    for block in blocks("yaml"):
        given = yaml.safe_load(block)
        found = SearchConfig.model_validate(given)
        assert all(getattr(found, key) != getattr(defaults, key) for key in given)
