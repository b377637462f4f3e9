import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray import exceptions

from search.policy.faults import HOPELESS_AFTER, MAX_TRIES, Fault, Faults, classify_error, last_line
from trainables.worker.node_draining import NodeDraining
from trainables.worker.replicas import ReplicaError

CONFIG = {"learning_rate": 0.1, "seed": 1}
DIED = exceptions.RayActorError(error_msg="The actor died unexpectedly before finishing this task. Worker unexpectedly exits with SIGKILL")


def raised(error):
    return exceptions.RayTaskError("step", f"Traceback\n{type(error).__name__}: {error}", error)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DIED, "lost worker"),
        (exceptions.ActorUnavailableError("The actor is temporarily unavailable", None), "lost node"),
        (exceptions.RayActorError(error_msg="The actor died because its node has died. Node Id: 12"), "lost node"),
        (exceptions.NodeDiedError("Task failed: node 12 died"), "lost node"),
        (exceptions.OutOfMemoryError("Task was killed due to the node running low on memory."), "out of memory"),
        (exceptions.RayActorError(error_msg="OutOfMemoryError: Task was killed due to the node running low on memory."), "out of memory"),
        (raised(ValueError("our node has died, out of memory")), "other"),
        (RuntimeError("something of Ray's own"), "other"),
        (raised(NodeDraining("its node is being drained")), "lost node"),
        (raised(ReplicaError("replica 1 of 2 died: The actor died unexpectedly")), "lost worker"),
        (raised(ReplicaError("replica 1 of 2 died: The actor died because its node has died")), "lost node"),
    ],
)
def test_errors_are_classified(error, kind):
    assert classify_error(error).kind == kind


def test_a_fault_keeps_the_exception_and_its_traceback():
    fault = classify_error(raised(KeyError("bits")))
    assert fault.message == "KeyError: 'bits'"
    assert "Traceback" in fault.traceback


@pytest.mark.parametrize(("kind", "tries"), [(kind, tries) for kind, tries in MAX_TRIES.items() if tries])
def test_tries_at_one_epoch_are_limited(kind, tries):
    faults = Faults()
    fault = Fault(kind, "line 3 of /tmp/x failed")
    assert [faults.may_retry(4, 2, fault) for _ in range(tries)] == [True] * (tries - 1) + [False]
    assert faults.may_retry(4, 3, fault)
    assert faults.may_retry(5, 2, fault)


@given(st.integers(1, 40))
def test_a_lost_node_is_retried_without_limit(times):
    faults = Faults()
    assert all(faults.may_retry(0, 0, Fault("lost node", "gone")) for _ in range(times))


def test_a_configuration_that_failed_twice_alike_is_refused():
    faults = Faults()
    assert faults.refusal(CONFIG) is None
    faults.failed(CONFIG, Fault("non-finite", "the training loss became nan"))
    assert faults.refusal(CONFIG) is None
    faults.failed(CONFIG | {"seed": 2}, Fault("out of memory", "of 3 GB"))
    assert faults.refusal(CONFIG) is None
    faults.failed(CONFIG | {"seed": 3}, Fault("non-finite", "the training loss became inf"))
    assert faults.refusal(CONFIG) == "this configuration has failed twice the same way (non-finite)"
    assert faults.refusal(CONFIG | {"learning_rate": 0.2}) is None


def test_a_configuration_whose_trial_failed_in_two_tries_is_refused():
    faults = Faults()
    faults.failed(CONFIG, Fault("other", "KeyError: 3"), tries=2)
    assert faults.refusal(CONFIG)


def test_a_search_is_hopeless_when_all_trials_fail_alike():
    faults = Faults()
    for number in range(HOPELESS_AFTER):
        assert not faults.hopeless()
        faults.failed({"number": number}, Fault("data", f"cannot read /photos/{number}.png, {number} bytes"))
    assert faults.hopeless()
    faults.succeeded()
    assert not faults.hopeless()


def test_a_search_with_failures_of_several_kinds_is_not_hopeless():
    faults = Faults()
    for number in range(2 * HOPELESS_AFTER):
        faults.failed({"number": number}, Fault(("data", "non-finite")[number % 2], "no"))
    assert not faults.hopeless()


def test_a_signature_masks_numbers_and_paths_of_a_message():
    assert Fault("other", "KeyError: 'a'").signature != Fault("other", "ValueError: 'a'").signature
    assert Fault("other", "at 0x7f3 in /tmp/a.py, line 12").signature == Fault("other", "at 0x8a1 in /tmp/b.py, line 13").signature
    assert Fault("lost worker", "process 12").signature == Fault("lost worker", "killed").signature


def test_last_line_skips_blank_lines():
    assert last_line("Traceback\n  File x\nValueError: bad\n\n") == "ValueError: bad"
    assert last_line(" \n") == "no reason given"
