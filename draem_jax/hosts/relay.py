"""A relay between JAX and the first process, so that a process outlives the first one's death.

JAX keeps a connection to the first process. Where that breaks, JAX ends the process on the spot
with a stack trace of its own, before anything could be said or put in order. Behind the relay it
sees a connection that is silent, and the process learns first that the other end is gone.
"""

import contextlib
import socket
import threading
from collections.abc import Callable

_CHUNK = 2**16
# Of a machine that is gone without a word: seconds until the first probe, between two, and probes.
_KEEPALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 20_000}


class Relay:
    """Passes on what comes to a port of this machine, and what is answered.

    Attributes:
        address: "host:port" to connect to in the place of the one behind it.
    """

    def __init__(self, host: str, port: int, *, on_lost: Callable[[], None]):
        """Begins to listen.

        Args:
            host: to pass on to.
            port: of it.
            on_lost: called in a thread of its own when the other end has closed a connection.
        """
        self._behind = (host, port)
        self._on_lost = on_lost
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        _in_background(self._accept)

    def _accept(self) -> None:
        while True:
            near, _ = self._listening.accept()
            try:
                far = socket.create_connection(self._behind)
            except OSError:
                self._on_lost()
                return  # `near` stays open, and silent
            for name, value in _KEEPALIVE.items():
                if hasattr(socket, name):
                    far.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
            far.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for one in (near, far):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _in_background(self._pass_on, near, far)
            _in_background(self._bring_back, far, near)

    def _pass_on(self, near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the other direction tells
            while data := near.recv(_CHUNK):
                far.sendall(data)
            far.shutdown(socket.SHUT_WR)

    def _bring_back(self, far: socket.socket, near: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := far.recv(_CHUNK):
                near.sendall(data)
        self._on_lost()


def _in_background(function: Callable[..., None], *arguments: socket.socket) -> None:
    threading.Thread(target=function, args=arguments, daemon=True, name="relay").start()
