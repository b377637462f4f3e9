"""Whether a host is this machine itself, so that no request to it may pass a proxy. Light to import."""

from ipaddress import IPv6Address, ip_address

NAMES = ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")


def is_loopback(host: str) -> bool:
    """Return whether a host name or address, without brackets and port, is this machine: 127.0.0.0/8, ::1, 0.0.0.0, or a name of it."""
    name = host.rstrip(".").lower()
    if name in NAMES or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback or (mapped or address).is_unspecified
