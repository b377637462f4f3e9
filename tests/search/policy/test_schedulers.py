from types import SimpleNamespace
from typing import get_args

from search.config import EARLY_STOPPING, Algorithm
from search.policy.rungs import Rungs
from search.policy.schedulers import SCHEDULERS, ProgressHalving


def report(scheduler, number, *, epoch, values, reported=0, call="on_trial_result"):
    """Let a trial of nine epochs report `epoch`; return Ray's decision."""
    assignment = {"trial": {"epochs": 9, "warmup": 0.1}, "number": number, "reported": reported}
    trial = SimpleNamespace(config={"assignment": assignment})
    return getattr(scheduler, call)(None, trial, {"epoch": epoch, "history/objective": values})


def test_the_table_holds_every_scheduler_of_the_configuration():
    assert set(SCHEDULERS) == set(get_args(Algorithm.model_fields["scheduler"].annotation))


def test_a_scheduler_stops_trials_exactly_if_the_configuration_says_so():
    for name, build in SCHEDULERS.items():
        verdicts = {}
        scheduler = build(Rungs("max"), verdicts)
        decisions = [report(scheduler, number, epoch=3, values=[value] * 3) for number, value in enumerate([0.9, 0.8, 0.7, 0.6, 0.5])]
        stopped = name in EARLY_STOPPING
        assert decisions == ["CONTINUE"] * 4 + ["STOP" if stopped else "CONTINUE"]
        assert set(verdicts) == ({4} if stopped else set())
        assert Algorithm(scheduler=name).stops_early == stopped


def test_epochs_that_one_report_brings_together_are_judged_in_order():
    rungs = Rungs("max")
    report(ProgressHalving(rungs, {}), 1, epoch=4, values=[0.1, 0.2, 0.3, 0.4])
    assert [(position, rung.ranking) for position, rung in rungs.rungs.items()] == [(333, [(-0.3, 1)]), (111, [(-0.2, 1)])]


def test_the_last_report_of_a_trial_enters_the_rungs_that_it_passes_and_stops_nothing():
    """A resumed trial that had trained all its epochs reports them at once, with its last; Ray does not ask about that one."""
    rungs, verdicts = Rungs("max"), {}
    scheduler = ProgressHalving(rungs, verdicts)
    for number in range(4):
        report(scheduler, number, epoch=9, values=[0.9 - 0.1 * number] * 9, reported=1, call="on_trial_complete")
    assert [number for _, number in rungs.rungs[333].ranking] == [0, 1, 2, 3]
    assert verdicts == {}
    assert report(scheduler, 5, epoch=3, values=[0.1] * 3) == "STOP"
    report(scheduler, 5, epoch=3, values=[0.1] * 3, call="on_trial_complete")
    assert set(verdicts) == {5}, "the verdict that stopped a trial stays"
