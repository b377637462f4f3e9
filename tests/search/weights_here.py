"""Which pretrained weights a test finds on its machine: packages that are installed, files in a cache; and no network."""

import dataclasses
import hashlib
import importlib.util
import socket

from trainables.networks import packaged_weights
from trainables.networks.backbones import BACKBONES, backbone

SERVER = "weights.example"


class WeightsHere:
    """The weights at hand for this process: at first the packages that are installed, and an empty cache. No server of weights answers."""

    def __init__(self, folder, monkeypatch):
        self.requests = []
        """The requests to a server of weights, or to any other computer."""
        self.folder, self._patch, self._resolve = folder / "hub" / "checkpoints", monkeypatch, socket.getaddrinfo
        monkeypatch.setenv("TORCH_HOME", str(folder))
        monkeypatch.setenv("INJERTO_WEIGHTS_URL", f"http://{SERVER}")
        monkeypatch.setattr(socket, "getaddrinfo", self._answer)

    def _answer(self, host, *more, **options):
        if is_this_machine(host):
            return self._resolve(host, *more, **options)
        self.requests.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    def keep_packages(self, *names):
        """Hide all packages of weights but those of the named backbones."""
        kept = {backbone(name).location for name in names}
        self._patch.setattr(packaged_weights, "find_spec", lambda module: importlib.util.find_spec(module) if module in kept else None)

    def publish(self, name):
        """Return content that stands for a backbone's weights, whose file gets the name that goes with it."""
        content = f"the weights of {name}".encode()
        file = f"{name}-{hashlib.sha256(content).hexdigest()[:8]}.pth"
        self._patch.setitem(BACKBONES, name, dataclasses.replace(backbone(name), weights_file=file))
        return content

    def cache(self, name):
        """Put a file that stands for a backbone's weights into the cache."""
        content = self.publish(name)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / backbone(name).weights_file).write_bytes(content)


def is_this_machine(host):
    """Return whether a name or an address is this machine's own: Ray's processes reach each other by them."""
    return host in (None, "localhost", socket.gethostname()) or host.replace(".", "").isdecimal() or ":" in host
