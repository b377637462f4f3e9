import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray import exceptions

from search.policy.faults import POISON, TRIES, Fault, Faults, fault_of, summary
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
def test_what_broke(error, kind):
    assert fault_of(error).kind == kind


def test_an_exception_keeps_its_account():
    fault = fault_of(raised(KeyError("bits")))
    assert fault.message == "KeyError: 'bits'"
    assert "Traceback" in fault.traceback


@pytest.mark.parametrize(("kind", "tries"), [(kind, tries) for kind, tries in TRIES.items() if tries])
def test_what_came_so_often_at_one_epoch_is_final(kind, tries):
    faults = Faults()
    fault = Fault(kind, "line 3 of /tmp/x failed")
    assert [faults.may_retry(4, 2, fault) for _ in range(tries)] == [True] * (tries - 1) + [False]
    assert faults.may_retry(4, 3, fault)
    assert faults.may_retry(5, 2, fault)


@given(st.integers(1, 40))
def test_a_node_may_be_lost_for_ever(times):
    faults = Faults()
    assert all(faults.may_retry(0, 0, Fault("lost node", "gone")) for _ in range(times))


def test_the_same_configuration_is_not_tried_a_third_time():
    faults = Faults()
    assert faults.refusal(CONFIG) is None
    faults.failed(CONFIG, Fault("non-finite", "the training loss became nan"))
    assert faults.refusal(CONFIG) is None
    faults.failed(CONFIG | {"seed": 2}, Fault("out of memory", "of 3 GB"))
    assert faults.refusal(CONFIG) is None
    faults.failed(CONFIG | {"seed": 3}, Fault("non-finite", "the training loss became inf"))
    assert faults.refusal(CONFIG) == "this configuration has failed twice the same way (non-finite)"
    assert faults.refusal(CONFIG | {"learning_rate": 0.2}) is None


def test_one_trial_that_failed_twice_is_enough():
    faults = Faults()
    faults.failed(CONFIG, Fault("other", "KeyError: 3"), tries=2)
    assert faults.refusal(CONFIG)


def test_a_search_is_hopeless_when_all_fail_alike():
    faults = Faults()
    for number in range(POISON):
        assert not faults.hopeless()
        faults.failed({"number": number}, Fault("data", f"cannot read /photos/{number}.png, {number} bytes"))
    assert faults.hopeless()
    faults.ended_well()
    assert not faults.hopeless()


def test_failures_of_several_kinds_are_no_poison():
    faults = Faults()
    for number in range(2 * POISON):
        faults.failed({"number": number}, Fault(("data", "non-finite")[number % 2], "no"))
    assert not faults.hopeless()


def test_messages_of_another_kind_are_another_way():
    assert Fault("other", "KeyError: 'a'").way != Fault("other", "ValueError: 'a'").way
    assert Fault("other", "at 0x7f3 in /tmp/a.py, line 12").way == Fault("other", "at 0x8a1 in /tmp/b.py, line 13").way
    assert Fault("lost worker", "process 12").way == Fault("lost worker", "killed").way


def test_the_last_line_of_an_error_is_its_summary():
    assert summary("Traceback\n  File x\nValueError: bad\n\n") == "ValueError: bad"
    assert summary(" \n") == "no reason given"
