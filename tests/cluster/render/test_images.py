"""The Dockerfile and the compose file, as far as they can be checked without a Docker daemon, and the entry point."""

import os
import re
import shlex
import stat
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import cluster

HERE = Path(cluster.__file__).parent
ROOT = HERE.parent
SERVICES = {"head", "worker", "dashboard", "postgres", "minio", "bucket"}

STRINGS = {"type": "array", "items": {"type": "string"}}
ENVIRONMENT = {"type": "object", "additionalProperties": {"type": "string"}}
SERVICE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["image", "networks"],
    "properties": {
        "image": {"type": "string"},
        "build": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"context": {"type": "string"}, "dockerfile": {"type": "string"}, "args": ENVIRONMENT},
        },
        "command": STRINGS,
        "entrypoint": STRINGS,
        "environment": ENVIRONMENT,
        "secrets": STRINGS,
        "volumes": STRINGS,
        "ports": STRINGS,
        "networks": STRINGS,
        "shm_size": {"type": "string"},
        "restart": {"enum": ["no", "always", "on-failure", "unless-stopped"]},
        "cap_drop": STRINGS,
        "security_opt": STRINGS,
        "depends_on": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "additionalProperties": False,
                "properties": {"condition": {"enum": ["service_started", "service_healthy", "service_completed_successfully"]}},
            },
        },
        "healthcheck": {
            "type": "object",
            "additionalProperties": False,
            "required": ["test"],
            "properties": {
                "test": STRINGS,
                "interval": {"type": "string"},
                "timeout": {"type": "string"},
                "retries": {"type": "integer"},
            },
        },
    },
}
COMPOSE = {
    "type": "object",
    "additionalProperties": False,
    "patternProperties": {"^x-": {}},
    "required": ["services"],
    "properties": {
        "name": {"type": "string"},
        "services": {"type": "object", "additionalProperties": SERVICE},
        "networks": {"type": "object"},
        "volumes": {"type": "object"},
        "secrets": {
            "type": "object",
            "additionalProperties": {"type": "object", "required": ["file"], "properties": {"file": {"type": "string"}}},
        },
    },
}


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((HERE / "compose.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def instructions():
    """The Dockerfile as (instruction, rest) pairs, continued lines joined."""
    lines = (HERE / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines if line and not line.startswith("#")]


def test_compose_file_matches_the_schema(compose):
    jsonschema.validate(compose, COMPOSE)
    assert set(compose["services"]) == SERVICES


def test_everything_that_a_service_names_exists(compose):
    for name, service in compose["services"].items():
        assert set(service.get("secrets", ())) <= set(compose["secrets"]), name
        assert set(service["networks"]) <= set(compose["networks"]), name
        assert set(service.get("depends_on", ())) <= SERVICES, name
        for other, wanted in service.get("depends_on", {}).items():
            assert wanted["condition"] != "service_healthy" or "healthcheck" in compose["services"][other], name
        if "build" in service:
            context = HERE / service["build"]["context"]
            assert (context / service["build"]["dockerfile"]).samefile(HERE / "Dockerfile")
        for variable in re.findall(r"/run/secrets/(\w+)", str(service)):
            assert variable in service["secrets"], name


def test_only_dashboards_are_published_and_only_on_loopback(compose):
    published = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}
    assert set(published) == {"head", "dashboard"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_workers_can_be_scaled(compose):
    assert not {"ports", "container_name"} & set(compose["services"]["worker"])


def test_the_compose_file_holds_no_secret(compose):
    for name, service in compose["services"].items():
        for variable, value in service.get("environment", {}).items():
            assert not re.search("PASSWORD|SECRET|TOKEN|KEY", variable) or value.startswith("/run/secrets/"), name
    assert all(secret["file"].startswith("${INJERTO_SECRETS:?") for secret in compose["secrets"].values())
    assert "postgres_password" not in compose["services"]["worker"]["secrets"]


def test_every_stage_is_built_from_a_known_one(instructions):
    known = {"python:${PYTHON}-slim-bookworm"}
    for instruction, rest in instructions:
        if instruction == "FROM":
            source, _, name = rest.partition(" AS ")
            assert source in known or source == "torch-${VARIANT}", rest
            known.add(name)
        for stage in re.findall(r"--from=(\S+)", rest):
            assert stage in known
    assert {"torch-cpu", "torch-cuda"} <= known


def test_the_image_does_not_run_as_root_and_holds_no_secret(instructions):
    last = [rest for instruction, rest in instructions if instruction == "USER"][-1]
    assert last == "1000:1000"
    assert "ADD" not in {instruction for instruction, _ in instructions}
    assert not [rest for instruction, rest in instructions if instruction in ("ARG", "ENV") and re.search("PASSWORD|SECRET|TOKEN", rest)]


def test_copied_files_exist_and_are_sent_to_the_builder(instructions):
    sent = {line[1:].rstrip("/") for line in (HERE / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [
        source
        for instruction, rest in instructions
        if instruction == "COPY" and "--from" not in rest
        for source in [word for word in shlex.split(rest) if not word.startswith("--")][:-1]
    ]
    assert set(copied) >= {"trainables", "search", "dashboard", "cluster", "pyproject.toml"}
    for source in copied:
        assert (ROOT / source).exists()
        assert source.split("/")[0] in sent


def test_no_package_index_is_named():
    for name in ("Dockerfile", "compose.yaml"):
        assert not re.search(r"https?://(?!minio|127\.0\.0\.1|\$\$)", (HERE / name).read_text(encoding="utf-8"))


def test_the_entry_point_passes_shellcheck():
    done = subprocess.run(["shellcheck", HERE / "entrypoint.sh"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def enter(folder, secrets):
    (folder / "secrets").mkdir(exist_ok=True)
    for name, value in secrets.items():
        (folder / "secrets" / name).write_text(value + "\n", encoding="utf-8")
    environment = {
        "PATH": os.environ["PATH"],
        "INJERTO_SECRETS": str(folder / "secrets"),
        "PGPASSFILE": str(folder / "pgpass"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "credentials"),
    }
    return subprocess.run(["bash", HERE / "entrypoint.sh", "env"], env=environment, capture_output=True, text=True, check=True).stdout


def test_secrets_become_private_files_and_no_variables(tmp_path):
    seen = enter(tmp_path, {"postgres_password": r"a:b\c", "objects_user": "me", "objects_password": "hidden-word"})
    assert (tmp_path / "pgpass").read_text() == "*:*:*:*:a\\:b\\\\c\n"
    assert "aws_secret_access_key = hidden-word\n" in (tmp_path / "credentials").read_text()
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("pgpass", "credentials")} == {0o600}
    assert "hidden-word" not in seen


def test_the_command_runs_without_secrets(tmp_path):
    assert "PGPASSFILE" in enter(tmp_path, {})
    assert not (tmp_path / "pgpass").exists()


@settings(max_examples=25, deadline=None)
@given(password=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30))
def test_every_password_is_escaped_correctly(tmp_path_factory, password):
    folder = tmp_path_factory.mktemp("secrets")
    enter(folder, {"postgres_password": password})
    field = (folder / "pgpass").read_text().removesuffix("\n").removeprefix("*:*:*:*:")
    assert re.sub(r"\\(.)", r"\1", field) == password
    assert not re.search(r"(?<!\\):", re.sub(r"\\\\", "", field))
