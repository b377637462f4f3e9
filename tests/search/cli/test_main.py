"""The commands: help, output and exit codes."""

import json
import re

import pytest
import yaml

from tests.cluster.http_server import http_server
from tests.cluster.recording_proxy import recording_proxy
from tests.search.cli.commands import main
from tests.search.conftest import IMAGE_SIZE, UNTRAINED, binary_table, command, regression_table

SMALL = (*UNTRAINED, "--image-size", IMAGE_SIZE, "--max-concurrent-trials", 1, "--set", "space.epochs=3")
STATUS = {"study", "state", "metric", "mode", "trials", "epochs", "seconds", "why", "best_trial", "failures"}
BEST = {"study", "trial", "metric", "value", "epoch", "unfinished", "params", "test", "exported", "default_recipe"}
COUNTS = {"finished", "stopped", "failed", "running", "queued", "paused"}


def test_help_lists_the_commands():
    done = command("--help")
    assert done.returncode == 0
    for name in ("search", "resume", "best", "status", "train", "dashboard"):
        assert re.search(rf"\b{name}\b", done.stdout)


def test_each_command_explains_its_options(capsys):
    for name in ("search", "resume", "best", "status", "train", "dashboard"):
        assert main(name, "--help") == 0
        assert "Usage: " in capsys.readouterr().out


def test_a_weights_mirror_on_loopback_is_asked_without_the_proxy(home, monkeypatch):
    binary_table(home / "fruit")
    asked = []
    with recording_proxy() as proxy, http_server(404, "no such file", asked=asked) as mirror:
        for name, value in (proxy.environment() | {"INJERTO_WEIGHTS_URL": mirror, "TORCH_HOME": str(home / "torch")}).items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        done = command("search", "fruit", "--weights", "imagenet", "--set", "space.backbone=resnet18", "--dry-run")
        assert done.returncode == 2, done.stdout
        assert "Not Found" in done.stderr
        assert len(asked) == 1
        assert proxy.requests == []


@pytest.mark.slow
def test_a_search_on_a_cluster_ignores_modules_in_the_working_folder(home, ray_session):
    (home / "search.py").write_text("raise RuntimeError('a file of the user')\n")
    (home / "trainables.py").write_text("raise RuntimeError('a file of the user')\n")
    binary_table(home / "fruit")
    address = ray_session.get_runtime_context().gcs_address
    done = command("search", "fruit", "--trials", 2, "--address", address, *SMALL)
    assert done.returncode == 0, done.stderr + done.stdout
    name = re.search(r"study ([a-z]+-[a-z]+): binary on", done.stdout)[1]
    assert f"{name} finished: all 2 trials have ended" in done.stdout
    assert "test images, evaluated once" in done.stdout
    assert (home / "injerto-output" / name / "best.yaml").exists()

    status = json.loads(command("status", "--json").stdout)
    assert set(status) == STATUS
    assert set(status["trials"]) == COUNTS
    assert (status["study"], status["metric"], status["mode"], status["trials"]["finished"]) == (name, "auroc", "max", 2)
    best = json.loads(command("best", "--json").stdout)
    assert set(best) == BEST
    assert set(best["default_recipe"]) == {"value", "test"}
    assert 0 <= best["test"]["auroc"] <= 1


def test_best_and_status_print_the_record(finished, finished_storage, capsys):
    assert main("best", "calm-fig", "--storage", finished_storage) == 0
    shown = capsys.readouterr().out
    assert "calm-fig: best finished trials" in shown
    assert "(default recipe)" in " ".join(shown.split())
    assert "On 7 test images, evaluated once" in shown
    assert main("best", "calm-fig", "--json", "--storage", finished_storage) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(finished.best_json()))
    assert main("status", "--storage", finished_storage, "--json") == 0
    assert json.loads(capsys.readouterr().out) == finished.status_json()


def test_dry_run_prints_the_settings_and_writes_no_file(home, photos, capsys):
    assert main("search", photos, "--dry-run", "--image-size", IMAGE_SIZE, "--set", "space.learning_rate.high=0.05", "--trials", 3) == 0
    shown = capsys.readouterr().out
    assert f"source: {photos}" in shown
    assert "# task: multiclass, metric: accuracy (max), image_size: 32" in shown
    assert "learning_rate: 0.0001 to 0.05 (log)" in shown
    assert "# the default recipe, trial 0:" in shown
    assert list(home.iterdir()) == []


def test_a_preset_is_shown_with_what_it_sets(home, photos, capsys):
    assert main("search", photos, "--dry-run", "--preset", "quick", "--trials", 3) == 0
    shown = capsys.readouterr().out
    settings = yaml.safe_load(shown)
    assert (settings["preset"], settings["backbones"], settings["image_size"]) == ("quick", ["efficientnet_lite0"], [96])
    assert settings["budget"]["trials"] == 3
    assert "# task: multiclass, metric: accuracy (max), image_size: 96" in shown
    assert list(home.iterdir()) == []


def test_a_taken_and_an_unknown_study_name_are_rejected(finished, finished_storage, photos, home, capsys):
    code = main("search", photos, "--name", "calm-fig", "--storage", finished_storage)
    assert code == 2
    assert "the study 'calm-fig' exists already" in capsys.readouterr().err
    assert main("best", "calm-fog", "--storage", finished_storage) == 2
    assert "did you mean 'calm-fig'" in capsys.readouterr().err


def test_an_error_is_printed_on_standard_error_only(home):
    done = command("search", "nowhere")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: no file or folder '{home}/nowhere'")
    assert done.stdout == ""


def test_a_search_on_a_cluster_that_does_not_answer_leaves_no_study(home, photos):
    done = command("search", photos, "--image-size", IMAGE_SIZE, "--address", "127.0.0.1:1")
    assert done.returncode == 2
    assert "error: no Ray cluster answers at 127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert [path.name for path in home.iterdir()] == ["own"]


def test_unreadable_images_are_listed_and_strict_rejects_them(home, photos, real_data, capsys):
    assert main("search", real_data / "broken", "--dry-run") == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "images that cannot be read: " in words
    assert "bomb_20000x20000.png (over 100 megapixels)" in words
    assert main("search", real_data / "broken", "--dry-run", "--strict") == 2
    assert "leave out --strict to go on without them" in capsys.readouterr().err


@pytest.mark.slow
def test_the_exit_code_is_1_if_no_trial_finished(home, ray_session, capsys):
    regression_table(home / "weights")
    settings = ("optimizer=sgd", "learning_rate=10", "clip_norm=0", "warmup=0", "loss=mse", "freeze_steps=0")
    given = [part for setting in settings for part in ("--set", f"space.{setting}")]
    assert main("search", "weights", "--trials", 1, *SMALL, *given) == 1
    shown = capsys.readouterr().out
    assert "no trial finished, so there is no result to export" in shown
    assert "failed non-finite: " in shown
