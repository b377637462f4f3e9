"""Makes the paths in a configuration independent of the working folder."""

from pathlib import Path

from search.config import SearchConfig
from search.space.backbone_choice import DEFAULT_BACKBONES
from trainables.errors import ConfigError
from trainables.storage.locations import check_url, is_url


def resolve_paths(config: SearchConfig) -> SearchConfig:
    """Return the configuration with every path absolute, so that a change of the working folder does not matter. URLs stay as they are.

    Raises ``ConfigError`` for a path that cannot be resolved, and ``StorageError`` for a URL that names no bucket or holds a password.
    """
    data, weights = config.data, config.weights
    update = {
        "source": data.source if data.source.startswith("builtin:") else str(_resolved(data.source)),
        "image_folder": data.image_folder and str(_resolved(data.image_folder)),
    }
    if is_url(data.source):  # then image_folder is relative to the URL
        update = {"source": check_url(data.source, "data source")}
    is_file = weights not in DEFAULT_BACKBONES and Path(weights).suffix
    return config.model_copy(
        update={
            "data": data.model_copy(update=update),
            "weights": str(_resolved(weights)) if is_file else weights,
            "output": _resolved(config.output),
            "root": config.root and (check_url(config.root) if is_url(config.root) else str(_resolved(config.root))),
        }
    )


def _resolved(path: str | Path) -> Path:
    try:
        return Path(path).expanduser().resolve()
    except (RuntimeError, ValueError, OSError) as error:
        raise ConfigError(f"{str(path)[:200]!r} is not a usable path: {error}") from None
