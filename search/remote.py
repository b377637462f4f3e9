"""Searches on a cluster, controlled from a machine that has only the cluster's address and token: submit, watch, pause, resume."""

import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sqlalchemy.engine import make_url

from cluster.jobs import Job, Jobs
from search.config import SearchConfig
from search.paths import resolve_paths
from search.record.store import resolve_url, without_password
from search.record.study_names import fresh_name
from trainables.config import to_yaml, validate
from trainables.errors import ConfigError, InjertoError, ResourceError, StorageError
from trainables.storage.secrets import redact

CONFIG_FILE = "study.yaml"
STORAGE_KEY = "injerto_storage"
"""Key of a job's metadata: the URL of its record, without a password."""
DEFAULT_OUTPUT = SearchConfig.model_fields["output"].default
HOME_OUTPUT = Path("~") / DEFAULT_OUTPUT
"""The default output folder on the head: a job's working folder belongs to Ray and is deleted with the cluster."""
POLL_SECONDS = 2.0
FIRST_OUTPUT_SECONDS = 60.0
ERROR_LINE = re.compile(r"^(error: |Traceback )", re.MULTILINE)
Write = Callable[[str], None]


def submit(config: SearchConfig, address: str, command: str = "search") -> Job:
    """Run a search (or ``doctor``) on a cluster and return its job. Raises ``InjertoError`` for what cannot work there.

    A path in the settings must name the same place on the cluster as here. The record is on the server that `config.storage` or
    ``INJERTO_STORAGE`` names; without one, the head uses its own.
    """
    storage = _server_url(config.storage or os.environ.get("INJERTO_STORAGE"), named=config.storage is not None)
    resolved = resolve_paths(config)
    if redact(text := to_yaml(config)) != text:
        raise ConfigError("a URL in the settings holds a password or a key, and they are uploaded to the cluster; leave it out")
    jobs = Jobs(address)
    name = config.name or fresh_name(job.study for job in jobs.jobs())
    output = HOME_OUTPUT if config.output == DEFAULT_OUTPUT else resolved.output
    resources = config.resources.model_copy(update={"address": None})  # a job runs inside the cluster that it uses
    sent = resolved.model_copy(update={"name": name, "output": output, "storage": storage, "resources": resources})
    return jobs.submit(name, [command, CONFIG_FILE], files={CONFIG_FILE: to_yaml(sent)}, metadata=_metadata(storage))


def pause(name: str, address: str, *, finish: bool = False, storage: str | None = None) -> tuple[bool, str]:
    """Ask a search on a cluster to pause, or to end; return whether the command succeeded there, and what it printed."""
    jobs = Jobs(address)
    study, job = _find(jobs, name)
    command = ["stop", study, *(["--finish"] if finish else []), *_storage_option(job, storage)]
    done = jobs.wait(jobs.submit(study, command).id)
    output = jobs.logs(done.id).strip()
    return done.state == "SUCCEEDED", output.replace(f"injerto resume {study}", f"injerto resume {study} --address {jobs.address}")


def resume(name: str, address: str, options: list[str], *, storage: str | None = None) -> Job:
    """Resume a search on a cluster and return its job; `options` are those of ``injerto resume``.

    Raises ``StorageError`` if the search is still running.
    """
    jobs = Jobs(address)
    study, job = _find(jobs, name)
    if job is not None and not job.has_ended:
        stop = f"injerto stop {study} --address {jobs.address}"
        raise StorageError(f"the search {study!r} still runs there (job {job.id}); pause it first: {stop}")
    at = _storage_option(job, storage)
    return jobs.submit(study, ["resume", study, *options, *at], metadata=_metadata(at[1] if at else None))


def watch_job(job: Job, address: str, write: Write) -> Job:
    """Show a job until it has ended, and return it in its final state.

    If its record is on a server that this machine can read, this shows the view of ``injerto status --watch``; else the job's output.
    """
    jobs, url = Jobs(address), job.metadata.get(STORAGE_KEY)
    if url and _wait_until_recorded(jobs, job, url):
        from search.display.status_watch import watch_status

        watch_status(job.study, url)
        return jobs.wait(job.id)
    for text in jobs.stream_logs(job.id):
        write(text)
    return jobs.job(job.id)


def _wait_until_recorded(jobs: Jobs, job: Job, url: str) -> bool:
    """Wait until a job's study is in its record, or the job has ended; return whether the study can be read from here."""
    from search.record.store import list_study_names, open_storage

    storage = None
    while not jobs.job(job.id).has_ended:
        with suppress(InjertoError):
            storage = storage or open_storage(url)
            if job.study in list_study_names(storage):
                return True
        if storage is None:
            return False
        time.sleep(POLL_SECONDS)
    return False


def wait_for_output(job: Job, address: str, seconds: float = FIRST_OUTPUT_SECONDS) -> tuple[Job, str]:
    """Wait until a job has printed something or ended, at most `seconds`; return the job and its output.

    After an error is printed it waits for the end, so that a command that is refused fails at once.
    """
    jobs, deadline, output = Jobs(address), time.monotonic() + seconds, ""
    while not job.has_ended and time.monotonic() < deadline and (not output.strip() or ERROR_LINE.search(output)):
        time.sleep(POLL_SECONDS / 2)
        job, output = jobs.job(job.id), jobs.logs(job.id)
    return job, jobs.logs(job.id)


def _find(jobs: Jobs, name: str) -> tuple[str, Job | None]:
    """Return the study that a name or a job's id means, and its job; None on a newly created cluster, where only the record knows it."""
    try:
        job = jobs.find(name)
    except ResourceError:
        return str(validate(SearchConfig, {"name": name}).name), None
    return job.study, job


def _storage_option(job: Job | None, storage: str | None) -> list[str]:
    """Return ``--storage URL`` for a command on the cluster: the given URL, else the job's; empty if the cluster uses its own."""
    known = job.metadata.get(STORAGE_KEY) if job is not None else _server_url(os.environ.get("INJERTO_STORAGE"), named=False)
    url = _server_url(storage, named=True) if storage else known
    return ["--storage", url] if url else []


def _metadata(storage: str | None) -> dict[str, str]:
    return {STORAGE_KEY: storage} if storage else {}


def _server_url(url: str | None, *, named: bool) -> str | None:
    """Return the URL of a record that a cluster can use, None if the cluster uses its own.

    A SQLite file counts only if an option names it (`named`), because the one in the environment is this machine's. Raises ``ConfigError``
    for a relative file, and for a password, because Ray shows a job's command and environment to everyone who may see the cluster.
    """
    if url is None:
        return None
    resolved = resolve_url(url)
    parsed = make_url(resolved)
    if parsed.get_backend_name() == "sqlite":
        if not named:
            return None
        if make_url(url).database != parsed.database:
            raise ConfigError(f"the storage {url} is relative to a folder of this machine; give a path that the cluster has, or a server")
        return resolved
    if (public := without_password(resolved)) != resolved:
        raise ConfigError(
            f"the storage {public} was given with a password, which Ray's job page would show; leave it out of the URL, and let "
            "the nodes have it from a file that PGPASSFILE names, or from a mounted secret"
        )
    return resolved
