"""What all tests share: their order, caches of their own, one Ray a process, and an S3 server."""

import logging
import os
import signal
import uuid

import pytest

from cluster.environment import ENVIRONMENT, LOOPBACK
from tests.paths import REPOSITORY, real_data_folder

for name, value in (ENVIRONMENT | {"OMP_NUM_THREADS": "1"}).items():
    os.environ.setdefault(name, value)  # before any test imports Ray, which reads some of them once

for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        # A shell's background job and nohup ignore these signals, and each program that the tests start would inherit that.
        signal.signal(number, handler)

RAY_FILES = tuple(
    f"tests/{name}.py"
    for name in (
        *("search/cli/test_interrupt", "search/cli/test_main", "search/display/test_summary", "search/forecast/test_measurement"),
        "search/nodes/test_provision",
        *(f"search/driver/test_{name}" for name in ("bridge", "engine", "launch", "outage", "previews", "refit", "result", "resume")),
        *(f"search/driver/test_{name}" for name in ("search_root", "simulated_faults", "steering", "survival")),
        *(
            "search/record/test_lease",
            "search/record/test_reader",
            "search/record/test_records",
            "search/test_rerun",
        ),
        "trainables/worker/test_replicas",
    )
)
"""Files whose default tests use `ray_session`. One process runs all of them, so that one Ray starts and `finished` searches once."""
PAIR_FILES = (
    *(f"tests/trainables/distributed/test_{name}.py" for name in ("rendezvous", "sync_batch_norm", "world")),
    "tests/trainables/training/test_trainer_in_processes.py",
)
"""Files that share one pair of processes."""
TOGETHER = {path: group for group, paths in {"ray": RAY_FILES, "pair": PAIR_FILES}.items() for path in paths}
FIRST = (
    *RAY_FILES,
    *PAIR_FILES,
    "tests/dashboard/views/test_browser.py",
    "tests/cluster/test_local.py",
    "tests/dashboard/test_app.py",
    "tests/trainables/training/test_trainer.py",
)
"""The files that take longest, so that the last file to run does not run alone."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Order the selected tests: the longest files first. A file that uses Ray must be in `RAY_FILES`."""
    paths = {item: item.path.relative_to(REPOSITORY).as_posix() for item in items}
    for item, path in paths.items():
        if "ray_session" in item.fixturenames and path not in RAY_FILES and item.get_closest_marker("slow") is None:
            raise pytest.UsageError(f"{path} uses Ray; add it to RAY_FILES in tests/conftest.py")
    items.sort(key=lambda item: FIRST.index(paths[item]) if paths[item] in FIRST else len(FIRST))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give each file to one process, and files that belong together to the same one.

    ``--dist loadgroup`` would do this by marks, but pytest-xdist 3.8 does not group under pytest 9.2 (pytest-xdist issue 1386).
    """
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class FilesTogether(LoadFileScheduling):
        def _split_scope(self, nodeid):
            path = super()._split_scope(nodeid)
            return TOGETHER.get(path, path)

    return FilesTogether(config, log)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Keep caches and studies of the tests out of the user's folders."""
    root = tmp_path_factory.mktemp("injerto")
    os.environ["INJERTO_CACHE"] = str(root / "cache")
    os.environ["INJERTO_STORAGE"] = f"sqlite:///{root}/studies.db"
    return root


@pytest.fixture(scope="session")
def real_data():
    """The folder of real image sets; tests that need it are skipped where it is absent."""
    folder = real_data_folder()
    if not folder.is_dir():
        pytest.skip("the real image sets are not here; name their folder in INJERTO_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def ray_session(own_cache):
    """One Ray with two CPUs for all tests of this process that search: `connect` uses the Ray that a process has."""
    import ray

    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _node_ip_address=LOOPBACK,
        _system_config={"num_workers_soft_limit": 4},  # tasks of later searches find a process that has imported torch
    )
    yield ray
    ray.shutdown()


@pytest.fixture(scope="session")
def bucket_server():
    """A real S3 server on loopback; yields the query of a bucket's URL that names it."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"endpoint_override=http://{host}:{port}&region=us-east-1"
    server.stop()


@pytest.fixture
def bucket(bucket_server, monkeypatch):
    """The URL of a new bucket, and credentials for it in the environment."""
    from pyarrow.fs import FileSystem

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    filesystem, path = FileSystem.from_uri(f"s3://{name}?{bucket_server}&allow_bucket_creation=true")
    filesystem.create_dir(path)
    return f"s3://{name}?{bucket_server}"
