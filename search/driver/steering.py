"""The commands that a running search accepts from the command line and the dashboard, as one table."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from search.config import SearchConfig
from search.record import lease
from search.record.record_writer import TRANSIENT_ERRORS
from search.record.store import resolve_url, without_password
from trainables.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from search.driver.bridge import Bridge
    from search.driver.search_run import SearchRun
    from search.policy.stop_condition import StopCondition

IS_ENDING = "the search is ending: the test split is being evaluated"
MAX_ADDED_TRIALS, MAX_ADDED_SECONDS = 100_000, 365 * 86400.0
MAX_TEXT = 300
"""Characters of a command's text that are used in an answer: any program can write commands, of any length."""
END_REASON = "ends"
"""The study attribute that says why a search that still runs is about to end or to pause."""
Command = Mapping[str, Any]
"""A command as the record holds it: `do` (a name in `COMMANDS`), `by` (who sent it), `at` (when), and the command's own arguments."""


class Steering:
    """Does the commands that the command line and the dashboard have appended to the study, and answers each of them.

    `config` is the configuration with the present budget. `bridge` is None until the trials start.
    """

    def __init__(self, run: "SearchRun", stop_condition: "StopCondition") -> None:
        self.run, self.stop_condition = run, stop_condition
        self.config = run.plan.config
        self.bridge: Bridge | None = None
        self._recorded_reason: str | None = None
        self._answers: dict[str, str] = {}

    def handle_commands(self) -> None:
        """Do the commands that have no answer yet, record the answers and pass them to the watcher.

        If the reason why the search is about to end has changed, record it in the attribute `END_REASON`.
        """
        study = self.run.study
        for key, command in lease.pending_commands(study).items():
            if key not in self._answers:  # if a database error kept the answer from being recorded, the command is not done twice
                self._answers[key] = self._do(command) if isinstance(command, Mapping) else "refused: this is no command"
                sender = command.get("by", "somebody") if isinstance(command, Mapping) else "somebody"
                self.run.watcher.say(f"{sender}: {self._answers[key]}")
            lease.answer_command(study, key, self._answers[key])
        if (reason := self.stop_condition.reason() or "") != self._recorded_reason:
            study.set_user_attr(END_REASON, reason)
            self._recorded_reason = reason

    def enlarge_budget(self, trials: int, seconds: float) -> None:
        """Add trials and seconds to the budget, in the record and in the stop condition."""
        larger = with_larger_budget(self.config, trials, seconds, self.stop_condition.elapsed())
        self.run.study.set_user_attr("config", config_to_record(larger))
        self.config = larger
        self.stop_condition.trials, self.stop_condition.seconds = self.config.budget.trials, self.config.budget.time

    def _do(self, command: Command) -> str:
        """Do a command and return the answer for its sender. Raises only `TRANSIENT_ERRORS`, after which the record writer tries again."""
        if self.stop_condition.over:
            return IS_ENDING
        name = str(command.get("do"))[:MAX_TEXT]
        if name not in COMMANDS:
            return f"unknown command {name!r}{did_you_mean(name, COMMANDS)}"
        try:
            return COMMANDS[name](self, command)
        except TRANSIENT_ERRORS:
            raise
        except Exception as error:
            return f"refused: {str(error)[:MAX_TEXT]}"


def _pause(steering: Steering, command: Command) -> str:
    steering.stop_condition.interrupt(f"paused by {command['by']}")
    return "the search pauses: running trials pause at their next epoch"


def _finish(steering: Steering, command: Command) -> str:
    steering.stop_condition.finish(f"ended early by {command['by']}")
    return "the search ends: running trials stop at their next epoch, then the test split is evaluated"


def _stop_trial(steering: Steering, command: Command) -> str:
    number = int(command["trial"])
    if steering.bridge is None or not steering.bridge.stop_trial(number, f"stopped by {command['by']}"):
        return f"refused: trial {number} is not running"
    return f"trial {number} stops at its next epoch"


def _add(steering: Steering, command: Command) -> str:
    trials, seconds = int(command.get("trials", 0)), float(command.get("seconds", 0))
    if not (0 <= trials <= MAX_ADDED_TRIALS and 0 <= seconds <= MAX_ADDED_SECONDS and trials + seconds > 0):
        raise ConfigError(f"trials and seconds must be added in positive numbers, at most {MAX_ADDED_TRIALS:,} trials and a year")
    if seconds and steering.config.budget.time is None:
        raise ConfigError("the search has no time limit to add to")
    steering.enlarge_budget(trials, seconds)
    budget = steering.config.budget
    time = "" if budget.time is None else f" and {budget.time:.0f} s"
    return f"the budget is {budget.trials} trials{time} now"


def _enqueue(steering: Steering, command: Command) -> str:
    params = steering.run.plan.space.check_params(command["params"])
    steering.enlarge_budget(1, 0.0)
    steering.run.study.enqueue_trial(params, user_attrs={"enqueued_by": str(command["by"])[:MAX_TEXT]})
    return "the configuration runs as the next trial, and the budget is one trial larger"


COMMANDS: Mapping[str, Callable[[Steering, Command], str]] = {
    "pause": _pause,
    "finish": _finish,
    "stop trial": _stop_trial,
    "add": _add,
    "enqueue": _enqueue,
}
"""Name of a command → the function that does it and returns the answer."""


def with_larger_budget(config: SearchConfig, trials: int, seconds: float, used_seconds: float) -> SearchConfig:
    """Return a configuration whose budget has `trials` more trials and `seconds` more time.

    The time is added to the time limit, or to `used_seconds` if these are more or there is no limit. With 0 seconds the limit stays as it
    is.
    """
    budget = config.budget
    time = max(budget.time, used_seconds) if budget.time is not None else used_seconds
    update = {"trials": budget.trials + trials, "time": time + seconds if seconds else budget.time}
    return config.model_copy(update={"budget": budget.model_copy(update=update)})


def config_to_record(config: SearchConfig) -> dict[str, Any]:
    """Return a configuration as JSON values for the record, with its storage URL resolved and without the URL's password."""
    return config.model_copy(update={"storage": without_password(resolve_url(config.storage))}).model_dump(mode="json")
