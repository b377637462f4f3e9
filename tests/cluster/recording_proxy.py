"""An HTTP proxy for tests that answers nothing and records who was asked for."""

import socket
import threading
from contextlib import contextmanager

PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")


class RecordingProxy:
    """`requests` holds the first bytes of every connection, such as ``GET http://head:8265/api/version HTTP/1.1`` and its headers."""

    def __init__(self, listener):
        self.listener, self.requests = listener, []
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"

    def environment(self):
        """The variables that name this proxy, in both spellings."""
        return {name: self.url for lower in PROXY_VARIABLES for name in (lower, lower.upper())}

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.record, args=(connection,), daemon=True).start()

    def record(self, connection):
        with connection:
            connection.settimeout(10)
            try:
                self.requests.append(connection.recv(4096).decode(errors="replace"))
                connection.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            except OSError as error:
                self.requests.append(repr(error))


@contextmanager
def recording_proxy():
    """Serve a recording proxy on loopback for the length of the block."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = RecordingProxy(listener)
        threading.Thread(target=proxy.serve, daemon=True).start()
        yield proxy
