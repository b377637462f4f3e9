"""Ray jobs: a command of ours run on a cluster, named by the study it is for, from any machine that has the address and the token."""

import json
import logging
import os
import re
import secrets
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from cluster.code_package import copy_code, version
from cluster.connect import worker_environment
from cluster.token import present_token, read_token, token_file
from trainables.errors import ResourceError

EXAMPLE = "http://head:8265"
ANSWER_SECONDS = 10.0
ANSWER_BYTES = 1 << 16
STOP_SECONDS = 600
"""How long Ray waits for a job that it was told to stop: our driver lets its trials end their epochs."""
POLL_SECONDS = 1.0
TELL_OF_EVERY_UPLOAD = ("ray.dashboard.modules.dashboard_sdk", "ray._private.runtime_env.packaging")
OTHER_ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
"""What Ray's client would rather go to than where it is told to."""
RAYS_OWN = re.compile(r"(\S+ \S+\tINFO job_manager\.py:.*|Running entrypoint for job .*)\n")
"""What Ray writes at the head of a job's log."""
PAUSED = 130
"""Exit code of a search that has paused."""
SEARCHES = ("search", "resume")
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
    def paused(self) -> bool:
        """Whether it is a search that was asked to pause: Ray takes its exit code for a failure."""
        return self.code == PAUSED

    @property
    def failed(self) -> bool:
        """Whether it ended because of something that is wrong."""
        return self.state == "FAILED" and not self.paused

    @property
    def code(self) -> int | None:
        """The exit code of its command, where it is not 0 and Ray tells it."""
        found = re.search(r"failed with exit code (\d+)", self.message)
        return int(found[1]) if found and self.state == "FAILED" else None

    @property
    def why(self) -> str:
        """How it ended, in a line."""
        said = self.message.partition(", last available logs")[0].splitlines()
        return "paused" if self.paused else f"{self.state.lower()}: {said[0] if said else 'no reason given'}"

    @property
    def seconds(self) -> float | None:
        """How long it has run."""
        return None if self.began is None else (self.ended or time.time()) - self.began

    def as_json(self) -> dict[str, Any]:
        """Return what ``injerto jobs --json`` promises of a job."""
        facts = {name: getattr(self, name) for name in ("id", "study", "command", "state", "paused", "why", "began", "ended", "seconds")}
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

        with _explained(self.address), patch.dict(os.environ):
            for name in OTHER_ADDRESSES:
                os.environ.pop(name, None)
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
        """Return a job by its id, or the latest search of a study; one that failed, such as for a name that is taken, comes last."""
        jobs = self.jobs()
        named = [job for job in jobs if job.id == name or (job.study == name and job.command in SEARCHES)]
        if named:
            return min(named, key=lambda job: job.failed)  # the latest of those that had something to show
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


class _Here(HTTPRedirectHandler):
    """Goes nowhere else: the token that is for an address is not for those that it names."""

    def redirect_request(self, *arguments: Any) -> None:
        """Take a redirection for an answer like any other."""


def _checked(address: str) -> str:
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and not re.search(r"[^!-~]", parts.netloc)
    except ValueError:  # brackets or a port, and who knows where a password is
        raise ResourceError(f"what was given is no address of a Ray dashboard; give one such as {EXAMPLE}") from None
    if not usable:
        raise ResourceError(f"{address!r} is no address of a Ray dashboard; give one such as {EXAMPLE}")
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
        with build_opener(_Here).open(request, timeout=ANSWER_SECONDS) as response:
            theirs = json.loads(response.read(ANSWER_BYTES))["ray_version"]
        if not re.fullmatch(r"[0-9A-Za-z.+-]{1,40}", theirs):
            raise ValueError("no version")
    except HTTPError as error:
        if error.code in (401, 403):
            raise ResourceError(_refused(address, token)) from None
        raise ResourceError(
            f"what answers at {address} is no Ray dashboard (HTTP {error.code}); give one such as http://head:8265"
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError, HTTPException):
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
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError:
        raise ResourceError(_refused(address, read_token())) from None
    except (ConnectionError, RuntimeError, OSError) as error:
        text = " ".join(str(error).split())
        raise ResourceError(f"the cluster at {address} did not do what it was asked: {text[:300]}") from None
