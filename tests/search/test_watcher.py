from search.events import Event
from search.policy.stop_condition import StopCondition
from search.watcher import SilentWatcher, Watcher, WatcherGroup
from tests.search.conftest import watched_plan
from trainables.config import TrialConfig


class LoggingWatcher(SilentWatcher):
    """Logs every call."""

    def __init__(self, name, log):
        self._name, self._log = name, log

    def __enter__(self):
        self._log.append((self._name, "__enter__", ()))
        return self

    def __getattribute__(self, call):
        if call.startswith("_"):
            return super().__getattribute__(call)
        return lambda *arguments: self._log.append((self._name, call, arguments))

    def __exit__(self, *error):
        self._log.append((self._name, "__exit__", ()))


def test_a_group_calls_its_watchers_in_order():
    log = []
    group = WatcherGroup([LoggingWatcher("a", log), LoggingWatcher("b", log)])
    event, plan, stop_condition = Event("began", 0, TrialConfig()), watched_plan(), StopCondition("max", trials=2)
    with group as watcher:
        watcher.preparing(1, 2, "decoding")
        watcher.begin("calm-fig", plan, 1, stop_condition, 0)
        watcher.event(event)
        watcher.say("hello")
        watcher.pausing("interrupted")
        watcher.finishing()
    assert [entry[1:] for entry in log if entry[0] == "a" and entry[1] != "__exit__"] == [
        ("__enter__", ()),
        ("preparing", (1, 2, "decoding")),
        ("begin", ("calm-fig", plan, 1, stop_condition, 0)),
        ("event", (event,)),
        ("say", ("hello",)),
        ("pausing", ("interrupted",)),
        ("finishing", ()),
    ]
    assert [entry[0] for entry in log] == ["a", "b"] * 7 + ["b", "a"]


def test_every_watcher_has_every_call_of_the_protocol():
    calls = {name for name in vars(Watcher) if not name.startswith("_") or name in ("__enter__", "__exit__")}
    for kind in (SilentWatcher, WatcherGroup):
        assert calls <= set(vars(kind))
