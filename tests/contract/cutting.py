"""A line to the gateway that is cut again and again, in the middle of whatever is being told."""

from __future__ import annotations

import random
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

HEAD = b"\r\n\r\n"
HURRIED = (b"retry: 1000\n", b"retry: 0020\n")
"""What a reader is told of its patience, and what it is told here, so that a test need not have any."""
NOW = struct.pack("ii", 1, 0)


class Cutting:
    """Forwards to a port, and cuts each of the first ``cuts`` streams after some bytes; ``done`` counts them."""

    def __init__(self, port: int, cuts: int) -> None:
        self._port = port
        self._left = cuts
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._random = random.Random(cuts)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.done = 0

    def serve(self) -> None:
        """Take connections until the listener is closed."""
        with suppress(OSError):
            while True:
                caller, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(caller,), daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _carry(self, caller: socket.socket) -> None:
        with caller, socket.create_connection(("127.0.0.1", self._port)) as gateway:
            threading.Thread(target=_forward, args=(caller, gateway), daemon=True).start()
            with suppress(OSError):
                self._back(gateway, caller)
            with suppress(OSError):
                gateway.shutdown(socket.SHUT_RDWR)
                caller.shutdown(socket.SHUT_RDWR)

    def _back(self, gateway: socket.socket, caller: socket.socket) -> None:
        """Forward an answer, or the beginning of it."""
        data = b""
        while HEAD not in data and (piece := gateway.recv(65_536)):
            data += piece
        room = self._room(data)
        while data and room > 0:
            caller.sendall(data.replace(*HURRIED)[:room])
            room -= len(data)
            data = gateway.recv(65_536) if room > 0 else b""
        if room <= 0:
            with self._lock:
                self.done += 1
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NOW)

    def _room(self, head: bytes) -> int:
        """How many bytes may pass: of a stream that is to be cut the head, and a few events."""
        with self._lock:
            if b"text/event-stream" not in head or not self._left:
                return sys.maxsize
            self._left -= 1
            return head.index(HEAD) + self._random.randrange(150, 900)


def _forward(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(65_536):
            sink.sendall(piece)


@contextmanager
def cutting(port: int, cuts: int) -> Iterator[Cutting]:
    """A line that is cut so often."""
    line = Cutting(port, cuts)
    threading.Thread(target=line.serve, daemon=True).start()
    try:
        yield line
    finally:
        line.close()
