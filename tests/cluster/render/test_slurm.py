import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.render.cluster_config import ClusterConfig
from cluster.render.slurm import fill_template, render
from tests.search.conftest import UNTRAINED
from tests.waiting import wait_until
from trainables.config import validate

CONFIGS = [
    {},
    {"workers": 8, "gpu": {"type": "a100", "count": 4}, "cpus": 32, "memory": 240, "environment": "/opt/an env"},
    {"gpu": {"count": 1}, "slurm": {"partition": "gpu,debug", "account": "botany", "qos": "long", "time": "1-00:00:00", "requeue": False}},
    {"shared": "/a 'b' $(touch proof) `id`", "settings": 'a"b\\.yaml', "storage": "postgresql://me@db/injerto"},
]
PRINTABLE = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"], exclude_characters="?"), min_size=1, max_size=30).filter(
    str.isprintable
)
VARIABLES = ("shared", "settings", "environment", "study", "storage", "cpus", "gpus", "join", "requeue")


def script(values):
    ((name, text),) = render(validate(ClusterConfig, values)).items()
    assert name == f"{values.get('name', 'injerto')}.sbatch"
    return text


def assigned(text):
    """The values that bash itself reads from the script's assignments, as bytes."""
    lines = text.split("set -euo pipefail\n\n", 1)[1].split("\n\n", 1)[0]
    show = "; ".join(f"printf '%s\\0' \"${name}\"" for name in VARIABLES)
    done = subprocess.run(["bash", "-c", f"{lines}\n{show}"], capture_output=True, check=True)
    return dict(zip(VARIABLES, done.stdout.split(b"\0"), strict=False))


@pytest.mark.parametrize("values", CONFIGS)
def test_the_script_passes_bash_and_shellcheck(tmp_path, values):
    path = tmp_path / "job.sbatch"
    path.write_text(script(values), encoding="utf-8")
    for command in (["bash", "-n", path], ["shellcheck", "--exclude=SC2016", path]):  # a value may look like code
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@settings(max_examples=60, deadline=None)
@given(PRINTABLE, PRINTABLE)
def test_bash_reads_the_configured_bytes(folder, file):
    config = ClusterConfig(shared="/x" + folder, environment="/x" + folder, settings="x/y" + file)
    found = assigned(render(config)["injerto.sbatch"])
    assert found["shared"] == found["environment"] == config.shared.encode()
    assert found["settings"] == config.settings.encode()
    assert found["storage"] == config.storage_url.encode()


def test_markers_inside_values_are_not_replaced():
    assert fill_template("a=@shared@ b=@study@", {"shared": "'@study@'", "study": "pears"}) == "a='@study@' b=pears"
    assert assigned(script({"shared": "/@study@"}))["shared"] == b"/@study@"


def test_scheduler_options_match_the_configuration():
    text = script(CONFIGS[1] | {"name": "pears", "slurm": {"partition": "gpu", "pause": 900}})
    options = [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH")]
    wanted = "--job-name=pears --nodes=8 --cpus-per-task=32 --mem=240G --gres=gpu:a100:4 --partition=gpu --signal=B:TERM@900 --requeue"
    assert set(wanted.split()) <= set(options)
    assert text.splitlines()[1 : 1 + len(options)] == [f"#SBATCH {option}" for option in options]


def test_the_token_is_in_a_private_file_and_on_no_command_line():
    text = script({})
    assert "umask 077" in text
    assert 'RAY_AUTH_TOKEN_PATH="$private/token"' in text
    assert not [line for line in text.splitlines() if "ray stop" in line and not line.startswith("#")]


def test_waiting_for_nodes_ends_at_its_time_limit():
    command = [sys.executable, "-m", "cluster.wait_for_nodes", "127.0.0.1:1", "2", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert re.match(r"error: 0 of 2 nodes have joined 127.0.0.1:1 after 1 s \(no Ray cluster answers", done.stderr)


# Replacements for Slurm's commands: two nodes that are two loopback addresses.
FAKE_COMMANDS = {
    "srun": """
chosen=(n1 n2)
while [[ $1 == --* ]]; do
  case $1 in --nodelist=*) chosen=("${1#*=}") ;; --exclude=n1) chosen=(n2) ;; esac
  shift
done
for node in "${chosen[@]}"; do NODE=${node#n} "$@" & children+=("$!"); done
trap 'kill -TERM "${children[@]}"' TERM
wait || wait
wait
""",
    "scontrol": 'if [[ $1 == show ]]; then printf "n1\\nn2\\n"; else echo "$@" >>"$ASKED"; fi',
    "hostname": 'echo "fe80::1 127.0.0.$((10 + NODE))"',
}


@pytest.fixture
def job(tmp_path, own_cache):
    """Start the script as Slurm would; at the end every process that it started must have ended."""
    number = str(os.getpid())
    tools, shared = tmp_path / "bin", tmp_path / "shared folder"
    tools.mkdir()
    shared.mkdir()
    for name, body in FAKE_COMMANDS.items():
        (tools / name).write_text(f"#!{shutil.which('bash')}\n{body}\n")
        (tools / name).chmod(0o755)
    (shared / "study.yaml").write_text("weights: none\nbackbones: [mobilenet_v3_small]\nbudget: {trials: 1}\nspace: {epochs: 1}\n")
    (tmp_path / "job.sbatch").write_text(script({"workers": 2, "cpus": 1, "shared": str(shared), "slurm": {"join": 120}}))
    environment = {name: value for name, value in os.environ.items() if name not in ("INJERTO_STORAGE", "RAY_ADDRESS")} | {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "SLURM_JOB_ID": number,
        "SLURM_JOB_NODELIST": "n[1-2]",
        "ASKED": str(tmp_path / "asked"),
    }
    started = []

    def start(*arguments):
        with (tmp_path / "log").open("a") as log:
            started.append(subprocess.Popen(["bash", tmp_path / "job.sbatch", *arguments], env=environment, stdout=log, stderr=log))
        return started[-1]

    yield start, shared, tmp_path
    for process in started:
        process.terminate()
        process.wait(90)
    assert not [
        process for process in psutil.process_iter(["cmdline"]) if f"/tmp/ray-{number}" in shlex.join(process.info["cmdline"] or [])
    ]
    assert not Path(f"/tmp/ray-{number}").exists()


def status(shared):
    command = ["injerto", "status", "injerto", "--storage", f"sqlite:///{shared}/studies.db", "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    return json.loads(done.stdout) if done.returncode == 0 else {"epochs": 0, "state": "none"}


@pytest.mark.slow
def test_two_nodes_search_and_leave_no_process_or_file(job):
    start, shared, folder = job
    process = start()
    assert process.wait(400) == 0, (folder / "log").read_text()
    assert "2 nodes have joined" in (folder / "log").read_text()
    assert status(shared)["state"] == "finished"
    assert (shared / "injerto-output" / "injerto" / "best.yaml").exists()
    assert sorted(path.name for path in shared.iterdir() if path.name.startswith(".ray")) == []


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_job_pauses_before_its_time_limit_and_the_requeued_job_resumes(job):
    start, shared, folder = job
    process = start("builtin:digits", *UNTRAINED, "--trials", "2", "--set", "space.epochs=3")
    wait_until(lambda: status(shared)["epochs"] >= 1, 400, (folder / "log").read_text)
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 130, (folder / "log").read_text()
    assert (folder / "asked").read_text() == f"requeue {os.getpid()}\n"
    assert status(shared)["state"] == "interrupted"
    assert start("builtin:digits", "--trials", "2").wait(400) == 0, (folder / "log").read_text()
    assert "the study injerto exists and is resumed" in (folder / "log").read_text()
    assert status(shared)["state"] == "finished"
    assert status(shared)["trials"]["paused"] == 0


@pytest.mark.parametrize("argument", ["--name", "--name=pears"])
def test_a_name_argument_is_rejected(tmp_path, argument):
    (tmp_path / "job.sbatch").write_text(script({"shared": str(tmp_path)}))
    done = subprocess.run(["bash", tmp_path / "job.sbatch", argument], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        2,
        "name the study in INJERTO_STUDY, not with --name: the job must find it when it is queued again\n",
    )
