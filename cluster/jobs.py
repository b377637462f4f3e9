"""Ray jobs: a command of ours run on a cluster, named by the study it is for, from any machine that has the address and the token."""

import json
import logging
import re
import secrets
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from cluster.code import copy_code, version
from cluster.connect import worker_environment
from cluster.token import present_token, read_token, token_file
from trainables.errors import ResourceError

EXAMPLE = "http://head:8265"
ANSWER_SECONDS = 10.0
STOP_SECONDS = 600
"""How long Ray waits for a job that it was told to stop: our driver lets its trials end their epochs."""
POLL_SECONDS = 1.0
TELL_OF_EVERY_UPLOAD = ("ray.dashboard.modules.dashboard_sdk", "ray._private.runtime_env.packaging")
RAYS_OWN = re.compile(r"(\S+ \S+\tINFO job_manager\.py:.*|Running entrypoint for job .*)\n")
"""What Ray writes at the head of a job's log."""
LONGEST_ANSWER = 1 << 16
"""Bytes of a dashboard's answer to who it is; a Ray's is some two hundred."""
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
STUDY, COMMAND, VERSION = "injerto_study", "injerto_command", "injerto_version"
"""What we write of a job beside Ray's own facts. No secret: Ray shows it to whoever may see the cluster."""


@dataclass(frozen=True)
class Job:
    """One command on a cluster."""

    id: str
    study: str
    command: str  # search, resume, stop or doctor
    state: str  # PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED
    message: str
    began: float | None  # seconds since the epoch
    ended: float | None
    metadata: Mapping[str, str]

    @property
    def over(self) -> bool:
        """Whether it has ended, well or not."""
        return self.state in ENDED

    @property
    def seconds(self) -> float | None:
        """How long it has run."""
        return None if self.began is None else (self.ended or time.time()) - self.began

    def as_json(self) -> dict[str, Any]:
        """Return what ``injerto jobs --json`` promises of a job."""
        facts = {name: getattr(self, name) for name in ("id", "study", "command", "state", "message", "began", "ended", "seconds")}
        return facts | {"version": self.metadata.get(VERSION)}


class Jobs:
    """The jobs of the cluster whose dashboard is at an address such as ``http://head:8265``.

    Every method raises ``ResourceError`` where the cluster does not answer, wants another token, or runs another Ray.
    """

    def __init__(self, address: str) -> None:
        self.address = _checked(address)
        present_token()
        _refuse_other_ray(self.address)

    @cached_property
    def _client(self) -> Any:
        from ray.job_submission import JobSubmissionClient

        with _explained(self.address):
            client = JobSubmissionClient(self.address)
            for name in TELL_OF_EVERY_UPLOAD:
                logging.getLogger(name).setLevel(logging.WARNING)
            return client

    def submit(
        self,
        study: str,
        arguments: Sequence[str],
        *,
        files: Mapping[str, str] | None = None,
        about: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Job:
        """Run a command of ours on the cluster's head, with this machine's code and these files (name → text) in its working folder."""
        id = f"injerto-{study}-{arguments[0]}-{secrets.token_hex(3)}"
        with _explained(self.address), TemporaryDirectory() as place:
            work = Path(place, "work")
            work.mkdir()
            (work / ".injerto").write_text(id, encoding="utf-8")  # Ray refuses to carry an empty folder
            for name, text in (files or {}).items():
                (work / name).write_text(text, encoding="utf-8")
            self._client.submit_job(
                entrypoint=shlex.join(["python", "-m", "search.cli", *arguments]),
                submission_id=id,
                metadata={STUDY: study, COMMAND: arguments[0], VERSION: version(), **(about or {})},
                runtime_env={
                    "working_dir": str(work),
                    "py_modules": copy_code(Path(place)),
                    "env_vars": worker_environment() | {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS), **(environment or {})},
                },
            )
        return self.job(id)

    def jobs(self) -> list[Job]:
        """Return our jobs, the latest first."""
        with _explained(self.address):
            found = [_job(details) for details in self._client.list_jobs() if STUDY in (details.metadata or {})]
        return sorted(found, key=lambda job: job.began or 0.0, reverse=True)

    def job(self, id: str) -> Job:
        """Return a job by its id."""
        with _explained(self.address):
            return _job(self._client.get_job_info(id))

    def find(self, name: str) -> Job:
        """Return a job by its id, or the latest search of a study."""
        jobs = self.jobs()
        for job in jobs:
            if job.id == name or (job.study == name and job.command in ("search", "resume")):
                return job
        known = sorted({job.study for job in jobs})
        there = f"its studies are {', '.join(known)}" if known else "it has run no search of ours"
        raise ResourceError(f"no job and no study {name!r} on the cluster at {self.address}; {there}")

    def logs(self, id: str) -> str:
        """Return what a job has printed so far."""
        with _explained(self.address):
            return RAYS_OWN.sub("", str(self._client.get_job_logs(id)))

    def follow(self, id: str) -> Iterator[str]:
        """Yield what a job prints, as it comes, until it has ended."""
        seen = 0
        while True:
            over = self.job(id).over
            text = self.logs(id)
            if len(text) > seen:
                yield text[seen:]
                seen = len(text)
            if over:
                return
            time.sleep(POLL_SECONDS)

    def wait(self, id: str) -> Job:
        """Return a job once it has ended."""
        while not (job := self.job(id)).over:
            time.sleep(POLL_SECONDS)
        return job


def _job(details: Any) -> Job:
    metadata = dict(details.metadata or {})
    return Job(
        id=details.submission_id,
        study=metadata.get(STUDY, ""),
        command=metadata.get(COMMAND, ""),
        state=str(getattr(details.status, "value", details.status)),
        message=details.message or "",
        began=None if details.start_time is None else details.start_time / 1000,
        ended=None if not details.end_time else details.end_time / 1000,
        metadata=metadata,
    )


class _Stay(HTTPRedirectHandler):
    """Follows nobody elsewhere: urllib would take the token along, to any host."""

    def redirect_request(self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str) -> None:
        return None


def _checked(address: str) -> str:
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        well = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and not re.search(r"[\s\x00-\x1f]", parts.netloc)
    except ValueError:  # brackets without end, a port that is no number
        well = False
    if not well:
        raise ResourceError(f"{address.rpartition('@')[2]!r} is no address of a Ray dashboard; give one such as {EXAMPLE}")
    if parts.password or parts.username:
        raise ResourceError(
            f"the address of {parts.hostname} holds a password; leave it out: the token in {token_file()} opens the cluster"
        )
    return f"{parts.scheme}://{parts.netloc}"


def _refuse_other_ray(address: str) -> None:
    """Ask the dashboard for its Ray. Raises ``ResourceError`` where nobody answers, it wants another token, or runs another version."""
    import ray

    token = read_token()
    request = Request(f"{address}/api/version", headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with build_opener(_Stay).open(request, timeout=ANSWER_SECONDS) as response:
            theirs = json.loads(response.read(LONGEST_ANSWER))["ray_version"]
    except HTTPError as error:
        if error.code in (401, 403):
            raise ResourceError(_refused(address, token)) from None
        raise ResourceError(
            f"what answers at {address} is no Ray dashboard (HTTP {error.code}); give one such as http://head:8265"
        ) from None
    except (HTTPException, ValueError, KeyError, TypeError, RecursionError):
        raise ResourceError(f"what answers at {address} is no Ray dashboard; give one such as {EXAMPLE}") from None
    except (URLError, OSError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise ResourceError(f"no Ray cluster answers at {address} ({reason}); look at the address, and whether it is up") from None
    if theirs != ray.__version__:
        raise ResourceError(f"the cluster at {address} runs Ray {theirs}, and here is {ray.__version__}; install the same version here")


def _refused(address: str, token: str | None) -> str:
    mine = "does not take the token of this machine" if token else "wants a token, and this machine has none"
    return f"the cluster at {address} {mine}; copy the cluster's to {token_file()}, readable by you alone"


@contextmanager
def _explained(address: str) -> Iterator[None]:
    try:
        yield
    except (ConnectionError, RuntimeError, OSError) as error:
        text = " ".join(str(error).split())
        if "401" in text or "403" in text:
            raise ResourceError(_refused(address, read_token())) from None
        raise ResourceError(f"the cluster at {address} did not do what it was asked: {text[:300]}") from None
