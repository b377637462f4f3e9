"""Searches on a cluster from a machine that has only its address and token: submit, list, read, pause, go on."""

import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sqlalchemy.engine import make_url

from cluster.jobs import Job, Jobs
from search.config import SearchConfig
from search.plan import absolute
from search.record.store import fresh_name, resolve_url, shown
from trainables.config import to_yaml, validate
from trainables.errors import ConfigError, InjertoError, ResourceError, StorageError
from trainables.storage.locations import shown as without_secrets

FILE = "study.yaml"
STORAGE = "injerto_storage"
"""Key of a job's metadata: the URL of its record, without a password."""
DEFAULT_OUTPUT = SearchConfig.model_fields["output"].default
HOME_OUTPUT = Path("~") / DEFAULT_OUTPUT
"""Where results go on the head where nobody said so: a job's working folder is Ray's, and goes with the cluster."""
POLL_SECONDS = 2.0
BEGIN_SECONDS = 60.0
WRONG = re.compile(r"^(error: |Traceback )", re.MULTILINE)
Write = Callable[[str], None]


def submit(config: SearchConfig, address: str, command: str = "search") -> Job:
    """Have a cluster run a search (or its ``doctor``), and return its job. Raises ``InjertoError`` for what cannot work there.

    Paths mean the same on the cluster as here; the record is where `config.storage` or ``INJERTO_STORAGE`` names a server, else where
    the head keeps its own.
    """
    storage = _server(config.storage or os.environ.get("INJERTO_STORAGE"), named=config.storage is not None)
    fixed = absolute(config)
    if without_secrets(written := to_yaml(config)) != written:
        raise ConfigError("a URL in the settings holds a password or a key, and they are uploaded to the cluster; leave it out")
    jobs = Jobs(address)
    name = config.name or fresh_name(job.study for job in jobs.jobs())
    output = HOME_OUTPUT if config.output == DEFAULT_OUTPUT else fixed.output
    resources = config.resources.model_copy(update={"address": None})  # on the cluster it is the cluster
    sent = fixed.model_copy(update={"name": name, "output": output, "storage": storage, "resources": resources})
    return jobs.submit(name, [command, FILE], files={FILE: to_yaml(sent)}, about=_about(storage))


def pause(name: str, address: str, *, finish: bool = False, storage: str | None = None) -> tuple[bool, str]:
    """Ask a search on a cluster to pause or to end; return whether that went well, and what it answered."""
    jobs = Jobs(address)
    study, known = _study(jobs, name)
    well, said = _ask(jobs, study, ["stop", study, *(["--finish"] if finish else []), *_storage_option(known, storage)])
    return well, said.replace(f"injerto resume {study}", f"injerto resume {study} --address {jobs.address}")


def resume(name: str, address: str, options: list[str], *, storage: str | None = None) -> Job:
    """Have a cluster go on with a search; `options` are those of ``injerto resume``."""
    jobs = Jobs(address)
    study, known = _study(jobs, name)
    if known is not None and not known.over:
        stop = f"injerto stop {study} --address {jobs.address}"
        raise StorageError(f"the search {study!r} still runs there (job {known.id}); pause it first: {stop}")
    given = _storage_option(known, storage)
    return jobs.submit(study, ["resume", study, *options, *given], about=_about(given[1] if given else None))


def follow(job: Job, address: str, write: Write) -> Job:
    """Show how a job goes until it has ended, and return it as it ended.

    Where its record is a server that answers here it is the view of ``injerto status --watch``, else what it prints, as it comes.
    """
    jobs, url = Jobs(address), job.metadata.get(STORAGE)
    if url and _appears(jobs, job, url):
        from search.display.status_watch import follow as watch

        watch(job.study, url)
        return jobs.wait(job.id)
    for text in jobs.follow(job.id):
        write(text)
    return jobs.job(job.id)


def _appears(jobs: Jobs, job: Job, url: str) -> bool:
    """Wait until a job's study is in its record; say whether it is, and can be read here."""
    from search.record.store import names, open_storage

    storage = None
    while not jobs.job(job.id).over:
        with suppress(InjertoError):
            storage = storage or open_storage(url)
            if job.study in names(storage):
                return True
        if storage is None:
            return False
        time.sleep(POLL_SECONDS)
    return False


def begun(job: Job, address: str, seconds: float = BEGIN_SECONDS) -> tuple[Job, str]:
    """Wait until a job has said something or ended, and return it and what it has said: what is refused is refused at once.

    One that has said that something is wrong is about to end.
    """
    jobs, until, said = Jobs(address), time.monotonic() + seconds, ""
    while not job.over and time.monotonic() < until and (not said.strip() or WRONG.search(said)):
        time.sleep(POLL_SECONDS / 2)
        job, said = jobs.job(job.id), jobs.logs(job.id)
    return job, jobs.logs(job.id)


def _study(jobs: Jobs, name: str) -> tuple[str, Job | None]:
    """Return the study that a name stands for, and its job; a cluster that was begun anew knows of none, but its record may."""
    try:
        job = jobs.find(name)
    except ResourceError:
        return str(validate(SearchConfig, {"name": name}).name), None
    return job.study, job


def _ask(jobs: Jobs, study: str, arguments: list[str]) -> tuple[bool, str]:
    """Run a short command where the record is, and return whether it went well and what it printed."""
    asked = jobs.wait(jobs.submit(study, arguments).id)
    return asked.state == "SUCCEEDED", jobs.logs(asked.id).strip()


def _storage_option(job: Job | None, storage: str | None) -> list[str]:
    known = job.metadata.get(STORAGE) if job is not None else _server(os.environ.get("INJERTO_STORAGE"), named=False)
    url = _server(storage, named=True) if storage else known
    return ["--storage", url] if url else []


def _about(storage: str | None) -> dict[str, str]:
    return {STORAGE: storage} if storage else {}


def _server(url: str | None, *, named: bool) -> str | None:
    """Return the URL of a record that a cluster can use, None where it shall use its own.

    A password is refused: Ray shows a job's command and its environment to whoever may see the cluster. So is a file named relative to
    this machine's folder; one that only the environment names is this machine's own, and left out.
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
    if shown(resolved) != resolved:
        raise ConfigError(
            f"the storage {shown(resolved)} was given with a password, which Ray's job page would show; leave it out of the URL, and let "
            "the nodes have it from a file that PGPASSFILE names, or from a mounted secret"
        )
    return resolved
