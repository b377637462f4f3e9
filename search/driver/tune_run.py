"""Builds the Ray Tune run of a search and runs its trials."""

import logging
from typing import TYPE_CHECKING

from ray import tune

from search.driver.bridge import Bridge
from search.driver.previews import make_previews
from search.driver.ray_patches import credentials_withheld, retries_decided_by
from search.driver.result_callback import ResultCallback
from search.driver.retention import Retention
from search.driver.search_run import SearchRun
from search.driver.search_state import SearchState
from search.driver.steering import Steering
from search.driver.trial_source import TrialSetup
from search.nodes.resources import assignment_factory
from search.policy.rungs import Rungs
from search.policy.schedulers import SCHEDULERS
from trainables.errors import StorageError

if TYPE_CHECKING:
    from search.policy.stop_condition import StopCondition
    from search.record.record_writer import RecordWriter

MAX_CONCURRENT_TRIALS = 100_000
"""For Ray, which fills its slots faster if it is given a limit; the bridge keeps the real one, which changes with the nodes."""


def run_trials(run: SearchRun, steering: Steering, record_writer: "RecordWriter") -> None:
    """Run trials with Ray Tune until the search ends or pauses; why, is in `steering.stop_condition`. Sets `steering.bridge`.

    If the output folder cannot be used any more, the search pauses with a ``StorageError``.
    """
    stop_condition = steering.stop_condition
    setup = TrialSetup(run.plan.space, assignment_factory(run.plan, run.root, run.resources), run.root)
    state = _search_state(run, stop_condition)
    bridge = Bridge(run.study, setup, state, record_writer, slots=run.resources.slots, on_event=run.watcher.event)
    steering.bridge = bridge
    make_previews(run, setup.assign(0, run.plan.space.recipe), record_writer)
    run.watcher.begin(run.study.study_name, run.plan, run.resources.slots, stop_condition, stop_condition.ended)
    tuner = _tuner(run, bridge, state)
    logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)  # Ray would list the failed trials, which the watcher has shown
    with retries_decided_by(bridge.may_retry), credentials_withheld():
        try:
            tuner.fit()
        except OSError as error:
            unusable = StorageError(f"{run.folder} cannot be used any more: {error}")
            stop_condition.interrupt("the output folder cannot be used", unusable)
    bridge.close()


def _search_state(run: SearchRun, stop_condition: "StopCondition") -> SearchState:
    algorithm, keep = run.plan.config.algorithm, run.plan.config.keep
    return SearchState(
        stop_condition,
        Rungs(run.plan.mode, algorithm.reduction_factor),
        Retention(run.plan.mode, best=keep.best, disk=keep.disk),
        gpus=run.resources.gpus,
        stops_early=algorithm.stops_early,
    )


def _tuner(run: SearchRun, bridge: Bridge, state: SearchState) -> tune.Tuner:
    return tune.Tuner(
        tune.with_resources(run.trainable, run.resources.placement_group_factory()),
        tune_config=tune.TuneConfig(
            metric="objective",
            mode=run.plan.mode,
            search_alg=bridge,
            max_concurrent_trials=run.resources.max_concurrent or MAX_CONCURRENT_TRIALS,
            scheduler=SCHEDULERS[run.plan.config.algorithm.scheduler](state.rungs, bridge.verdicts),
            num_samples=-1,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="ray",
            storage_path=str(run.folder),
            failure_config=tune.FailureConfig(max_failures=-1),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            callbacks=[ResultCallback(bridge)],
            stop=state.stop_condition,
            verbose=0,
        ),
    )
