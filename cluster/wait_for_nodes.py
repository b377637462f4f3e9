"""Waits in batch scripts until all nodes have joined a cluster: ``python -P -m cluster.wait_for_nodes HOST:PORT NODES SECONDS``."""

import sys
import time

from cluster.connect import connect, node_states
from trainables.errors import InjertoError, ResourceError

POLL_SECONDS = 1.0


def wait_for_nodes(address: str, count: int, seconds: float) -> int:
    """Wait until at least `count` nodes, the head included, are alive in the Ray cluster at `address`; return how many are alive.

    A cluster that cannot be joined yet is tried again. Raises ``ResourceError`` if there are fewer than `count` nodes after `seconds`.
    """
    deadline, joined, problem = time.monotonic() + seconds, 0, ""
    while time.monotonic() < deadline:
        try:
            with connect(address):
                while time.monotonic() < deadline:
                    joined = sum(node["alive"] for node in node_states())
                    if joined >= count:
                        return joined
                    time.sleep(POLL_SECONDS)
        except ResourceError as error:
            problem = f" ({error})"
            time.sleep(POLL_SECONDS)
    raise ResourceError(f"{joined} of {count} nodes have joined {address} after {seconds:g} s{problem}; read what Ray printed above")


def main() -> None:
    """Wait as the command line says and print the number of nodes; on failure exit with code 1 and one line on standard error."""
    address, count, seconds = sys.argv[1:]
    try:
        print(f"{wait_for_nodes(address, int(count), float(seconds))} nodes have joined")
    except InjertoError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
