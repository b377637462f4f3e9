import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.capacity import Capacity
from search.config import read_config
from search.nodes.resources import TrialResources, fit
from trainables.errors import ConfigError, ResourceError

GPU_NODE = {"CPU": 16.0, "GPU": 4.0, "accelerator_type:A100": 1.0}
CPU_NODE = {"CPU": 8.0}
MIXED = Capacity((GPU_NODE, GPU_NODE, CPU_NODE))


def shared(capacity, *settings, **options):
    return fit(capacity, read_config(None, options, settings))


@pytest.mark.parametrize(
    ("settings", "bundle", "replicas", "slots"),
    [
        ((), {"CPU": 4, "GPU": 1}, 1, 8),
        (("resources.gpus_per_trial=0.5",), {"CPU": 2, "GPU": 0.5}, 1, 16),
        (("resources.gpus_per_trial=2",), {"CPU": 4, "GPU": 1}, 2, 4),
        (("resources.gpus_per_trial=8",), {"CPU": 4, "GPU": 1}, 8, 1),
        (("resources.gpus_per_trial=0",), {"CPU": 1}, 1, 40),
        (("resources.gpus_per_trial=0", "resources.cpus_per_trial=8"), {"CPU": 8}, 1, 5),
        (("resources.accelerator_type=A100",), {"CPU": 4, "GPU": 1, "accelerator_type:A100": 0.001}, 1, 8),
        (("resources.max_concurrent_trials=3",), {"CPU": 4, "GPU": 1}, 1, 3),
        (("resources_per_trial={cpu: 2, gpu: 0.25}",), {"CPU": 2, "GPU": 0.25}, 1, 16),
    ],
)
def test_what_a_trial_gets(settings, bundle, replicas, slots):
    resources = shared(MIXED, *settings)
    assert (dict(resources.bundle), resources.replicas, resources.slots) == (bundle, replicas, slots)
    assert resources.gpus == bundle.get("GPU", 0) * replicas


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("resources.cpus_per_trial=64",), r"a trial needs 64 processors and 1 GPUs.*no node has 64 processors \(at most 16 on a node\)"),
        (("resources.gpus_per_trial=16",), "it is 16 bundles, and there is room for 8"),
        (("resources.accelerator_type=H100",), "no node has a GPU of type H100"),
        (("resources.custom={tape: 2}",), "no node has 2 of 'tape'"),
        (("resources.cpus_per_trial=12", "resources.gpus_per_trial=5"), "it is 5 bundles, and there is room for 2"),
    ],
)
def test_what_no_node_has_is_refused_at_once(settings, words):
    with pytest.raises(ResourceError, match=words):
        shared(MIXED, *settings)
    grows = shared(MIXED, *settings, "resources.may_grow=true")
    assert grows.slots == 1


def test_where_nodes_come_on_demand_one_trial_more_than_fits_waits_for_them():
    assert shared(MIXED, "resources.may_grow=true").slots == 9
    assert shared(MIXED, "resources.may_grow=true", "resources.max_concurrent_trials=4").slots == 4
    assert shared(Capacity((CPU_NODE,)), "resources.may_grow=true", "resources.gpus_per_trial=1").slots == 1


def test_gpu_hours_without_gpus():
    with pytest.raises(ConfigError, match="a budget of GPUs, but trials here have none"):
        shared(Capacity((CPU_NODE,)), gpu_hours=1)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("resources.gpus_per_trial=1.5", "a share up to 1 or a whole number but got 1.5"),
        ("resources.custom={tape: 0}", "resources.custom.tape: must be greater than or equal to 0.0001"),
        ("resources_per_trial={gpus: 2}", "unknown key 'resources_per_trial.gpus'; did you mean 'gpu'"),
        ("resources_per_trial=2", "resources_per_trial takes cpu, gpu, accelerator_type, custom but got 2"),
    ],
)
def test_shares_that_are_none(setting, words):
    with pytest.raises(ConfigError, match=words):
        read_config(None, {}, (setting,))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.integers(1, 3))
def test_as_many_run_as_the_nodes_of_the_moment_hold(gpus, most):
    resources = TrialResources({"CPU": 1.0, "GPU": 1.0}, most=most)
    capacity = Capacity(tuple({"CPU": 8.0, "GPU": float(count)} for count in gpus))
    assert resources.fits(capacity) == max(1, min(sum(gpus), most))


def test_bundles_are_what_tune_asks_for():
    request = shared(MIXED, "resources.gpus_per_trial=2").request()
    assert request.bundles == [{"CPU": 4.0, "GPU": 1.0}] * 2
