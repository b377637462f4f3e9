"""Sets the variables that exempt addresses from HTTP proxies: this machine, the cluster, and the metadata services of clouds.

A proxy reads every HTTP request that passes it, the cluster's token included. Programs read the same variables by different rules:

- urllib, requests, aiohttp and curl prefer ``no_proxy`` to ``NO_PROXY``; other programs read one of the two only, so both are set.
- requests and curl accept address ranges such as 127.0.0.0/8; urllib compares whole names and addresses, and the ends of names.
- gRPC reads ``no_grpc_proxy`` in place of ``no_proxy`` where it is set. (Ray turns proxies off for its own gRPC connections.)
- ``*`` alone exempts every address, but not as one of several entries, and not for gRPC. So it becomes an environment without proxies.
- urllib keeps the brackets of an IPv6 address.

``python -P -m cluster.proxies HOST...`` prints the changed variables for a shell script.
"""

import os
import shlex
import sys
from collections.abc import Mapping, MutableMapping
from urllib.parse import urlsplit

PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")
THIS_MACHINE = ("localhost", "127.0.0.1", "127.0.0.2", "::1", "[::1]", "0.0.0.0", "ip6-localhost", "127.0.0.0/8")
CLOUD_METADATA = ("169.254.169.254", "169.254.170.2", "fd00:ec2::254", "metadata.google.internal")
"""Where programs in a cloud ask for credentials and for facts about their machine; meant for that machine alone."""
DIRECT = (*THIS_MACHINE, *CLOUD_METADATA)


def proxy_is_set(environment: Mapping[str, str]) -> bool:
    """Return whether one of an environment's proxy variables, such as ``http_proxy`` or ``HTTP_PROXY``, is set and not empty."""
    return any(environment.get(name) or environment.get(name.upper()) for name in PROXY_VARIABLES)


def add_direct_hosts(*hosts: str, environment: MutableMapping[str, str] | None = None) -> None:
    """Add this machine, cloud metadata services and `hosts` to the exemptions from proxies in an environment, which is changed in place.

    It is this process's environment by default. The user's own exemptions stay, and all other addresses keep their proxy.
    Where the user exempts every address (``*``), the proxy variables are removed instead.
    Without a proxy nothing changes: on macOS and Windows ``no_proxy`` alone would hide the system's proxy from Python.
    """
    environment = os.environ if environment is None else environment
    if not proxy_is_set(environment):
        return
    lower, upper = environment.get("no_proxy", ""), environment.get("NO_PROXY", "")
    if (lower or upper).strip() == "*":
        for name in PROXY_VARIABLES:
            for spelling in (name, name.upper()):
                environment.pop(spelling, None)
        return
    environment["no_proxy"] = _extended(lower or upper, hosts)
    environment["NO_PROXY"] = _extended(upper or lower, hosts)
    if value := environment.get("no_grpc_proxy"):
        environment["no_grpc_proxy"] = _extended(value, hosts)


def host_of(address: str) -> str:
    """Return the host of ``host:port``, ``[::1]:port`` or a URL, without brackets, in lower case; empty if it has none."""
    try:
        return urlsplit(address if "://" in address else f"//{address}").hostname or ""
    except ValueError:
        return ""


def worker_exemptions(*hosts: str) -> dict[str, str]:
    """Return ``no_proxy`` and ``NO_PROXY`` for Ray's ``env_vars`` with the exemptions of `add_direct_hosts`; empty without a proxy here.

    Ray replaces ``${NAME}`` by the node's own value of that variable, so that exemptions of the node stay; only a node's ``*``, which has
    no meaning as one of several entries, does not.
    """
    if not proxy_is_set(os.environ):
        return {}
    value = _extended("${no_proxy},${NO_PROXY}", hosts)
    return {"no_proxy": value, "NO_PROXY": value}


def _extended(value: str, hosts: tuple[str, ...]) -> str:
    return ",".join(dict.fromkeys(entry for entry in (*(part.strip() for part in value.split(",")), *DIRECT, *hosts) if entry))


def main() -> None:
    """Print shell lines that exempt this machine and the hosts on the command line from proxies; nothing without a proxy."""
    environment = dict(os.environ)
    add_direct_hosts(*sys.argv[1:], environment=environment)
    for name, value in environment.items():
        if value != os.environ.get(name):
            print(f"export {name}={shlex.quote(value)}")
    if removed := [name for name in os.environ if name not in environment]:
        print(f"unset {' '.join(removed)}")


if __name__ == "__main__":
    main()
