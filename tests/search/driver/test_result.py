from pathlib import Path

import pytest
from safetensors import safe_open

from search.config_reader import read_config
from search.driver.launch import launch
from trainables.config import Recipe, TrialConfig, read_yaml, validate
from trainables.data.dataset import open_dataset
from trainables.worker.simulated_trial import SimulatedTrial


def test_best_yaml_holds_the_winner(finished):
    recipe = validate(Recipe, read_yaml(finished.folder / "best.yaml"))
    best = finished.best
    assert (recipe.study, recipe.trial_number, recipe.metric, recipe.value) == ("calm-fig", best.number, "loss", best.value)
    assert recipe.trial == TrialConfig.model_validate(best.config)
    assert (recipe.fingerprint, recipe.threads) == (finished.dataset["fingerprint"], 1)


def test_best_weights_have_metadata_and_torchvision_names(finished):
    with safe_open(finished.folder / "best.safetensors", "pt") as file:
        metadata = file.metadata()
        names = list(file.keys())
    assert metadata["backbone"] == "mobilenet_v3_small"
    assert metadata["task"] == "multiclass"
    assert metadata["fingerprint"] == finished.dataset["fingerprint"]
    assert any(name.startswith("features.0.") for name in names)
    assert any(name.startswith("head.") for name in names)


def test_the_test_split_is_evaluated_for_winner_and_default_recipe(finished):
    assert set(finished.test) == {"winner", "default_recipe"}
    assert finished.test["winner"]["trial"] == finished.best.number
    assert finished.test["default_recipe"]["trial"] == 0
    for role, trial in (("winner", finished.best), ("default_recipe", finished.trials[0])):
        assert finished.test[role]["validation"]["loss"] == pytest.approx(trial.value, rel=1e-5)
    assert finished.test["winner"]["preprocessing"]["center_crop"] == 32


def test_plain_torchvision_reproduces_the_recorded_test_loss(finished):
    """The saved weights, in a plain torchvision model, give the recorded test loss."""
    import torch
    from safetensors.torch import load_file
    from torchvision.models import mobilenet_v3_small

    config, state = finished.best.config, load_file(finished.folder / "best.safetensors")
    layers, activation = (
        config["head_layers"],
        {"relu": torch.relu, "gelu": torch.nn.functional.gelu, "tanh": torch.tanh}[config["activation"]],
    )
    data = open_dataset(finished.dataset["fingerprint"], 32, "crop")
    preprocessing = finished.test["winner"]["preprocessing"]
    body = mobilenet_v3_small()
    body.load_state_dict({name: value for name, value in state.items() if not name.startswith("head.")}, strict=False)
    weights = [state[name] for name in sorted(name for name in state if name.startswith("head.") and name.endswith("weight"))]
    biases = [state[name] for name in sorted(name for name in state if name.startswith("head.") and name.endswith("bias"))]
    assert len(weights) == layers + 1
    rows = data.rows["test"]
    edge = (data.images.shape[1] - preprocessing["center_crop"]) // 2
    pixels = torch.from_numpy(data.images[rows][:, edge : edge + 32, edge : edge + 32].copy()).permute(0, 3, 1, 2) / 255
    inputs = (pixels - torch.tensor(preprocessing["mean"]).view(3, 1, 1)) / torch.tensor(preprocessing["std"]).view(3, 1, 1)
    with torch.no_grad():
        outputs = body.eval().features(inputs).mean((2, 3))
        for index, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            outputs = torch.nn.functional.linear(outputs, weight, bias)
            outputs = activation(outputs) if index < layers else outputs
    targets = torch.from_numpy(data.targets[rows].copy())
    loss = torch.nn.functional.cross_entropy(outputs, targets).item()
    assert loss == pytest.approx(finished.test["winner"]["test"]["loss"], rel=1e-4)


def count_evaluation(assignment, weights=None):
    with (Path(assignment["folder"]).parent / "evaluations").open("a") as file:
        file.write(f"{assignment['number']} {weights is not None}\n")
    return SimulatedTrial.evaluate_finished(assignment, weights)


def test_a_winner_that_is_the_default_recipe_is_evaluated_once(ray_session, tmp_path):
    counting = type(
        "SimulatedTrial",
        (SimulatedTrial,),
        {"evaluate_finished": staticmethod(count_evaluation), "__module__": SimulatedTrial.__module__},
    )
    options = {"storage": f"sqlite:///{tmp_path}/studies.db", "output": str(tmp_path / "out"), "weights": "none", "trials": 1}
    record = launch(read_config("builtin:digits", options, ("space.epochs=2",)), trainable=counting)
    (evaluations,) = tmp_path.rglob("evaluations")
    assert evaluations.read_text() == "0 True\n"
    assert record.test["winner"] == record.test["default_recipe"]
    assert (record.folder / "best.safetensors").exists()
