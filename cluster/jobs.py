"""Ray jobs: run an ``injerto`` command on a cluster, from any machine that has the address of its dashboard and the token."""

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
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from cluster.code_package import copy_code, version
from cluster.environment import worker_environment
from cluster.proxies import add_direct_hosts, host_of
from cluster.token import present_token, read_token, token_file
from trainables.errors import ResourceError

EXAMPLE = "http://head:8265"
ANSWER_SECONDS = 10.0
ANSWER_BYTES = 1 << 16
STOP_SECONDS = 600
"""How long Ray waits before it kills a job that it stops: our driver lets the trials finish their epochs."""
POLL_SECONDS = 1.0
UPLOAD_LOGGERS = ("ray.dashboard.modules.dashboard_sdk", "ray._private.runtime_env.packaging")
OTHER_ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
"""Variables that Ray's client prefers to the address that it is given."""
RAY_LOG_LINES = re.compile(r"(\S+ \S+\tINFO job_manager\.py:.*|Running entrypoint for job .*)\n")
"""Lines that Ray writes at the top of a job's log."""
PAUSED = 130
"""Exit code of a search that was paused."""
SEARCHES = ("search", "resume")
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
STUDY, COMMAND, VERSION = "injerto_study", "injerto_command", "injerto_version"
"""Keys of the metadata that we give to a job. It holds no secret, because Ray shows it to everybody who has the token."""


@dataclass(frozen=True)
class Job:
    """A Ray job that runs one ``injerto`` command, as it was when it was read from the cluster; it does not update itself."""

    id: str
    study: str
    command: str  # search, resume, stop or doctor
    state: str  # PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED
    message: str  # Ray's text about the state; empty if it gives none
    began: float | None  # when it was submitted, in seconds since the epoch
    ended: float | None  # the same; None until it has ended
    metadata: Mapping[str, str]

    @property
    def has_ended(self) -> bool:
        """Whether the job has ended, with or without success."""
        return self.state in ENDED

    @property
    def paused(self) -> bool:
        """Whether the job is a search that was paused (exit code 130); Ray gives it the state ``FAILED``."""
        return self.code == PAUSED

    @property
    def failed(self) -> bool:
        """Whether the job ended with an error; False for a paused search."""
        return self.state == "FAILED" and not self.paused

    @property
    def code(self) -> int | None:
        """The exit code of a failed command; None if the job has not failed or Ray does not report the code."""
        match = re.search(r"failed with exit code (\d+)", self.message)
        return int(match[1]) if match and self.state == "FAILED" else None

    @property
    def why(self) -> str:
        """One line: ``paused``, or the state and the first line of Ray's message, such as ``failed: no reason given``."""
        lines = self.message.partition(", last available logs")[0].splitlines()
        return "paused" if self.paused else f"{self.state.lower()}: {lines[0] if lines else 'no reason given'}"

    @property
    def seconds(self) -> float | None:
        """Seconds from the submission, so with the time in the queue, to the end or else to now; None if Ray reports no submission."""
        return None if self.began is None else (self.ended or time.time()) - self.began

    def as_json(self) -> dict[str, Any]:
        """Return what ``injerto jobs --json`` prints for a job (key → value); ``began`` and ``ended`` in seconds since the epoch."""
        facts = {name: getattr(self, name) for name in ("id", "study", "command", "state", "paused", "why", "began", "ended", "seconds")}
        return facts | {"version": self.metadata.get(VERSION)}


class Jobs:
    """The jobs of the cluster whose dashboard is at an address such as ``http://head:8265``.

    The constructor raises ``ResourceError`` if the address is not valid, or if the cluster does not answer, does not accept this machine's
    token, or runs another version of Ray. Every method raises it if a request fails. No request passes a proxy: it would see the token.
    """

    def __init__(self, address: str) -> None:
        self.address = _checked(address)
        add_direct_hosts(host_of(self.address))  # for Ray's client, which uses requests
        present_token()
        _check_ray_version(self.address)

    @cached_property
    def _client(self) -> Any:
        from ray.job_submission import JobSubmissionClient

        with _translated_errors(self.address), patch.dict(os.environ):
            for name in OTHER_ADDRESSES:
                os.environ.pop(name, None)
            client = JobSubmissionClient(self.address)
            for name in UPLOAD_LOGGERS:
                logging.getLogger(name).setLevel(logging.WARNING)
            return client

    def submit(
        self,
        study: str,
        arguments: Sequence[str],
        *,
        files: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Job:
        """Start ``injerto ARGUMENTS`` on the cluster's head, with this machine's code, and return the job without waiting for its end.

        `study` is the study that the command is about; the job is listed under it. `files` (name → text) are put into the job's working
        folder. `metadata` is added to the job's metadata and `environment` to the command's variables; both replace equal keys of our own.
        """
        id = f"injerto-{study}-{arguments[0]}-{secrets.token_hex(3)}"
        with _translated_errors(self.address), TemporaryDirectory() as folder:
            work = Path(folder, "work")
            work.mkdir()
            (work / ".injerto").write_text(id, encoding="utf-8")  # Ray does not upload an empty folder
            for name, text in (files or {}).items():
                (work / name).write_text(text, encoding="utf-8")
            self._client.submit_job(
                entrypoint=shlex.join(["python", "-m", "search.cli", *arguments]),
                submission_id=id,
                metadata={STUDY: study, COMMAND: arguments[0], VERSION: version(), **(metadata or {})},
                runtime_env={
                    "working_dir": str(work),
                    "py_modules": copy_code(Path(folder)),
                    "env_vars": worker_environment(host_of(self.address))
                    | {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS), **(environment or {})},
                },
            )
        return self.job(id)

    def jobs(self) -> list[Job]:
        """Return the jobs that `submit` has created, from any machine, the latest first; other jobs of the cluster are left out."""
        with _translated_errors(self.address):
            jobs = [_job(details) for details in self._client.list_jobs() if STUDY in (details.metadata or {})]
        return sorted(jobs, key=lambda job: job.began or 0.0, reverse=True)

    def job(self, id: str) -> Job:
        """Return the job with this id, in its present state. Raises ``ResourceError`` if the cluster has no such job."""
        with _translated_errors(self.address):
            return _job(self._client.get_job_info(id))

    def find(self, name: str) -> Job:
        """Return the job whose id is `name`, or the latest ``search`` or ``resume`` job of the study `name`.

        A failed job is returned only if the study has no other: a search also fails if the name of its study is taken.
        Raises ``ResourceError`` if there is no such job or study.
        """
        jobs = self.jobs()
        if named := [job for job in jobs if job.id == name or (job.study == name and job.command in SEARCHES)]:
            return min(named, key=lambda job: job.failed)  # `min` keeps the order of equals, so the latest one
        known = sorted({job.study for job in jobs})
        hint = f"its studies are {', '.join(known)}" if known else "no search was submitted to it"
        raise ResourceError(f"no job and no study {name!r} on the cluster at {self.address}; {hint}")

    def logs(self, id: str) -> str:
        """Return what a job has printed so far, without the lines that Ray writes at the top of its log."""
        with _translated_errors(self.address):
            return RAY_LOG_LINES.sub("", str(self._client.get_job_logs(id)))

    def stream_logs(self, id: str) -> Iterator[str]:
        """Yield what a job has printed, then each new part, asking every second until it has ended."""
        seen = 0
        while True:
            ended = self.job(id).has_ended
            text = self.logs(id)
            if len(text) > seen:
                yield text[seen:]
                seen = len(text)
            if ended:
                return
            time.sleep(POLL_SECONDS)

    def wait(self, id: str) -> Job:
        """Ask every second until a job has ended, with or without success, and return it. There is no time limit."""
        while not (job := self.job(id)).has_ended:
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


class _NoRedirects(HTTPRedirectHandler):
    """Follow no redirection: the token must not go to another address."""

    def redirect_request(self, *arguments: Any) -> None:
        """Return None, so that ``urllib`` raises ``HTTPError`` for a redirection."""


def _checked(address: str) -> str:
    """Return an address as ``http(s)://host:port``, without its path; ``http`` is added if it names no scheme.

    Raises ``ResourceError`` if it is not such an address, or if it holds a user name or a password.
    """
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and not re.search(r"[^!-~]", parts.netloc)
    except ValueError:  # the message repeats no part of the text: it may hold a password
        raise ResourceError(f"the given text is no address of a Ray dashboard; give one such as {EXAMPLE}") from None
    if not usable:
        raise ResourceError(f"{address!r} is no address of a Ray dashboard; give one such as {EXAMPLE}")
    if parts.password or parts.username:
        raise ResourceError(
            f"the address of {parts.hostname} holds a password; leave it out: the token in {token_file()} gives access to the cluster"
        )
    return f"{parts.scheme}://{parts.netloc}"


def _check_ray_version(address: str) -> None:
    """Ask the dashboard at this address for its version of Ray, with a timeout of 10 s.

    Raises ``ResourceError`` if nothing answers, if what answers is no Ray dashboard, if it does not accept this machine's token, or if
    its version differs from the installed one.
    """
    import ray

    token = read_token()
    request = Request(f"{address}/api/version", headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with build_opener(ProxyHandler({}), _NoRedirects).open(request, timeout=ANSWER_SECONDS) as response:
            theirs = json.loads(response.read(ANSWER_BYTES))["ray_version"]
        if not re.fullmatch(r"[0-9A-Za-z.+-]{1,40}", theirs):
            raise ValueError("no version")
    except HTTPError as error:
        if error.code in (401, 403):
            raise ResourceError(_token_error(address, token)) from None
        raise ResourceError(f"what answers at {address} is no Ray dashboard (HTTP {error.code}); give one such as {EXAMPLE}") from None
    except (ValueError, KeyError, TypeError, RecursionError, HTTPException):
        raise ResourceError(f"what answers at {address} is no Ray dashboard; give one such as {EXAMPLE}") from None
    except (URLError, OSError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise ResourceError(f"no Ray cluster answers at {address} ({reason}); check the address, and whether the cluster is up") from None
    if theirs != ray.__version__:
        raise ResourceError(f"the cluster at {address} runs Ray {theirs}, and here is {ray.__version__}; install the same version here")


def _token_error(address: str, token: str | None) -> str:
    problem = "does not accept the token of this machine" if token else "needs a token, and this machine has none"
    return f"the cluster at {address} {problem}; copy the cluster's to {token_file()}, readable by you alone"


@contextmanager
def _translated_errors(address: str) -> Iterator[None]:
    """Within the block, turn errors of Ray's client and of the file system into ``ResourceError`` that names the cluster's address."""
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError:
        raise ResourceError(_token_error(address, read_token())) from None
    except (ConnectionError, RuntimeError, OSError) as error:
        text = " ".join(str(error).split())
        raise ResourceError(f"a request to the cluster at {address} failed: {text[:300]}") from None
