"""What the tests of the cluster share."""

from contextlib import ExitStack

import pytest

from tests.cluster.http_server import http_server


@pytest.fixture
def serve():
    """`serve(status, body)` starts a server as `http_server` does, until the end of the test, and returns its address."""
    with ExitStack() as servers:
        yield lambda *arguments, **options: servers.enter_context(http_server(*arguments, **options))
