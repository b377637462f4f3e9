import json

import pytest

from tests.benchmarks.gpu import main

SMALL = {
    "device": "cpu",
    "backbones": "mobilenet_v3_small",
    "small_backbone": "mobilenet_v3_small",
    "image_size": 32,
    "small_size": 32,
    "batch_size": 16,
    "small_batch": 16,
    "images": 96,
    "seconds": 0.2,
}


def test_training_and_batches_are_measured_on_a_cpu_too(tmp_path):
    main(parts="step,input", json_file=tmp_path / "figures.json", **SMALL)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["device"] == "cpu"
    of_network = figures["step"]["mobilenet_v3_small"]
    assert of_network["bare"] > 0
    assert 0 < of_network["epoch_to_bare"] <= of_network["training_to_bare"]
    assert len(figures["input"]["images_per_second"]) == 2
    assert figures["input"]["ratio"] > 0


@pytest.mark.slow
def test_several_trials_at_once_are_measured_on_a_cpu_too(tmp_path):
    main(parts="packing", processes="1,2", json_file=tmp_path / "figures.json", **SMALL)
    packing = json.loads((tmp_path / "figures.json").read_text())["packing"]
    assert packing["ratio"]["1"] == 1
    assert packing["images_per_second"].keys() == {"1", "2"}
    assert all(value > 0 for value in packing["images_per_second"].values())
