"""Where the checkout and the real image sets are."""

import os
from collections.abc import Mapping
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def real_data_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of real image sets: INJERTO_TEST_DATA, or ``shared/data`` beside the checkout where that is unset or empty."""
    return Path(environment.get("INJERTO_TEST_DATA") or REPOSITORY.parent / "shared" / "data")
