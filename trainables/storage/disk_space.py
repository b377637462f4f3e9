"""`require_space`, the check before writing whether data fit the disk and the budget of the cache."""

import os
import shutil
from pathlib import Path

from trainables.errors import ConfigError, ResourceError
from trainables.storage.byte_sizes import parse_bytes, show_bytes

FREE_SHARE = 0.9  # share of the free disk that one cache entry may take


def require_space(needed: int, folder: Path, budget_bytes: int | None, what: str, or_else: str = "choose a smaller image_size") -> None:
    """Raise ``ResourceError`` unless `needed` more bytes fit into `folder`: its budget, and 90 % of the free disk. Creates the folder.

    The budget is `budget_bytes`, else the environment's ``INJERTO_CACHE_BUDGET``, else unlimited. The files in the folder count to it.
    The message begins with `what`, a plural, and ends with the advice `or_else`. Raises ``ConfigError`` if INJERTO_CACHE_BUDGET is no
    number of bytes.
    """
    budget = _budget_from_environment() if budget_bytes is None else budget_bytes
    folder.mkdir(parents=True, exist_ok=True)
    free = int(shutil.disk_usage(folder).free * FREE_SHARE)
    left = free
    if budget is not None:
        left = min(free, budget - sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()))
    if needed > left:
        reason = "the free disk" if left == free else f"the budget of {show_bytes(budget or 0)} and what is already cached"
        raise ResourceError(
            f"{what} need {show_bytes(needed)} but {reason} leaves {show_bytes(max(0, left))} in {folder}; "
            "delete what that folder holds (it is made again when needed), raise INJERTO_CACHE_BUDGET, "
            f"set INJERTO_CACHE to a folder on a larger disk, or {or_else}"
        )


def _budget_from_environment() -> int | None:
    text = os.environ.get("INJERTO_CACHE_BUDGET")
    if not text:
        return None
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise ConfigError(f"INJERTO_CACHE_BUDGET {error} but got {text!r}") from None
