"""`cluster.yaml` → the files that start a kind of cluster, as text; nothing is started here."""

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
"""Kind of cluster → the function that renders its files."""


def read(path: str | Path) -> ClusterConfig:
    """Return the cluster that a YAML file describes. Raises ``ConfigError`` that names each wrong key or value."""
    return validate(ClusterConfig, read_yaml(path), str(path))


def render(kind: str, config: ClusterConfig) -> Files:
    """Return file name → text. Raises ``ConfigError`` for an unknown kind, a missing setting, or one that has no effect on this kind."""
    if kind not in KINDS:
        raise ConfigError(f"unknown kind of cluster {kind!r}{did_you_mean(kind, KINDS)}")
    return KINDS[kind](config)


def write(kind: str, config: ClusterConfig, folder: str | Path = ".", *, force: bool = False) -> list[Path]:
    """Write the files of a kind of cluster into a folder and return their paths. If one of them exists already, none is written.

    Raises ``ConfigError`` as `render` does, and for an existing file unless `force` is given; ``ResourceError`` if writing fails.
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
