import json
import time
from dataclasses import replace
from io import StringIO
from itertools import islice

import pytest
from rich.console import Console

from search.cli.main import app
from search.config_reader import SHORTHANDS, read_config
from search.forecast.forecast import Forecast, Interval
from search.forecast.forecast_table import forecast_rows, measurement_progress, print_forecast
from search.forecast.measurement import configurations, demand_of, free_disk, measure_plan
from search.nodes.resources import TrialResources
from search.paths import resolve_paths
from search.plan import make_plan
from search.record.store import list_study_names, open_storage
from tests.search.conftest import FASTEST, IMAGE_SIZE, command, make_space
from trainables.errors import ConfigError, ResourceError, StorageError

SECONDS = 3


@pytest.fixture
def planned(ray_session, photos, home):
    """Return a function that plans a search over tiny images: `planned("space.epochs=4", trials=4)`."""

    small = {"image_size": IMAGE_SIZE, "weights": "none", "trials": 6}

    def of(*settings, **options):
        return make_plan(resolve_paths(read_config(photos, small | options, (FASTEST, *settings))))

    return of


def test_measuring_a_plan_gives_a_forecast_and_leaves_no_files(planned, home):
    progress = []
    forecast = measure_plan(
        planned("space.epochs=4"), seconds=SECONDS, on_measurement=lambda spent, measured: progress.append((spent, measured))
    )
    assert forecast.measured >= forecast.slots == 2
    assert forecast.failed == 0
    assert forecast.trials == (6, 6)
    assert 0 < forecast.time.low < forecast.time.middle < forecast.time.high
    assert 0 < forecast.default_seconds < 600
    assert forecast.state_bytes > 10**5
    assert 0 < forecast.disk_bytes < forecast.disk_free_bytes
    assert 0 < forecast.memory_bytes < forecast.machine_memory_bytes
    assert progress == sorted(progress)
    assert progress[-1][1] == forecast.measured
    assert progress[-1][0] >= SECONDS
    assert list(home.iterdir()) == []
    with pytest.raises(StorageError, match="no studies"):
        list_study_names(open_storage(None))


def test_workers_that_do_not_start_in_time_raise_an_error(planned, ray_session, monkeypatch):
    monkeypatch.setattr("search.forecast.measurement.READY_SECONDS", 2.0)
    plan = planned()
    hog = ray_session.remote(num_cpus=2)(lambda: time.sleep(30)).remote()
    time.sleep(2)
    with pytest.raises(ResourceError, match=r"only 0 of 2 workers began within 2 s; .*--max-concurrent-trials 1"):
        measure_plan(plan, seconds=1)
    ray_session.cancel(hog, force=True)


@pytest.mark.parametrize(("settings", "trials", "rungs"), [((), 12, True), ((), 5, False), (("algorithm.scheduler=none",), 12, False)])
def test_rungs_count_only_if_they_can_stop_a_trial(settings, trials, rungs, photos):
    resources = TrialResources({"CPU": 1.0, "GPU": 0.5})
    asked = demand_of(read_config(photos, {"trials": trials, "gpu_hours": 2, "time_budget": "1h"}, settings), resources, start=3.0)
    assert (asked.rungs, asked.trials, asked.time, asked.gpu_seconds, asked.gpus, asked.start) == (rungs, trials, 3600, 7200, 0.5, 3.0)


@pytest.mark.slow
def test_a_plan_whose_default_recipe_fails_is_refused(planned):
    plan = planned()
    changed = replace(plan, dataset=replace(plan.dataset, fingerprint="0" * 64))
    with pytest.raises(ConfigError, match=r"the default recipe fails here \(data: the images .* have changed"):
        measure_plan(changed, seconds=1)


def test_configurations_are_the_default_recipe_then_random_ones():
    space = make_space()
    drawn = list(islice(configurations(space, seed=3), 6))
    assert drawn[0] == space.config(space.default_params())
    assert len({config.model_dump_json() for config in drawn}) == 6
    assert drawn == list(islice(configurations(space, seed=3), 6))
    assert drawn[1:] != list(islice(configurations(space, seed=4), 6))[1:]


def test_free_disk_of_a_folder_that_does_not_exist_yet(tmp_path):
    assert free_disk(tmp_path / "not" / "yet") == pytest.approx(free_disk(tmp_path), rel=0.1)


FOUND = {
    "measured": 9,
    "failed": 1,
    "default_seconds": 35.0,
    "mean_seconds": 62.0,
    "trials_per_hour": (116.0, 232.0),
    "trials": (4, 8),
    "time": None,
    "budget_trials": 12,
    "slots": 2,
    "rungs": True,
    "state_bytes": 20_800_000,
    "disk_bytes": 135_000_000,
    "disk_free_bytes": 45_600_000_000,
    "cache_bytes": 28_700_000,
    "memory_bytes": 1_500_000_000,
    "machine_memory_bytes": 25_300_000_000,
    "gpu_bytes": 0,
    "machine_gpu_bytes": 0,
}


def forecast_of(**changes):
    return Forecast(**FOUND | {"time": Interval(50, 107, 184)} | changes)


def test_the_rows_of_the_table():
    found = forecast_rows(forecast_of())
    assert found["measured"] == "9 configurations, 2 at a time; 1 more failed, as they would in a search"
    assert found["trials an hour"] == "116 to 232, as rungs stop more of them"
    assert found["the search"] == "4 to 8 of 12 trials in 1 min 47 s, between 50 s and 3 min 4 s"
    assert found["disk"] == "135 MB, 45.6 GB free; a state 20.8 MB"
    assert found["memory"] == "1.5 GB of 25.3 GB"
    other = forecast_rows(
        forecast_of(disk_free_bytes=None, trials=(12, 12), gpu_bytes=10**9, machine_gpu_bytes=10**11, trials_per_hour=(58, 58))
    )
    assert other["disk"].startswith("135 MB, in a bucket")
    assert other["the search"].startswith("12 trials in")
    assert other["memory"].endswith("1 GB of a GPU's 100 GB for each")
    assert other["trials an hour"] == "58"


def test_progress_is_a_bar_on_a_terminal_and_a_line_elsewhere():
    terminal, file = (Console(file=StringIO(), force_terminal=is_terminal, width=100) for is_terminal in (True, False))
    for console in (terminal, file):
        with measurement_progress(console, 60) as on_measurement:
            on_measurement(20, 3)
            on_measurement(70, 9)
    assert file.file.getvalue() == "measuring for about 1 min\n"
    assert "9 configurations, the last ones end" in terminal.file.getvalue()


def test_the_printed_forecast_explains_its_two_times(planned):
    console = Console(file=StringIO(), width=200)
    print_forecast(console, planned(), forecast_of())
    printed = console.file.getvalue()
    assert "multiclass on images of 32 px" in printed
    assert "80% of such searches end between the two times. The lower one assumes that rungs stop trials after 50% of" in printed


def test_the_plan_command_has_the_settings_of_search():
    from typer.main import get_command

    commands = get_command(app).commands
    search, plan = ({option.name for option in commands[name].params} for name in ("search", "plan"))
    assert search - plan == {"dry_run", "track"}
    assert plan - search == {"seconds"}
    assert plan & set(SHORTHANDS) == search & set(SHORTHANDS)


@pytest.mark.slow
def test_plan_json_prints_only_json_to_standard_output(photos, home):
    done = command("plan", photos, "--image-size", IMAGE_SIZE, "--set", "space.epochs=2", "--seconds", 1, "--trials", 4, "--json")
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) == set(FOUND)
    assert "measuring for about 1 s" in done.stderr
    assert list(home.iterdir()) == []
