import os
import subprocess
import sys

import pytest

from cluster.environment import ALLOCATOR, REPORT_URL, set_environment, worker_environment
from tests.cluster.recording_proxy import recording_proxy
from tests.paths import REPOSITORY


@pytest.mark.parametrize(
    ("value", "expected"), [("0", "0"), ("1", "1"), ("true", "1"), ("Yes", "1"), ("false", "0"), ("off", "0"), ("", "0"), ("perhaps", "0")]
)
def test_usage_statistics_have_a_spelling_that_ray_accepts(value, expected):
    environment = {"RAY_USAGE_STATS_ENABLED": value}
    set_environment(environment=environment)
    assert environment["RAY_USAGE_STATS_ENABLED"] == expected


def test_usage_statistics_are_off_unless_the_user_turns_them_on():
    off, on = {}, {"RAY_USAGE_STATS_ENABLED": "1"}
    for environment in (off, on):
        set_environment(environment=environment)
    assert (off["RAY_USAGE_STATS_ENABLED"], on["RAY_USAGE_STATS_ENABLED"]) == ("0", "1")
    assert REPORT_URL not in on


REPORT_THAT_THEY_ARE_OFF = """
from cluster.environment import set_environment
set_environment()
from ray._common.usage import usage_lib

assert not usage_lib.usage_stats_enabled()
try:
    usage_lib.UsageReportClient().report_usage_data(usage_lib._usage_stats_report_url(), usage_lib.generate_disabled_report_data())
except Exception as error:
    print(type(error).__name__)
"""


def test_ray_cannot_report_that_usage_statistics_are_off():
    """The head of a cluster with `ray start` does this once, and ignores its errors."""
    unset = ("RAY_USAGE_STATS_ENABLED", REPORT_URL)
    inherited = {name: value for name, value in os.environ.items() if name not in unset}
    with recording_proxy() as proxy:
        done = subprocess.run(
            [sys.executable, "-c", REPORT_THAT_THEY_ARE_OFF],
            capture_output=True,
            text=True,
            timeout=60,
            env=inherited | proxy.environment(),
            cwd=REPOSITORY,
        )
    assert done.stdout == "InvalidSchema\n", done.stderr
    assert proxy.requests == []


def test_workers_keep_freed_memory_here_and_on_a_joined_cluster(monkeypatch):
    here: dict[str, str] = {"GLIBC_TUNABLES": "glibc.malloc.check=1"}
    set_environment(environment=here)
    assert here["MALLOC_TRIM_THRESHOLD_"] == str(1 << 31)
    assert here["GLIBC_TUNABLES"] == "glibc.malloc.check=1", "what the user has set stays"
    for name in ALLOCATOR:
        monkeypatch.delenv(name, raising=False)
    assert worker_environment().items() >= ALLOCATOR.items()
