"""Commands to a running search: a larger budget, a configuration to run, a trial to stop."""

import threading

import pytest

from search.record import lease
from search.record.store import load_study, open_storage
from tests.search.conftest import make_space
from tests.search.simulated_search import run_simulated_search
from tests.search.watchers import ActOnce
from trainables.errors import ConfigError
from trainables.recipe import LEARNING_RATE
from trainables.worker.simulated_trial import Simulation


@pytest.fixture(autouse=True, scope="module")
def quick_driver():
    """Make the driver read commands ten times a second instead of once, so that short trials leave time for all of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search.driver.drive.COMMAND_SECONDS", 0.1)
        yield


def ask(root, *commands, kind="epoch", seconds=0.5):
    """Search for three trials and send commands at the first event of a kind; return the record and the answers."""
    answers = []

    def asking():
        study = load_study(open_storage(f"sqlite:///{root}/studies.db"), "calm-fig")
        answers.extend(lease.request(study, command, **more) for command, more in commands)

    threads = []

    def start():
        threads.append(threading.Thread(target=asking))
        threads[0].start()

    record = run_simulated_search(
        root,
        Simulation(seconds=seconds),
        trials=3,
        name="calm-fig",
        watcher=ActOnce(kind, start),
        settings=("space.optimizer=[adamw, sgd]",),
        max_concurrent_trials=1,
        time_budget="10m",
    )
    threads[0].join()
    return record, answers


REFUSALS = (
    ("enqueue", {"params": {"weights": "/etc/passwd"}}, "refused: 'weights' is not searched here"),
    ("enqueue", {"params": {"learning_rate": 7.0}}, "refused: learning_rate must be in 0.0001 to 0.02 (log) but got 7.0"),
    ("enqueue", {"params": {"optimizer": "__import__"}}, "refused: optimizer must be in adamw, sgd but got '__import__'"),
    ("enqueue", {"params": ["x"]}, "refused: "),
    ("fly", {}, "unknown command 'fly'"),
    ("add", {"trials": -3}, "refused: trials and seconds must be added"),
)
ASKED = {"optimizer": "sgd", "learning_rate": 0.002, "head_layers": 0, "head_units": 200}


@pytest.fixture(scope="module")
def asked(ray_session, tmp_path_factory):
    """The record of a search that got commands while it ran, and their answers: larger budgets, a configuration, and `REFUSALS`."""
    commands = [
        ("add", {"trials": 2}),
        ("add", {"seconds": 60}),
        ("enqueue", {"params": ASKED}),
        *((do, about) for do, about, _ in REFUSALS),
    ]
    return ask(tmp_path_factory.mktemp("asked"), *commands)


def test_more_trials_and_time_are_added_while_it_runs(asked):
    record, answers = asked
    assert answers[:2] == ["the budget is 5 trials and 600 s now", "the budget is 5 trials and 660 s now"]
    assert record.config["budget"]["time"] == 660
    assert record.counts["finished"] == record.config["budget"]["trials"] == 6, "three, two more, and the configuration that was asked for"
    assert record.why == "all 6 trials have ended"


@pytest.mark.slow
def test_trials_are_added_while_the_last_one_runs(ray_session, tmp_path):
    """All trials of the first budget have been proposed by then."""
    root, answers = tmp_path, []

    def asking():
        study = load_study(open_storage(f"sqlite:///{root}/studies.db"), "calm-fig")
        answers.append(lease.request(study, "add", trials=1))

    def start():
        threading.Thread(target=asking).start()

    record = run_simulated_search(
        root, Simulation(seconds=2), trials=1, name="calm-fig", watcher=ActOnce("epoch", start), max_concurrent_trials=2
    )
    assert answers == ["the budget is 2 trials now"]
    assert record.counts["finished"] == 2


def test_a_stopped_trial_leaves_the_others_running(ray_session, tmp_path):
    record, answers = ask(tmp_path, ("stop trial", {"trial": 0}), ("stop trial", {"trial": 2}), seconds=1)
    assert answers == ["trial 0 stops at its next epoch", "refused: trial 2 is not running"]
    first = record.trials[0]
    assert first.state == "stopped"
    assert first.stop_reason.startswith("stopped by injerto stop (process ")
    assert 1 <= first.epochs_done < first.epochs_planned
    assert record.counts["finished"] == 2


def test_an_enqueued_configuration_runs_next(asked):
    record, answers = asked
    assert answers[2].startswith("the configuration runs as the next trial")
    (trial,) = [trial for trial in record.trials if trial.attributes.get("enqueued_by")]
    assert (trial.config["optimizer"], trial.config["learning_rate"]) == ("sgd", 0.05)
    assert (trial.params["learning_rate"], "head_units" in trial.params) == (0.002, False)
    assert trial.number < 3


def test_invalid_commands_are_refused_with_the_reason(asked):
    _, answers = asked
    assert all(answer.startswith(words) for answer, (_, _, words) in zip(answers[3:], REFUSALS, strict=True)), answers


def test_malformed_commands_are_answered_and_the_search_finishes(ray_session, tmp_path):
    """Anyone with access to the record can write any value into it."""
    odd = {
        "a": "pause",
        "b": ["x"],
        "c": {"do": ["finish"]},
        "d": {"do": "add", "by": "x", "trials": 1e999},
        "e": {"do": "enqueue", "by": "x"},
    }
    odd |= {"f": {"do": "enqueue", "by": "x", "params": {"learning_rate": "1" * 100_000}}, "g": {"do": "stop trial", "trial": {}}}

    def write():
        study = load_study(open_storage(f"sqlite:///{tmp_path}/studies.db"), "calm-fig")
        for key, value in odd.items():
            study.set_user_attr(f"command:{key}", value)
        study.set_user_attr("note:x", "not a note")

    watcher = ActOnce("epoch", write)
    record = run_simulated_search(tmp_path, Simulation(seconds=0.5), trials=2, name="calm-fig", watcher=watcher, max_concurrent_trials=1)
    assert record.state == "finished"
    assert record.counts["finished"] == 2
    assert record.notes == ()
    study = load_study(open_storage(f"sqlite:///{tmp_path}/studies.db"), "calm-fig")
    answers = [lease.answer_to(study, key) for key in odd]
    assert all(answer.startswith(("refused: ", "unknown command ")) for answer in answers)
    assert max(map(len, answers)) < 500


def test_checked_parameters_drop_inactive_ones_and_default_missing_ones():
    space = make_space({"optimizer": ["adamw", "sgd"]})
    assert space.check_params({}) == space.default_params()
    chosen = space.check_params({"optimizer": "sgd", "learning_rate": 0.005, "head_layers": 0, "head_units": 200, "activation": "gelu"})
    assert not {"head_units", "activation"} & chosen.keys()
    assert (chosen["optimizer"], chosen["learning_rate"]) == ("sgd", 0.005)
    assert space.check_params({"optimizer": "sgd"})["learning_rate"] == LEARNING_RATE
    assert space.check_params({"head_layers": 2})["head_units"] == 256
    with pytest.raises(ConfigError, match="unfrozen_stages must be in 0 to 5 but got True"):
        space.check_params({"unfrozen_stages": True})
    with pytest.raises(ConfigError, match="head_layers must be in 0 to 2 but got '1'"):
        space.check_params({"head_layers": "1"})
