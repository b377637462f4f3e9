import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from tests.paths import REPOSITORY
from trainables.errors import StorageError
from trainables.training.checkpoint import FORMAT, export_weights, load_state, save_state


class OpensFile:
    """An object whose pickle creates a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_state_round_trips(tmp_path):
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(3))], lr=0.1)
    optimizer.param_groups[0]["params"][0].grad = torch.ones(3)
    optimizer.step()
    images = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    state = {"epoch": 3, "network": {"a": images}, "best": None, "optimizer": optimizer.state_dict(), "history": {"loss": [0.1, 1 / 3]}}
    path = tmp_path / "deep" / "er" / "last.pt"
    save_state(path, state)
    loaded = load_state(path)
    assert loaded.keys() == {*state, "format"}
    assert torch.equal(loaded["network"]["a"], images)
    assert loaded["history"] == state["history"]
    assert torch.equal(loaded["optimizer"]["state"][0]["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"])
    assert [file.name for file in path.parent.iterdir()] == ["last.pt"]


def test_a_missing_file_loads_as_none(tmp_path):
    assert load_state(tmp_path / "last.pt") is None


def test_a_checkpoint_with_code_is_rejected_and_not_run(tmp_path):
    torch.save({"format": FORMAT, "network": OpensFile(tmp_path / "proof")}, tmp_path / "last.pt")
    with pytest.raises(StorageError, match="not a readable checkpoint"):
        load_state(tmp_path / "last.pt")
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize(("content", "version"), [({"format": FORMAT + 1}, FORMAT + 1), ({"epoch": 1}, None), ([1, 2], None)])
def test_another_format_is_rejected(tmp_path, content, version):
    torch.save(content, tmp_path / "last.pt")
    with pytest.raises(StorageError, match=f"of format {version}; this version reads {FORMAT}"):
        load_state(tmp_path / "last.pt")


@pytest.mark.parametrize("keep", [0, 10, 200])
def test_a_damaged_file_is_rejected(tmp_path, keep):
    path = tmp_path / "last.pt"
    save_state(path, {"network": {"a": torch.ones(500)}})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(StorageError, match="not a readable checkpoint"):
        load_state(path)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "last.pt"
    save_state(path, {"epoch": 1})
    with pytest.raises(AttributeError):  # not plain values
        save_state(path, {"epoch": 2, "network": {"a": torch.ones(9), "b": lambda: None}})
    assert load_state(path)["epoch"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


def test_the_error_names_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "runs").touch()
    for write in (lambda path: save_state(path, {}), lambda path: export_weights(path, {"a": torch.ones(1)}, {})):
        with pytest.raises(StorageError, match=r"runs.*check that it may be read and written"):
            write(tmp_path / "runs" / "last.pt")


FULL_DISK = """
import resource, sys
from pathlib import Path
import torch
from trainables.training.checkpoint import export_weights, save_state
from trainables.errors import ResourceError
folder = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
tensors = {"a": torch.ones(100_000)}
writers = {"last.pt": save_state, "best.safetensors": lambda path, tensors: export_weights(path, tensors, {})}
for name, write in writers.items():
    try:
        write(folder / name, tensors)
    except ResourceError as error:
        print(name in str(error) and "is the disk full?" in str(error))
"""


def test_a_full_disk_raises_resource_error_and_leaves_the_old_files(tmp_path):
    """A limit on the size of files stops a write in the middle, as a full disk does."""
    save_state(tmp_path / "last.pt", {"epoch": 1})
    export_weights(tmp_path / "best.safetensors", {"a": torch.zeros(2)}, {})
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path], capture_output=True, text=True, timeout=60, cwd=REPOSITORY, check=False
    )
    assert done.stdout.split() == ["True", "True"], done.stderr
    assert load_state(tmp_path / "last.pt")["epoch"] == 1
    assert torch.equal(load_file(tmp_path / "best.safetensors")["a"], torch.zeros(2))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["best.safetensors", "last.pt"]


def test_exported_weights_load_with_safetensors_and_hold_the_metadata(tmp_path):
    path = tmp_path / "best" / "best.safetensors"
    images = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    export_weights(path, {"a": torch.nn.Parameter(images), "n": torch.tensor(3)}, {"format": "pt", "backbone": "resnet18"})
    loaded = load_file(path)
    assert torch.equal(loaded["a"], images)
    assert loaded["n"] == 3
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "pt", "backbone": "resnet18"}
    assert [file.name for file in path.parent.iterdir()] == ["best.safetensors"]
