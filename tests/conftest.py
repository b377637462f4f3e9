"""What every test shares: small image sets, a cache of its own, one Ray a session."""

import logging
import os
import uuid
from pathlib import Path

import pytest

from cluster.connect import ENVIRONMENT, LOOPBACK

for name, value in (ENVIRONMENT | {"OMP_NUM_THREADS": "1"}).items():
    os.environ.setdefault(name, value)  # before any test imports Ray, which reads some of them once


LONGEST = ("test_readme.py", "test_cluster.py", "test_launch.py", "test_cli.py", "test_bridge.py")


def pytest_collection_modifyitems(items):
    """Begin with the longest files, so that the last of them does not run alone."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Caches and studies of the tests stay out of the user's folders."""
    root = tmp_path_factory.mktemp("injerto")
    os.environ["INJERTO_CACHE"] = str(root / "cache")
    os.environ["INJERTO_STORAGE"] = f"sqlite:///{root}/studies.db"
    return root


@pytest.fixture(scope="session")
def real_data():
    """The folder of real image sets; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("INJERTO_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("the real image sets are not here; name their folder in INJERTO_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def ray_session(own_cache):
    """One Ray of two processors for all tests that search in this process: `connect` uses the Ray that a process has."""
    import ray

    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _node_ip_address=LOOPBACK,
    )
    yield ray
    ray.shutdown()


@pytest.fixture(scope="session")
def bucket_server():
    """A real S3 server on loopback; gives the part of a URL that leads to it."""
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
