"""Many trials: what to try, on which budget, with what result. ``from search import run`` runs a search from Python."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.driver.launch import run as run


def __getattr__(name: str) -> Any:
    """Import `run` when it is asked for: it brings Ray, which the light modules do without."""
    if name == "run":
        from search.driver.launch import run

        return run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
