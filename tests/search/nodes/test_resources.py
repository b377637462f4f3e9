import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.capacity import Capacity
from search.config_reader import read_config
from search.nodes.resources import TrialResources, fit_to_cluster
from trainables.errors import ConfigError, ResourceError

GPU_NODE = {"CPU": 16.0, "GPU": 4.0, "accelerator_type:A100": 1.0}
CPU_NODE = {"CPU": 8.0}
MIXED = Capacity((GPU_NODE, GPU_NODE, CPU_NODE))


def resources_of(capacity, *settings, **options):
    return fit_to_cluster(capacity, read_config(None, options, settings))


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
def test_bundles_replicas_and_slots_of_a_configuration(settings, bundle, replicas, slots):
    resources = resources_of(MIXED, *settings)
    assert (dict(resources.bundle), resources.replicas, resources.slots) == (bundle, replicas, slots)
    assert resources.gpus == bundle.get("GPU", 0) * replicas


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("resources.cpus_per_trial=64",), r"a trial needs 64 CPUs and 1 GPUs.*no node has 64 CPUs \(at most 16 on a node\)"),
        (("resources.gpus_per_trial=16",), "it takes 16 bundles, but there is room for 8"),
        (("resources.accelerator_type=H100",), "no node has a GPU of type H100"),
        (("resources.custom={tape: 2}",), "no node has 2 of 'tape'"),
        (("resources.cpus_per_trial=12", "resources.gpus_per_trial=5"), "it takes 5 bundles, but there is room for 2"),
    ],
)
def test_a_trial_that_fits_no_node_is_an_error_unless_the_cluster_may_grow(settings, message):
    with pytest.raises(ResourceError, match=message):
        resources_of(MIXED, *settings)
    growing = resources_of(MIXED, *settings, "resources.may_grow=true")
    assert growing.slots == 1


def test_one_more_trial_than_fits_is_requested_if_the_cluster_may_grow():
    assert resources_of(MIXED, "resources.may_grow=true").slots == 9
    assert resources_of(MIXED, "resources.may_grow=true", "resources.max_concurrent_trials=4").slots == 4
    assert resources_of(Capacity((CPU_NODE,)), "resources.may_grow=true", "resources.gpus_per_trial=1").slots == 1


def test_a_budget_of_gpu_hours_needs_gpus():
    with pytest.raises(ConfigError, match="limits GPU time, but trials here have no GPU"):
        resources_of(Capacity((CPU_NODE,)), gpu_hours=1)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("resources.gpus_per_trial=1.5", "a share up to 1 or a whole number but got 1.5"),
        ("resources.custom={tape: 0}", "resources.custom.tape: must be greater than or equal to 0.0001"),
        ("resources_per_trial={gpus: 2}", "unknown key 'resources_per_trial.gpus'; did you mean 'gpu'"),
        ("resources_per_trial=2", "resources_per_trial takes cpu, gpu, accelerator_type, custom but got 2"),
    ],
)
def test_invalid_resource_settings_are_rejected(setting, message):
    with pytest.raises(ConfigError, match=message):
        read_config(None, {}, (setting,))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.integers(1, 3))
def test_max_trials_follows_the_present_capacity_and_the_limit(gpus, limit):
    resources = TrialResources({"CPU": 1.0, "GPU": 1.0}, max_concurrent=limit)
    capacity = Capacity(tuple({"CPU": 8.0, "GPU": float(count)} for count in gpus))
    assert resources.max_trials(capacity) == max(1, min(sum(gpus), limit))


def test_the_placement_group_has_a_bundle_for_each_replica():
    factory = resources_of(MIXED, "resources.gpus_per_trial=2").placement_group_factory()
    assert factory.bundles == [{"CPU": 4.0, "GPU": 1.0}] * 2
