import numpy as np
import pytest

from search.config_reader import read_config
from search.driver.launch import connect
from search.nodes.provision import MANIFEST, PACK, fill_cache, prepare_nodes
from search.nodes.resources import fit_to_cluster
from search.plan import make_plan
from search.watcher import SilentWatcher
from tests.search.conftest import FASTEST, folders
from trainables.data.dataset import open_dataset
from trainables.data.manifest import read_manifest, write_manifest
from trainables.errors import DataError

SIZES = (32, 48)


@pytest.fixture
def planned(tmp_path):
    """Return a function that plans a search over new images: `planned("image_size=[32, 48]")`."""
    source = folders(tmp_path / "photos", each=8)
    return lambda *settings: make_plan(read_config(source, {"weights": "none"}, (FASTEST, *settings)))


def test_a_node_decodes_the_images_for_each_size(planned, tmp_path, monkeypatch):
    dataset = planned("image_size=32").dataset
    manifest = f"{tmp_path}/data.json.gz"
    write_manifest(dataset, manifest)
    monkeypatch.setenv("INJERTO_CACHE", str(tmp_path / "node"))
    assert fill_cache(manifest, SIZES, "crop", False) == 24
    for size in SIZES:
        found = open_dataset(dataset.fingerprint, size, "crop")
        assert (found.image_size, found.images.shape[0]) == (size, 24)
        assert found.images.shape[1] >= size
        assert found.names == dataset.names
        assert all(np.array_equal(found.rows[part], dataset.rows[part]) for part in dataset.rows)
    with pytest.raises(DataError):
        open_dataset(dataset.fingerprint, 64, "crop")


@pytest.mark.parametrize(("image_size", "sizes", "packed"), [("32", (32,), True), ("[48, 32]", SIZES, False)])
def test_decoded_images_are_sent_for_one_size_only(image_size, sizes, packed, planned, ray_session, tmp_path):
    """A pack has the images at one size. For several sizes each node decodes the files, which it must read anyway."""
    plan = planned(f"image_size={image_size}")
    assert (plan.image_sizes, plan.dataset.image_size) == (sizes, 32)
    root = tmp_path / "root"
    root.mkdir()
    with connect(None) as capacity:
        prepared = prepare_nodes(plan, fit_to_cluster(capacity, plan.config), str(root), SilentWatcher())
    assert prepared.manifest == str(root / MANIFEST)
    assert (read_manifest(prepared.manifest).pack is not None) == packed == (root / PACK).exists()
    for size in sizes:
        assert len(open_dataset(plan.dataset.fingerprint, size, "crop").images) == 24
