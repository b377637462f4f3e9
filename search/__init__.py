"""The search: proposes trials, runs them within a budget and records their results. ``from search import run`` starts one from Python."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.driver.launch import run as run


def __getattr__(name: str) -> Any:
    """Return `run`. It is imported at its first use, because it imports Ray. Raises ``AttributeError`` for any other name."""
    if name == "run":
        from search.driver.launch import run

        return run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
