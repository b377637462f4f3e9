"""Reads `cluster.yaml`, and renders and writes the files that start a kind of cluster; it starts nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from cluster.render import kuberay, onprem, slurm
from cluster.render.cluster_config import ClusterConfig
from trainables.config import read_yaml, validate
from trainables.errors import ConfigError, ResourceError, did_you_mean

Files = dict[str, str]


def _as_yaml(documents: Callable[[ClusterConfig], dict[str, tuple[str, dict[str, Any]]]]) -> Callable[[ClusterConfig], Files]:
    def texts(config: ClusterConfig) -> Files:
        rendered = documents(config).items()
        return {name: _comment(header) + yaml.safe_dump(content, sort_keys=False, width=120) for name, (header, content) in rendered}

    return texts


KINDS: dict[str, Callable[[ClusterConfig], Files]] = {
    "kuberay": _as_yaml(kuberay.render),
    "slurm": slurm.render,
    "onprem": _as_yaml(onprem.render),
}
"""Kind of cluster → the function that returns its files (name → text)."""


def read(path: str | Path) -> ClusterConfig:
    """Return the cluster that a YAML file describes.

    Raises ``ConfigError`` if the file cannot be read as a YAML mapping; for wrong keys or values, its message names each.
    """
    return validate(ClusterConfig, read_yaml(path), str(path))


def render(kind: str, config: ClusterConfig) -> Files:
    """Return the files (name → text) that start a cluster of a kind: ``kuberay``, ``slurm`` or ``onprem``.

    Raises ``ConfigError`` for another kind, for a setting that this kind needs and that is missing, and for one that it cannot use.
    """
    if kind not in KINDS:
        raise ConfigError(f"unknown kind of cluster {kind!r}{did_you_mean(kind, KINDS)}")
    return KINDS[kind](config)


def write(kind: str, config: ClusterConfig, folder: str | Path = ".", *, force: bool = False) -> list[Path]:
    """Write the files that `render` returns into a folder, which is created if missing, and return their paths.

    `force` overwrites existing files. Raises ``ConfigError`` as `render` does, and before it writes anything if one of the files exists
    and `force` is not given. Raises ``ResourceError`` if writing fails.
    """
    texts = {Path(folder) / name: text for name, text in render(kind, config).items()}
    if existing := [str(path) for path in texts if path.exists() and not force]:
        raise ConfigError(f"{', '.join(existing)} would be overwritten; name another folder, or overwrite with --force")
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ResourceError(f"cannot write into {folder}: {error.strerror}; name another folder") from None
    return list(texts)


def _comment(text: str) -> str:
    return "".join(f"# {line}".rstrip() + "\n" for line in text.splitlines())
