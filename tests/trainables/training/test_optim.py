import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainables.config import OptimizerName, ScheduleName
from trainables.training.optim import OPTIMIZERS, SCHEDULES, WARMS_UP, learning_rate_factor

STEPS = 1000


def factors(schedule, warmup=0.0, steps=STEPS):
    return [learning_rate_factor(schedule, warmup, step, steps) for step in range(steps)]


def test_the_tables_hold_what_the_configuration_names():
    assert set(SCHEDULES) == set(ScheduleName.__args__)
    assert set(OPTIMIZERS) == set(OptimizerName.__args__)


@pytest.mark.parametrize(
    ("schedule", "start", "middle", "end"),
    [("cosine", 1, 0.5, 0), ("one_cycle", 1 / 25, None, 1 / 250_000), ("step", 1, 0.1, 0.01), ("constant", 1, 1, 1)],
)
def test_start_middle_and_end(schedule, start, middle, end):
    found = factors(schedule)
    assert found[0] == pytest.approx(start)
    assert middle is None or found[STEPS // 2] == pytest.approx(middle)
    assert found[-1] == pytest.approx(end, abs=1e-4)
    assert SCHEDULES[schedule](1.0) == pytest.approx(end, abs=1e-9)


def test_step_falls_at_one_half_and_three_quarters():
    found = factors("step")
    assert found[499:501] == pytest.approx([1, 0.1])
    assert found[749:751] == pytest.approx([0.1, 0.01])


def test_cosine_is_torchs():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    torchs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for step in range(STEPS):
        assert learning_rate_factor("cosine", 0.0, step, STEPS) == pytest.approx(torchs.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        torchs.step()


def test_one_cycle_is_torchs():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    torchs = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=STEPS, cycle_momentum=False)
    found = factors("one_cycle")
    assert found.index(max(found)) == 300
    assert max(found) == pytest.approx(1)
    for step in range(STEPS):  # torch counts to the last step, so its peak is one step earlier
        assert found[step] == pytest.approx(torchs.get_last_lr()[0], abs=0.006)
        optimizer.step()
        torchs.step()


@given(st.sampled_from(sorted(SCHEDULES)), st.floats(0, 1), st.integers(1, 400))
def test_factors_rise_over_the_warm_up_then_never_again_and_stay_within_one(schedule, warmup, steps):
    found = factors(schedule, warmup, steps)
    assert all(0 < factor <= 1 for factor in found)
    warm = math.ceil(0.3 * steps) if schedule in WARMS_UP else round(warmup * steps)
    assert all(a < b for a, b in pairwise(found[:warm]))
    assert all(a >= b for a, b in pairwise(found[warm:]))
    if schedule not in WARMS_UP and warm < steps:
        assert found[warm] == 1


@pytest.mark.parametrize("schedule", sorted(set(SCHEDULES) - WARMS_UP))
def test_the_warm_up_is_linear_from_near_0_to_1(schedule):
    found = factors(schedule, 0.1)
    assert [b - a for a, b in pairwise(found[:101])] == pytest.approx([1 / 101] * 100)
    assert found[0] == pytest.approx(1 / 101)


def test_one_cycle_takes_no_warm_up_besides():
    assert factors("one_cycle", 0.5) == factors("one_cycle")


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_descends_and_knows_its_groups(name, momentum):
    torch.manual_seed(0)
    weight, bias = torch.nn.Parameter(torch.randn(3, 3)), torch.nn.Parameter(torch.randn(3))
    groups = [{"params": [weight], "lr": 0.02, "weight_decay": 0.1}, {"params": [bias], "lr": 0.01, "weight_decay": 0.0}]
    optimizer = OPTIMIZERS[name](groups, momentum)
    before = weight.detach().clone(), bias.detach().clone()
    losses = []
    for _ in range(20):
        loss = weight.pow(2).sum() + bias.pow(2).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all((a != b).all() for a, b in zip(before, (weight, bias), strict=True))
    assert [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [(0.02, 0.1), (0.01, 0.0)]
    if name == "sgd":
        assert all(group["nesterov"] == (momentum > 0) for group in optimizer.param_groups)
    if name != "adamw":
        assert all(group["momentum"] == momentum for group in optimizer.param_groups)
