"""`cluster.yaml`: the machines to search on, said once for Kubernetes, Slurm and machines reached by ssh."""

import re
from importlib.metadata import version
from ipaddress import ip_address
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, Field, model_validator

from trainables.config import Model
from trainables.errors import ConfigError


def _as(pattern: str, words: str) -> AfterValidator:
    """Let through what matches as a whole; the error says in words what would."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"must be {words} but got {value!r}")
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


SECRET = re.compile("passw|secret|token|pwd", re.IGNORECASE)
UNQUOTED = re.compile(r"[^:/]+://[^/?#]*:.*@")
"""A password that holds a /, ? or #, at which the part before a URL's host would end."""


def _without_password(value: str) -> str:
    try:
        parts = urlsplit(value)
        secrets = parts.password or [key for key, _ in parse_qsl(parts.query) if SECRET.search(key)]
    except ValueError:  # its words would repeat what may be a password
        raise ValueError("must be a storage URL such as postgresql://user@host/database") from None
    if secrets or UNQUOTED.match(value):
        raise ValueError("must hold no password, as every node would see it; put it into a secret (kubernetes.pgpass_secret) or ~/.pgpass")
    if not parts.scheme or not value.isprintable():
        raise ValueError(f"must be a storage URL such as postgresql://user@host/database but got {value!r}")
    return value


LABEL_WORDS = "letters, digits, dots, underscores or hyphens, at most 63"
ClusterName = Annotated[
    str,
    _as(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", "1 to 40 lowercase letters, digits or hyphens, a letter first and no hyphen last,"),
]
"""What Kubernetes takes for a name, less the room that KubeRay needs to name pods and services after it."""
DnsName = Annotated[
    str, _as(r"(?=.{1,63}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?", "1 to 63 lowercase letters, digits or hyphens, no hyphen first or last,")
]
Label = Annotated[str, _as(r"(?=.{1,63}$)[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", LABEL_WORDS)]
LabelKey = Annotated[
    str,
    _as(
        r"(?=.{1,253}$)([a-z0-9][a-z0-9.-]*/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", "a label's key such as nvidia.com/gpu.product"
    ),
]
LabelPair = Annotated[
    str,
    _as(
        r"([a-z0-9][a-z0-9.-]{0,252}/)?[A-Za-z0-9][A-Za-z0-9._-]{0,62}=[A-Za-z0-9._-]{0,63}",
        "key=value such as cloud.google.com/gke-spot=true",
    ),
]
Image = Annotated[str, _as(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}", "a container image such as team/injerto:0.1.0")]
SlurmName = Annotated[str, _as(r"[A-Za-z0-9_][A-Za-z0-9_.,+-]{0,127}", "a Slurm name of letters, digits and _.,+-")]
SlurmTime = Annotated[str, _as(r"\d+|\d+:\d\d(:\d\d)?|\d+-\d+(:\d\d){0,2}", "minutes, hours:minutes:seconds or days-hours:minutes:seconds")]
StudyName = Annotated[str, _as(r"(?![.]+$)[A-Za-z0-9._][A-Za-z0-9._-]{0,63}", "1 to 64 letters, digits, dots, underscores or hyphens")]
User = Annotated[str, _as(r"[a-z_][a-z0-9_-]{0,31}", "a user name")]
Version = Annotated[str, _as(r"\d+\.\d+\.\d+[0-9A-Za-z.]*", "a version such as 2.60.0")]
Path = Annotated[str, AfterValidator(_path)]
File = Annotated[str, AfterValidator(_file)]
Address = Annotated[str, AfterValidator(_address)]
StorageUrl = Annotated[str, AfterValidator(_without_password)]
LocalFile = Annotated[str, _as(r"[^\x00-\x1f\x7f]{1,4096}", "a path without control characters")]


class Gpu(Model):
    """The accelerators of one worker."""

    type: Label | None = Field(
        None, description="what the scheduler calls it: nvidia-tesla-t4 on Kubernetes, a100 in Slurm; any by default"
    )
    count: int = Field(0, ge=0, le=16, description="GPUs of a worker, 0 to 16; 0 trains on processors")

    @model_validator(mode="after")
    def _counted(self) -> "Gpu":
        if self.type and not self.count:
            raise ValueError(f"type is {self.type!r} but count is 0; say how many GPUs a worker has")
        return self


class Kubernetes(Model):
    """What only Kubernetes asks; secrets and the claim are made beforehand and named here."""

    namespace: DnsName = Field("default", description="namespace of all that is made")
    claim: DnsName | None = Field(None, description="PersistentVolumeClaim (ReadWriteMany) that is mounted as the shared storage")
    ray_version: Version = Field(version("ray"), description="Ray in the image; this installation's by default")
    gpu_label: LabelKey = Field(
        "cloud.google.com/gke-accelerator", description="node label whose value is gpu.type; nvidia.com/gpu.product with NVIDIA's operator"
    )
    spot_label: LabelPair = Field("cloud.google.com/gke-spot=true", description="label, and taint, of nodes that can be taken away")
    token_secret: DnsName | None = Field(
        None, description="secret whose auth_token is Ray's token (KubeRay 1.6 or newer); KubeRay makes one by default"
    )
    pgpass_secret: DnsName | None = Field(None, description="secret whose key pgpass holds a PostgreSQL password file")
    objects_secret: DnsName | None = Field(
        None, description="secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, where `root` is a bucket"
    )
    head_memory: int = Field(8, ge=2, le=1024, description="memory of the head, which runs the search and no trials, GiB")


class Slurm(Model):
    """What only Slurm asks."""

    partition: SlurmName | None = Field(None, description="partition; a preemptible one is Slurm's kind of spot")
    account: SlurmName | None = Field(None, description="account that pays")
    qos: SlurmName | None = Field(None, description="quality of service")
    time: SlurmTime = Field("12:00:00", description="time limit: minutes, hours:minutes:seconds or days-hours:minutes:seconds")
    pause: int = Field(
        300, ge=30, le=65535, description="seconds before the time limit at which the search pauses; more than an epoch takes"
    )
    requeue: bool = Field(True, description="queue the job again when its time is over or its nodes are taken, and go on with the study")
    join: int = Field(600, ge=30, le=7200, description="seconds within which all nodes must have joined")


class Onprem(Model):
    """What only machines reached by ssh ask."""

    head_ip: Address | None = Field(None, description="IP address of the machine that runs the search; it runs trials, too")
    worker_ips: tuple[Address, ...] = Field((), description="IP addresses of the further machines")
    ssh_user: User | None = Field(None, description="user on all of them")
    ssh_private_key: LocalFile | None = Field(None, description="key file where `ray up` runs; ssh's own choice by default")
    token_file: LocalFile = Field(
        "~/.ray/auth_token",
        description="Ray's token where `ray up` runs, copied to every machine; `ray get-auth-token --generate` makes it",
    )

    @model_validator(mode="after")
    def _apart(self) -> "Onprem":
        named = [address for address in (self.head_ip, *self.worker_ips) if address]
        if twice := sorted({address for address in named if named.count(address) > 1}):
            raise ValueError(f"each machine must be named once, the head as head_ip alone, but got {', '.join(twice)} more often")
        return self


class ClusterConfig(Model):
    """A cluster, and the search that runs on it."""

    name: ClusterName = Field("injerto", description="name of the cluster, 1 to 40 lowercase letters, digits and hyphens")
    image: Image | None = Field(None, description="container image with this package (cluster/Dockerfile); Kubernetes alone needs one")
    environment: Path | None = Field(None, description="virtual environment with this package, same path on every machine; Slurm and ssh")
    workers: int = Field(1, ge=1, le=10000, description="machines that run trials")
    min_workers: int | None = Field(
        None,
        ge=0,
        le=10000,
        description="fewest that stay of idle ones (Kubernetes); `workers` by default; a search with resources.may_grow asks for more",
    )
    max_workers: int | None = Field(None, ge=1, le=10000, description="most that autoscaling may add (Kubernetes); `workers` by default")
    gpu: Gpu = Gpu()
    cpus: int = Field(4, ge=1, le=1024, description="processors of a worker; machines reached by ssh use all that they have")
    memory: int = Field(16, ge=2, le=16384, description="memory of a worker, GiB; machines reached by ssh use all that they have")
    spot: bool = Field(False, description="use nodes that can be taken away at short notice (Kubernetes); no finished epoch is lost")
    shared: Path = Field("/shared", description="folder that every machine has in common: images, settings, results")
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
        """The fewest and the most workers; equal where nothing scales."""
        return (
            self.workers if self.min_workers is None else self.min_workers,
            self.workers if self.max_workers is None else self.max_workers,
        )

    @property
    def study_name(self) -> str:
        """The study that the cluster works on."""
        return self.study or self.name

    @property
    def storage_url(self) -> str:
        """Where the record is kept."""
        return self.storage or f"sqlite:///{self.shared}/studies.db"


def need(kind: str, value: Any, key: str, hint: str) -> Any:
    """Return a value that one kind of cluster cannot do without. Raises ``ConfigError`` where it is not given."""
    if value is None or value == ():
        raise ConfigError(f"{key} is not set, and {kind} cannot do without: {hint}")
    return value


def refuse(kind: str, wrong: bool, key: str, hint: str) -> None:
    """Raise ``ConfigError`` for a setting that this kind of cluster could only ignore."""
    if wrong:
        raise ConfigError(f"{key} means nothing to {kind}: {hint}")
