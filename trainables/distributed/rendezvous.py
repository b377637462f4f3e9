"""How the processes of a `World` connect to each other, over a TCP store that rank 0 opens, and how they disconnect."""

import os
import socket
from contextlib import suppress
from datetime import timedelta

import psutil
import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from trainables.distributed.world import World

TIMEOUT = timedelta(minutes=5)
"""How long a process waits for the others in one exchange. All do the same work at the same time, so a longer wait means that one hangs."""


def open_store(address: str, world: World) -> TCPStore:
    """Open and return the store through which the processes of a world find each other. Only rank 0 calls this.

    The store listens on a free port of `address`, one of this machine's, and on no other address.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.create_server((address, 0), family=family)
    port = listener.getsockname()[1]
    handle = listener.detach()
    return TCPStore(address, port, world.size, True, timeout=TIMEOUT, wait_for_workers=False, master_listen_fd=handle)


def connect_store(address: str, port: int, world: World) -> TCPStore:
    """Connect to the store that rank 0 has opened at this address and port, and return it. Waits at most `TIMEOUT`."""
    return TCPStore(address, port, world.size, False, timeout=TIMEOUT)


def join_process_group(world: World, store: TCPStore, own_address: str, *, cuda: bool) -> None:
    """Connect this process to the others of its world; returns when all have called it.

    GPU tensors are exchanged by NCCL (only with `cuda`), CPU tensors by Gloo, over the network interface that has `own_address`.
    """
    if interface := _interface(own_address):
        # Otherwise Gloo uses the address that the host's name resolves to, which other machines often cannot reach.
        for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(variable, interface)
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    dist.init_process_group(backend, store=store, rank=world.rank, world_size=world.size, timeout=TIMEOUT)


def abort_exchange() -> None:
    """End the exchange that another thread of this process waits in; do nothing if this process is not connected.

    Only NCCL needs it: Gloo's exchanges end when a connection breaks.
    """
    if dist.is_initialized() and dist.group.WORLD is not None:
        dist.group.WORLD.abort()


def leave_process_group(*, failed: bool = False) -> None:
    """Disconnect this process from the others; do nothing if it is not connected.

    With `failed` it waits for no other process and raises no error, and the exchanges that the others wait in raise an error there.
    """
    if not dist.is_initialized():
        return
    if not failed:
        dist.destroy_process_group()
        return
    with suppress(Exception):  # a broken group may raise while it is destroyed
        abort_exchange()
        dist.destroy_process_group()


def _interface(address: str) -> str | None:
    """Return the name of the network interface that has an address, or None. All of 127.0.0.0/8 belongs to the one that has 127.0.0.1."""
    interfaces = {entry.address: name for name, entries in psutil.net_if_addrs().items() for entry in entries}
    return interfaces.get("127.0.0.1" if address.startswith("127.") else address)
