"""What a running search is asked from elsewhere, by the command line or the dashboard: one table of commands."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import optuna

from search.config import SearchConfig
from search.plan import Plan
from search.record import lease
from search.record.record_writer import TRANSIENT
from search.record.store import resolve_url, shown
from search.watcher import Watcher
from trainables.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from search.driver.bridge import Bridge
    from search.policy.rungs import StopCondition

ENDING = "the search is ending: the test images are being opened"
MOST_TRIALS, MOST_SECONDS, LONGEST = 100_000, 365 * 86400.0, 300
"""What may be added at once, and the characters of a refusal: what was asked may be endless."""
ENDS = "ends"
"""The study attribute that says why a search that still runs is about to end or to pause."""
Command = Mapping[str, Any]


class Steering:
    """Does what others ask of a search, and answers each of them. `bridge` is set once trials run."""

    def __init__(self, study: optuna.Study, plan: Plan, stop_condition: "StopCondition", watcher: Watcher) -> None:
        self.study, self.plan, self.stop_condition, self.watcher = study, plan, stop_condition, watcher
        self.config = plan.config
        self._said: str | None = None
        self._done: dict[str, str] = {}
        self.bridge: Bridge | None = None

    def obey(self) -> None:
        """Do and answer what has been asked since the last time, and record it where the search ends."""
        for key, command in lease.commands(self.study).items():
            if key not in self._done:  # a database that was away when it was answered must not have it done twice
                self._done[key] = self._words(command) if isinstance(command, Mapping) else "refused: this is no command"
                by = command.get("by", "somebody") if isinstance(command, Mapping) else "somebody"
                self.watcher.say(f"{by}: {self._done[key]}")
            lease.answer(self.study, key, self._done[key])
        if (reason := self.stop_condition.reason() or "") != self._said:
            self.study.set_user_attr(ENDS, reason)
            self._said = reason

    def enlarge(self, trials: int, seconds: float) -> None:
        """Raise the budget, here and in the record."""
        larger = enlarged(self.config, trials, seconds, self.stop_condition.elapsed())
        self.study.set_user_attr("config", recorded(larger))
        self.config = larger
        self.stop_condition.trials, self.stop_condition.seconds = self.config.budget.trials, self.config.budget.time

    def _words(self, command: Command) -> str:
        if self.stop_condition.over:
            return ENDING
        do = str(command.get("do"))[:LONGEST]
        if do not in COMMANDS:
            return f"unknown command {do!r}{did_you_mean(do, COMMANDS)}"
        try:
            return COMMANDS[do](self, command)
        except TRANSIENT:
            raise
        except Exception as error:
            return f"refused: {str(error)[:LONGEST]}"


def _pause(search: Steering, command: Command) -> str:
    search.stop_condition.interrupt(f"paused by {command['by']}")
    return "the search pauses: running trials pause at their next epoch"


def _finish(search: Steering, command: Command) -> str:
    search.stop_condition.finish(f"ended early by {command['by']}")
    return "the search ends: running trials stop at their next epoch, then the test images are opened"


def _stop_trial(search: Steering, command: Command) -> str:
    number = int(command["trial"])
    if search.bridge is None or not search.bridge.stop_trial(number, f"stopped by {command['by']}"):
        return f"refused: trial {number} is not running"
    return f"trial {number} stops at its next epoch"


def _add(search: Steering, command: Command) -> str:
    trials, seconds = int(command.get("trials", 0)), float(command.get("seconds", 0))
    if not (0 <= trials <= MOST_TRIALS and 0 <= seconds <= MOST_SECONDS and trials + seconds > 0):
        raise ConfigError(f"trials and seconds must be added in positive numbers, at most {MOST_TRIALS:,} and a year")
    if seconds and search.config.budget.time is None:
        raise ConfigError("the search has no limit of time to add to")
    search.enlarge(trials, seconds)
    budget = search.config.budget
    time = "" if budget.time is None else f" and {budget.time:.0f} s"
    return f"the budget is {budget.trials} trials{time} now"


def _enqueue(search: Steering, command: Command) -> str:
    params = search.plan.space.checked(command["params"])
    search.enlarge(1, 0.0)
    search.study.enqueue_trial(params, user_attrs={"enqueued_by": str(command["by"])[:LONGEST]})
    return "the configuration runs as the next trial, one more than the budget"


COMMANDS: Mapping[str, Callable[[Steering, Command], str]] = {
    "pause": _pause,
    "finish": _finish,
    "stop trial": _stop_trial,
    "add": _add,
    "enqueue": _enqueue,
}
"""What can be asked → what does it and says so."""


def enlarged(config: SearchConfig, trials: int, seconds: float, used_seconds: float) -> SearchConfig:
    """Return a configuration with more trials and more time than it had; time that had no limit has one from now on."""
    budget = config.budget
    time = max(budget.time, used_seconds) if budget.time is not None else used_seconds
    update = {"trials": budget.trials + trials, "time": time + seconds if seconds else budget.time}
    return config.model_copy(update={"budget": budget.model_copy(update=update)})


def recorded(config: SearchConfig) -> dict[str, Any]:
    """Return a configuration as the record holds it: without the storage's password."""
    return config.model_copy(update={"storage": shown(resolve_url(config.storage))}).model_dump(mode="json")
