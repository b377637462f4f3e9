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
    return [learning_rate_factor(schedule, warmup, step, steps=steps) for step in range(steps)]


def test_the_tables_have_the_names_of_the_configuration():
    assert set(SCHEDULES) == set(ScheduleName.__args__)
    assert set(OPTIMIZERS) == set(OptimizerName.__args__)


@pytest.mark.parametrize(
    ("schedule", "start", "middle", "end"),
    [("cosine", 1, 0.5, 0), ("one_cycle", 1 / 25, None, 1 / 250_000), ("step", 1, 0.1, 0.01), ("constant", 1, 1, 1)],
)
def test_schedules_have_the_documented_start_middle_and_end(schedule, start, middle, end):
    values = factors(schedule)
    assert values[0] == pytest.approx(start)
    assert middle is None or values[STEPS // 2] == pytest.approx(middle)
    assert values[-1] == pytest.approx(end, abs=1e-4)
    assert SCHEDULES[schedule](1.0) == pytest.approx(end, abs=1e-9)


def test_step_schedule_falls_at_one_half_and_three_quarters():
    values = factors("step")
    assert values[499:501] == pytest.approx([1, 0.1])
    assert values[749:751] == pytest.approx([0.1, 0.01])


def test_cosine_equals_torch():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for step in range(STEPS):
        assert learning_rate_factor("cosine", 0.0, step, steps=STEPS) == pytest.approx(scheduler.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        scheduler.step()


def test_one_cycle_equals_torch():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=STEPS, cycle_momentum=False)
    values = factors("one_cycle")
    assert values.index(max(values)) == 300
    assert max(values) == pytest.approx(1)
    for step in range(STEPS):  # torch counts to the last step, so its peak is one step earlier
        assert values[step] == pytest.approx(scheduler.get_last_lr()[0], abs=0.006)
        optimizer.step()
        scheduler.step()


@given(st.sampled_from(sorted(SCHEDULES)), st.floats(0, 1), st.integers(1, 400))
def test_factors_rise_only_during_the_warm_up_and_stay_in_0_to_1(schedule, warmup, steps):
    values = factors(schedule, warmup, steps)
    assert all(0 < factor <= 1 for factor in values)
    warm = math.ceil(0.3 * steps) if schedule in WARMS_UP else round(warmup * steps)
    assert all(a < b for a, b in pairwise(values[:warm]))
    assert all(a >= b for a, b in pairwise(values[warm:]))
    if schedule not in WARMS_UP and warm < steps:
        assert values[warm] == 1


@pytest.mark.parametrize("schedule", sorted(set(SCHEDULES) - WARMS_UP))
def test_the_warm_up_is_linear(schedule):
    values = factors(schedule, 0.1)
    assert [b - a for a, b in pairwise(values[:101])] == pytest.approx([1 / 101] * 100)
    assert values[0] == pytest.approx(1 / 101)


@given(st.sampled_from(sorted(SCHEDULES)), st.floats(0.01, 0.5), st.integers(1, 300))
def test_the_rate_of_a_later_parameter_rises_from_its_first_step_and_then_follows_the_schedule(schedule, warmup, first):
    warm = round(warmup * STEPS)
    later = [learning_rate_factor(schedule, warmup, step, first, steps=STEPS) for step in range(STEPS)]
    others = factors(schedule, warmup)
    assert later[:first] == [0] * first
    assert later[first] <= 1 / (warm + 1) * (1 + 1e-9), "it begins at the peak rate"
    assert later[max(first, 0) + warm :] == pytest.approx(others[first + warm :])


def test_the_warm_up_does_not_apply_to_one_cycle():
    assert factors("one_cycle", 0.5) == factors("one_cycle")


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_descends_with_the_settings_of_its_groups(name, momentum):
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
