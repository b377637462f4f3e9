"""A cache of the test's own, and image files of which one is damaged."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INJERTO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def paths(tmp_path):
    rng = np.random.default_rng(0)
    found = []
    for index in range(30):
        found.append(tmp_path / f"{index}.png")
        Image.fromarray(rng.integers(0, 256, (20 + index, 40, 3), np.uint8)).save(found[-1])
    found.append(tmp_path / "bad.png")
    found[-1].write_bytes(b"")
    return found
