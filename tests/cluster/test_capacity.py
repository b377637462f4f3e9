import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.capacity import Capacity, usable_cpus

NODES = st.lists(
    st.builds(lambda cpus, gpus: {"CPU": cpus, "GPU": gpus}, st.integers(0, 64).map(float), st.integers(0, 8).map(float)), max_size=5
)


@given(NODES, st.integers(1, 16), st.sampled_from([0, 0.25, 1 / 3, 0.5, 1, 2]), st.integers(1, 4))
def test_slots_fit_node_by_node(nodes, cpus, gpus, replicas):
    capacity, bundle = Capacity(tuple(nodes)), {"CPU": float(cpus)} | ({"GPU": gpus} if gpus else {})
    slots = capacity.slots(bundle, replicas)
    assert slots * replicas * cpus <= capacity.cpus + 1e-6
    assert slots * replicas * gpus <= capacity.gpus + 1e-6
    single = [Capacity((node,)).slots(bundle) for node in nodes]
    assert slots == sum(single) // replicas, "each bundle is on one node"
    assert bool(capacity.lacking(bundle)) == (not any(single))


def test_a_third_of_a_gpu_fits_three_times():
    assert Capacity(({"CPU": 8.0, "GPU": 1.0},)).slots({"CPU": 1.0, "GPU": 1 / 3}) == 3


@pytest.mark.parametrize(
    ("bundle", "words"),
    [
        ({"CPU": 64.0}, "no node has 64 CPUs (at most 8 on a node)"),
        ({"CPU": 1.0, "GPU": 4.0}, "no node has 4 GPUs (at most 2 on a node)"),
        ({"CPU": 1.0, "accelerator_type:H100": 0.001}, "no node has a GPU of type H100 (at most 0 on a node)"),
        ({"CPU": 1.0, "tape": 1.0}, "no node has 1 of 'tape' (at most 0 on a node)"),
        ({"CPU": 8.0, "GPU": 2.0}, "no node has 8 CPUs and 2 GPUs"),
    ],
)
def test_lacking_names_what_no_node_has(bundle, words):
    capacity = Capacity(({"CPU": 8.0}, {"CPU": 4.0, "GPU": 2.0, "accelerator_type:T4": 1.0}))
    assert capacity.lacking(bundle) == words


def test_usable_cpus_are_at_most_those_of_the_machine():
    assert 1 <= usable_cpus() <= os.cpu_count()
