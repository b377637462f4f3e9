"""The keys of `cluster.yaml` and their checks: one description of a cluster, for Kubernetes, Slurm and machines reached by SSH."""

import re
from importlib.metadata import version
from ipaddress import ip_address
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, Field, model_validator

from cluster.study_name import STUDY_NAME
from trainables.config import Model
from trainables.errors import ConfigError
from trainables.storage.secrets import SECRET_NAME


def _matching(pattern: str, description: str) -> AfterValidator:
    """Return a pydantic validator that accepts a text if all of it matches `pattern`; `description` says in its error what is allowed."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"must be {description} but got {value!r}")
        return value

    return AfterValidator(check)


def _path(value: str) -> str:
    if not value.startswith("/") or not value.isprintable() or "?" in value or not value.strip("/"):
        raise ValueError(f"must be an absolute path below /, without control characters and question marks, but got {value!r}")
    return "/" + value.strip("/")


def _file(value: str) -> str:
    if not value or value.startswith(("/", "-")) or not value.isprintable() or ".." in value.split("/"):
        raise ValueError(f"must be a path inside the shared storage, without control characters, but got {value!r}")
    return value


def _address(value: str) -> str:
    try:
        return str(ip_address(value))
    except ValueError:
        raise ValueError(f"must be an IP address but got {value!r}") from None


UNQUOTED_PASSWORD = re.compile(r"[^:/]+://[^/?#]*:.*@")
"""Matches the start of a URL that has a password, even one with an unquoted /, ? or #, where a URL parser would see no password."""


def _without_password(value: str) -> str:
    try:
        parts = urlsplit(value)
        secrets = parts.password or [key for key, _ in parse_qsl(parts.query) if SECRET_NAME.search(key)]
    except ValueError:  # its message would repeat the URL, which may hold a password
        raise ValueError("must be a storage URL such as postgresql://user@host/database") from None
    if secrets or UNQUOTED_PASSWORD.match(value):
        raise ValueError("must hold no password, as every node would see it; put it into a secret (kubernetes.pgpass_secret) or ~/.pgpass")
    if not parts.scheme or not value.isprintable():
        raise ValueError(f"must be a storage URL such as postgresql://user@host/database but got {value!r}")
    return value


LABEL_WORDS = "letters, digits, dots, underscores or hyphens, at most 63"
ClusterName = Annotated[
    str,
    _matching(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", "1 to 40 lowercase letters, digits or hyphens, a letter first and no hyphen last,"),
]
"""Shorter than Kubernetes allows, because KubeRay appends to it to name pods and services."""
DnsName = Annotated[
    str, _matching(r"(?=.{1,63}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?", "1 to 63 lowercase letters, digits or hyphens, no hyphen first or last,")
]
Label = Annotated[str, _matching(r"(?=.{1,63}$)[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", LABEL_WORDS)]
LabelKey = Annotated[
    str,
    _matching(
        r"(?=.{1,253}$)([a-z0-9][a-z0-9.-]*/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", "a label's key such as nvidia.com/gpu.product"
    ),
]
LabelPair = Annotated[
    str,
    _matching(
        r"([a-z0-9][a-z0-9.-]{0,252}/)?[A-Za-z0-9][A-Za-z0-9._-]{0,62}=[A-Za-z0-9._-]{0,63}",
        "key=value such as cloud.google.com/gke-spot=true",
    ),
]
Image = Annotated[str, _matching(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}", "a container image such as team/injerto:0.1.0")]
SlurmName = Annotated[str, _matching(r"[A-Za-z0-9_][A-Za-z0-9_.,+-]{0,127}", "a Slurm name of letters, digits and _.,+-")]
SlurmTime = Annotated[
    str, _matching(r"\d+|\d+:\d\d(:\d\d)?|\d+-\d+(:\d\d){0,2}", "minutes, hours:minutes:seconds or days-hours:minutes:seconds")
]
StudyName = Annotated[str, _matching(STUDY_NAME.pattern, "1 to 64 letters, digits, dots, underscores or hyphens")]
User = Annotated[str, _matching(r"[a-z_][a-z0-9_-]{0,31}", "a user name")]
Version = Annotated[str, _matching(r"\d+\.\d+\.\d+[0-9A-Za-z.]*", "a version such as 2.60.0")]
Path = Annotated[str, AfterValidator(_path)]
File = Annotated[str, AfterValidator(_file)]
Address = Annotated[str, AfterValidator(_address)]
StorageUrl = Annotated[str, AfterValidator(_without_password)]
LocalFile = Annotated[str, _matching(r"[^\x00-\x1f\x7f]{1,4096}", "a path without control characters")]


class Gpu(Model):
    """The GPUs of one worker."""

    type: Label | None = Field(
        None, description="the scheduler's name for it: nvidia-tesla-t4 on Kubernetes, a100 in Slurm; any by default"
    )
    count: int = Field(0, ge=0, le=16, description="GPUs of a worker, 0 to 16; 0 trains on CPUs")

    @model_validator(mode="after")
    def _counted(self) -> "Gpu":
        if self.type and not self.count:
            raise ValueError(f"type is {self.type!r} but count is 0; say how many GPUs a worker has")
        return self


class Kubernetes(Model):
    """Settings for Kubernetes only. The user creates the secrets and the claim; this holds their names."""

    namespace: DnsName = Field("default", description="namespace of all resources")
    claim: DnsName | None = Field(None, description="PersistentVolumeClaim (ReadWriteMany) that is mounted as the shared storage")
    ray_version: Version = Field(version("ray"), description="Ray in the image; this installation's by default")
    gpu_label: LabelKey = Field(
        "cloud.google.com/gke-accelerator", description="node label whose value is gpu.type; nvidia.com/gpu.product with NVIDIA's operator"
    )
    spot_label: LabelPair = Field("cloud.google.com/gke-spot=true", description="label, and taint, of nodes that can be taken away")
    token_secret: DnsName | None = Field(
        None, description="secret whose auth_token is Ray's token (KubeRay 1.6 or newer); KubeRay creates one by default"
    )
    pgpass_secret: DnsName | None = Field(None, description="secret whose key pgpass holds a PostgreSQL password file")
    objects_secret: DnsName | None = Field(
        None, description="secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, if `root` is a bucket"
    )
    head_memory: int = Field(8, ge=2, le=1024, description="memory of the head, which runs the search and no trials, GiB")


class Slurm(Model):
    """Settings for Slurm only."""

    partition: SlurmName | None = Field(None, description="partition; a preemptible one is Slurm's kind of spot")
    account: SlurmName | None = Field(None, description="account that is charged")
    qos: SlurmName | None = Field(None, description="quality of service")
    time: SlurmTime = Field("12:00:00", description="time limit: minutes, hours:minutes:seconds or days-hours:minutes:seconds")
    pause: int = Field(
        300, ge=30, le=65535, description="the search pauses this many seconds before the time limit; more than an epoch takes"
    )
    requeue: bool = Field(True, description="queue the job again when its time is over or its nodes are taken away, and continue the study")
    join: int = Field(600, ge=30, le=7200, description="seconds within which all nodes must have joined")


class Onprem(Model):
    """Settings for machines reached by SSH only: their addresses, which must differ, and how to log in."""

    head_ip: Address | None = Field(None, description="IP address of the machine that runs the search; it also runs trials")
    worker_ips: tuple[Address, ...] = Field((), description="IP addresses of the other machines")
    ssh_user: User | None = Field(None, description="user on all of them")
    ssh_private_key: LocalFile | None = Field(None, description="key file on the machine where `ray up` runs; chosen by ssh by default")
    token_file: LocalFile = Field(
        "~/.ray/auth_token",
        description="Ray's token where `ray up` runs, copied to every machine; `ray get-auth-token --generate` creates it",
    )

    @model_validator(mode="after")
    def _distinct(self) -> "Onprem":
        addresses = [address for address in (self.head_ip, *self.worker_ips) if address]
        if repeated := sorted({address for address in addresses if addresses.count(address) > 1}):
            raise ValueError(f"each machine must be named once, the head as head_ip only, but got {', '.join(repeated)} more than once")
        return self


class ClusterConfig(Model):
    """The content of `cluster.yaml`: a cluster and the search that runs on it."""

    name: ClusterName = Field("injerto", description="name of the cluster, 1 to 40 lowercase letters, digits and hyphens")
    image: Image | None = Field(None, description="container image with this package (cluster/Dockerfile); needed by Kubernetes only")
    environment: Path | None = Field(None, description="virtual environment with this package, same path on every machine; Slurm and SSH")
    workers: int = Field(1, ge=1, le=10000, description="machines that run trials")
    min_workers: int | None = Field(
        None,
        ge=0,
        le=10000,
        description="workers that stay when idle (Kubernetes); `workers` by default; a search with resources.may_grow requests more",
    )
    max_workers: int | None = Field(None, ge=1, le=10000, description="upper limit of autoscaling (Kubernetes); `workers` by default")
    gpu: Gpu = Gpu()
    cpus: int = Field(4, ge=1, le=1024, description="CPUs of a worker; machines reached by SSH use all that they have")
    memory: int = Field(16, ge=2, le=16384, description="memory of a worker, GiB; machines reached by SSH use all that they have")
    spot: bool = Field(False, description="use nodes that can be taken away at short notice (Kubernetes); no finished epoch is lost")
    shared: Path = Field("/shared", description="folder that every machine can read and write: images, settings, results")
    settings: File = Field("study.yaml", description="the search's settings, a file in the shared folder")
    study: StudyName | None = Field(None, description="name of the study; the cluster's by default")
    storage: StorageUrl | None = Field(
        None, description="Optuna storage URL without a password; studies.db in the shared folder by default, PostgreSQL for a team"
    )
    kubernetes: Kubernetes = Kubernetes()
    slurm: Slurm = Slurm()
    onprem: Onprem = Onprem()

    @model_validator(mode="after")
    def _bounds(self) -> "ClusterConfig":
        least, most = self.bounds
        if not least <= self.workers <= most:
            raise ValueError(f"min_workers <= workers <= max_workers must hold but got {least}, {self.workers} and {most}")
        return self

    @property
    def bounds(self) -> tuple[int, int]:
        """The smallest and the largest number of workers, each `workers` if not set; equal without autoscaling."""
        return (
            self.workers if self.min_workers is None else self.min_workers,
            self.workers if self.max_workers is None else self.max_workers,
        )

    @property
    def study_name(self) -> str:
        """The name of the study: `study`, or the cluster's name if it is not set."""
        return self.study or self.name

    @property
    def storage_url(self) -> str:
        """The Optuna storage URL of the studies: `storage`, or SQLite in the shared folder if it is not set."""
        return self.storage or f"sqlite:///{self.shared}/studies.db"


def require(kind: str, value: Any, key: str, hint: str) -> Any:
    """Return `value`, the setting `key`. Raises ``ConfigError`` if it is not set (None or an empty tuple).

    `kind` names the kind of cluster in the message, such as ``KubeRay``; `hint` says there what the setting is for.
    """
    if value is None or value == ():
        raise ConfigError(f"{key} must be set for {kind}: {hint}")
    return value


def reject_unused(kind: str, is_set: bool, key: str, hint: str) -> None:
    """Raise ``ConfigError`` if `is_set`: whether the user has set `key`, which has no effect on this kind of cluster.

    `kind` names the kind in the message, such as ``Slurm``; `hint` says there what to do instead.
    """
    if is_set:
        raise ConfigError(f"{key} has no effect on {kind}: {hint}")
