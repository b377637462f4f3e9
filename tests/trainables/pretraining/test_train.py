"""Pretraining: a tiny real run, stopped and resumed; the weights that it writes, and the weights that are shipped."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torchvision.models import mobilenet_v3_small
from typer import Typer
from typer.testing import CliRunner

from trainables.pretraining.__main__ import SHIPPED_WEIGHTS, pretrain
from trainables.pretraining.images import draw_image, labels_of
from trainables.pretraining.train import CROP_SIDES, MAX_LR, PretrainingRecipe, augment, one_cycle, train


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def images():
    return torch.from_numpy(np.stack([draw_image(0, row % 4, row // 4) for row in range(60)]))


@pytest.fixture(scope="module")
def labels():
    return torch.from_numpy(labels_of(60, 4))


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def assert_loads_into_torchvision(path: Path):
    weights = load_file(path)
    assert {value.dtype for value in weights.values()} == {torch.float16}
    assert all(value.isfinite().all() for value in weights.values())
    missing, unexpected = mobilenet_v3_small(weights=None).load_state_dict(weights, strict=False)
    assert unexpected == []
    assert all(key.endswith("num_batches_tracked") or key.startswith("classifier.") for key in missing)
    body = {key.removeprefix("features."): value for key, value in weights.items()}
    missing, unexpected = mobilenet_v3_small(weights=None).features.load_state_dict(body, strict=False)
    assert unexpected == []
    assert all(key.endswith("num_batches_tracked") for key in missing)


def test_pretrain_writes_a_body_that_torchvision_loads(tmp_path: Path):
    app = Typer()
    app.command()(pretrain)
    to = tmp_path / "weights.safetensors"
    options = ["--seed", "2", "--images", "60", "--classes", "4", "--epochs", "1", "--threads", "1"]
    result = CliRunner().invoke(app, [*options, "--work", str(tmp_path / "work"), "--to", str(to)], catch_exceptions=False)
    assert result.exit_code == 0
    assert "epoch  1" in result.output
    assert_loads_into_torchvision(to)
    facts = metadata_of(to)
    assert 0 <= float(facts.pop("accuracy")) <= 1
    assert facts == {"seed": "2", "images": "60", "classes": "4", "epochs": "1", "epoch": "1", "licence": "Apache-2.0"}
    assert not list(tmp_path.rglob("*.partial*"))


def test_a_resumed_run_gives_the_same_bits(tmp_path: Path, images, labels):
    recipe = PretrainingRecipe(seed=1, images=60, classes=4, epochs=2)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    whole.mkdir()
    stopped.mkdir()
    uninterrupted = list(train(images, labels, recipe, whole))
    first = list(islice(train(images, labels, recipe, stopped), 1))
    rest = list(train(images, labels, recipe, stopped))
    assert [report.epoch for report in rest] == [2]
    assert first + rest == uninterrupted
    for name in ("epoch_01.safetensors", "epoch_02.safetensors"):
        one, other = load_file(whole / name), load_file(stopped / name)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)
        assert metadata_of(whole / name) == metadata_of(stopped / name)
    assert list(train(images, labels, recipe, stopped)) == []


def test_train_rejects_a_checkpoint_of_another_recipe(tmp_path: Path, images, labels):
    list(train(images, labels, PretrainingRecipe(seed=1, images=60, classes=4, epochs=1), tmp_path))
    with pytest.raises(ValueError, match=r"checkpoint\.pt must belong to .*'seed': 9.* but belongs to .*'seed': 1"):
        next(train(images, labels, PretrainingRecipe(seed=9, images=60, classes=4, epochs=1), tmp_path))


def test_training_learns_to_distinguish_the_families(tmp_path: Path):
    images = torch.from_numpy(np.stack([draw_image(0, row % 3, row // 3) for row in range(360)]))
    labels = torch.from_numpy(labels_of(360, 3))
    reports = list(train(images, labels, PretrainingRecipe(seed=0, images=360, classes=3, epochs=12), tmp_path))
    assert reports[-1].loss < reports[0].loss - 0.2
    assert reports[-1].accuracy > 0.6


def test_augment_gives_channels_last_crops_drawn_from_the_generator(images):
    rows = torch.arange(8)
    sides = set()
    for seed in range(30):
        batch = augment(images, rows, torch.Generator().manual_seed(seed))
        assert batch.is_contiguous(memory_format=torch.channels_last)
        assert batch.shape == (8, 3, batch.shape[2], batch.shape[2])
        sides.add(batch.shape[2])
        assert torch.equal(batch, augment(images, rows, torch.Generator().manual_seed(seed)))
    assert sides == set(CROP_SIDES)


def test_learning_rate_rises_to_its_peak_and_falls_to_zero():
    rates = [one_cycle(step / 100) for step in range(101)]
    peak = rates.index(max(rates))
    assert rates[0] == pytest.approx(MAX_LR / 25)
    assert rates[peak] == pytest.approx(MAX_LR)
    assert rates[-1] == pytest.approx(0, abs=1e-9)
    assert rates == sorted(rates[:peak]) + sorted(rates[peak:], reverse=True)


def test_shipped_weights_are_complete_and_name_their_origin():
    assert_loads_into_torchvision(SHIPPED_WEIGHTS)
    assert SHIPPED_WEIGHTS.stat().st_size < 2.5e6
    facts = metadata_of(SHIPPED_WEIGHTS)
    assert {key: facts[key] for key in ("seed", "images", "classes", "epochs", "epoch", "licence")} == {
        "seed": "0",
        "images": "60000",
        "classes": "400",
        "epochs": "18",
        "epoch": "18",
        "licence": "Apache-2.0",
    }
    assert float(facts["accuracy"]) > 0.4
