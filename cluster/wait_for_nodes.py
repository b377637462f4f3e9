"""Waiting until a cluster is complete: ``python -P -m cluster.wait_for_nodes HOST:PORT NODES SECONDS``, for batch scripts."""

import sys
import time

from cluster.connect import connect, nodes
from trainables.errors import InjertoError, ResourceError

LOOK_SECONDS = 1.0


def wait_for(address: str, count: int, seconds: float) -> int:
    """Return how many nodes have joined the Ray at `address`, once they are `count`.

    Raises ``ResourceError`` where they are fewer after so many seconds.
    """
    until, joined = time.monotonic() + seconds, 0
    problem = ""
    while time.monotonic() < until:
        try:
            with connect(address):
                while time.monotonic() < until:
                    joined = sum(node["alive"] for node in nodes())
                    if joined >= count:
                        return joined
                    time.sleep(LOOK_SECONDS)
        except ResourceError as error:
            problem = f" ({error})"
            time.sleep(LOOK_SECONDS)
    raise ResourceError(f"{joined} of {count} nodes have joined {address} after {seconds:g} s{problem}; look at what Ray says above")


def main() -> None:
    """Wait, and exit with 1 and a line on standard error where it was in vain."""
    address, count, seconds = sys.argv[1:]
    try:
        print(f"{wait_for(address, int(count), float(seconds))} nodes have joined")
    except InjertoError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
