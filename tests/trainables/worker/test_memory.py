"""Memory between trials, in a process whose C library keeps freed memory as that of a worker does."""

import os
import platform
import subprocess
import sys

import pytest

from cluster.environment import ALLOCATOR
from tests.paths import REPOSITORY

HOLD_AND_FREE = """
import psutil, torch
from trainables.worker.memory import free_memory

held = lambda: psutil.Process().memory_info().rss >> 20
blocks = [torch.ones(1 << 21) for _ in range(64)]
torch.ones(1)
full = held()
del blocks
kept = held()
free_memory()
print(full, kept, held())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library keeps freed memory")
def test_memory_that_a_trial_has_freed_is_kept_until_the_trial_ends():
    environment = os.environ | ALLOCATOR
    done = subprocess.run(
        [sys.executable, "-c", HOLD_AND_FREE], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True
    )
    full, kept, released = map(int, done.stdout.split())
    assert kept > full - 100, "512 MiB of freed tensors stay with the process"
    assert released < full - 400
