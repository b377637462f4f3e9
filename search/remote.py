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
    """Upload the settings, run a search (or ``doctor``) as a job on the cluster, and return the job without waiting for it.

    `address` is that of the cluster's dashboard. A path in the settings must name the same place on the cluster as here. The record is on
    the server that `config.storage` or ``INJERTO_STORAGE`` names; without one, the head uses its own. Raises ``InjertoError`` for settings
    that cannot work there, and if the cluster does not answer.
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
    """Ask a search on a cluster to pause, or with `finish` to end; return whether that succeeded, and what the command printed there.

    It runs ``injerto stop`` as a job on the cluster and waits for its end. `storage` is the URL of the record, if it is not that of the
    job.
    """
    jobs = Jobs(address)
    study, job = _find(jobs, name)
    command = ["stop", study, *(["--finish"] if finish else []), *_storage_option(job, storage)]
    done = jobs.wait(jobs.submit(study, command).id)
    output = jobs.logs(done.id).strip()
    return done.state == "SUCCEEDED", output.replace(f"injerto resume {study}", f"injerto resume {study} --address {jobs.address}")


def resume(name: str, address: str, options: list[str], *, storage: str | None = None) -> Job:
    """Resume a search on a cluster and return its new job without waiting for it; `options` are those of ``injerto resume``.

    `storage` is the URL of the record, if it is not that of the earlier job. Raises ``StorageError`` if the search is still running.
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

    If its record is on a server that this machine can read, this shows the view of ``injerto status --watch``. Otherwise it passes the
    job's output to `write`, part by part.
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
    """Wait until the study of a job is in the record at `url`, and return True.

    Return False if the job ends before that, or if the record cannot be opened from this machine.
    """
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
    """Wait until a job has printed something or ended, at most `seconds`; return the job's latest state and all its output.

    If the output holds an error, it waits for the end, too, so that the caller learns that a command was refused.
    """
    jobs, deadline, output = Jobs(address), time.monotonic() + seconds, ""
    while not job.has_ended and time.monotonic() < deadline and (not output.strip() or ERROR_LINE.search(output)):
        time.sleep(POLL_SECONDS / 2)
        job, output = jobs.job(job.id), jobs.logs(job.id)
    return job, jobs.logs(job.id)


def _find(jobs: Jobs, name: str) -> tuple[str, Job | None]:
    """Return the study that a name or a job's id means, and its job.

    The job is None if the cluster knows no such job, because it was newly created: then only the record knows the study. Raises
    ``ConfigError`` if the name cannot be that of a study.
    """
    try:
        job = jobs.find(name)
    except ResourceError:
        return str(validate(SearchConfig, {"name": name}).name), None
    return job.study, job


def _storage_option(job: Job | None, storage: str | None) -> list[str]:
    """Return ``--storage URL`` for a command on the cluster: the given URL, else the job's; an empty list if the cluster uses its own."""
    known = job.metadata.get(STORAGE_KEY) if job is not None else _server_url(os.environ.get("INJERTO_STORAGE"), named=False)
    url = _server_url(storage, named=True) if storage else known
    return ["--storage", url] if url else []


def _metadata(storage: str | None) -> dict[str, str]:
    return {STORAGE_KEY: storage} if storage else {}


def _server_url(url: str | None, *, named: bool) -> str | None:
    """Return the absolute URL of a record that a cluster can use, None if the cluster uses its own.

    `named` tells that a setting or an option gave the URL, and not the environment. A SQLite file counts only then, because the one in the
    environment is this machine's. Raises ``ConfigError`` for a relative file, and for a password, because Ray shows a job's command and
    environment to everyone who may see the cluster.
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
