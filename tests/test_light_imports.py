"""Modules that must stay light: which libraries they do not import, directly or through others. One process for each set of libraries."""

import json
import subprocess
import sys

import pytest

from tests.paths import REPOSITORY

IMPORT = """
import importlib, json, sys
forbidden, modules = json.loads(sys.argv[1])
found = {}
for module in modules:
    importlib.import_module(module)
    found[module] = sorted(set(forbidden) & set(sys.modules))
print(json.dumps(found))
"""


def every_module(package):
    """Return the names of a package's modules."""
    names = (path.relative_to(REPOSITORY).with_suffix("").parts for path in sorted((REPOSITORY / package).rglob("*.py")))
    return [".".join(parts).removesuffix(".__init__") for parts in names]


LIGHT = [
    (["torch", "ray", "optuna", "pandas", "sqlalchemy", "numpy"], ["search.cli.main"]),
    (["torch", "torchvision", "numpy"], ["trainables.networks.backbones", "trainables.networks.weights"]),
    (["torch", "pyarrow", "ray"], ["trainables.storage.root"]),
    (
        ["torch", "torchvision", "albumentations"],
        [f"trainables.worker.{module}" for module in ("assignment", "trainable", "simulated_trial", "trial_report")],
    ),
    (
        ["torch", "torchvision", "albumentations", "ray"],
        [
            *("trainables.config", "trainables.errors", "trainables.objectives", "trainables.recipe", "trainables.training.checks"),
            *("search.config", "search.config_reader", "search.record.records", "search.record.store", "search.watcher"),
            *("search.space.space", "search.rerun", "cluster.connect"),
            *("search.display.summary", "search.display.status_watch", "search.display.terminal", "search.display.json_lines"),
            *("search.display.snapshot", "search.trackers.registry"),
        ],
    ),
    (["torch", "ray"], every_module("dashboard")),
]


@pytest.mark.parametrize(("forbidden", "modules"), LIGHT, ids=[modules[0] for _, modules in LIGHT])
def test_light_modules_do_not_import_heavy_libraries(forbidden, modules):
    """In the order of the table; what one module imports is also there for the modules after it, so the first one is at fault."""
    command = [sys.executable, "-c", IMPORT, json.dumps([forbidden, modules])]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {module: [] for module in modules}


def test_the_table_finds_the_modules_of_a_package():
    assert len(every_module("dashboard")) >= 25
    assert {"dashboard", "dashboard.serve", "dashboard.views.trial"} <= set(every_module("dashboard"))
