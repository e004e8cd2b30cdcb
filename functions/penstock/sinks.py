"""Where log lines go besides standard error: a file that is rotated, and a listener that is told by UDP.

Imported where one of them is configured. Nobody waits for a sink, and what it cannot take is counted and let go.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import threading
from collections import deque
from collections.abc import Sequence
from ipaddress import ip_address
from itertools import pairwise
from typing import Any

from penstock.core.counters import Counter
from penstock.core.json import parse, to_json

ROOM = 4095
"""Bytes of a line in a datagram, whose end is one more: listeners read as many as 4096 at a time."""
HELD = 1000
"""Lines that wait until it is known where the listener is."""
LOOKED_UP = 60.0
"""Seconds after which its name is looked up again."""
RETRY, LONGEST_RETRY = 1.0, 30.0

DROPPED = Counter(
    "penstock_log_lines_dropped_total",
    "Log lines that a file or a listener did not get; standard error has them.",
    ("sink",),
)


class Sink(logging.Handler):
    """Takes log lines: records as they come, and the lines of outcomes as they are."""

    kind = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Take one record."""
        self.take([self.format(record).encode("utf-8", "replace")])

    def take(self, lines: Sequence[bytes]) -> None:
        """Take lines without their ends."""
        self.acquire()
        try:
            self.write(lines)
        except OSError:
            DROPPED.add(self.kind, n=len(lines))
        finally:
            self.release()

    def write(self, lines: Sequence[bytes]) -> None:
        """Pass lines on. Raises ``OSError``."""
        raise NotImplementedError


class FileSink(Sink):
    """A file to which any number of processes append; the one that finds it full puts it aside.

    Each write is whole: appending is atomic. A process whose file was put aside by another finds that out by what
    stands under the file's name.
    """

    kind = "file"

    def __init__(self, path: str, max_bytes: int, max_files: int) -> None:
        super().__init__()
        self._path = path
        self._max_bytes = max_bytes
        self._max_files = max_files
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        self._file = self._open()

    def write(self, lines: Sequence[bytes]) -> None:
        """Append lines, together where they fit."""
        together = b"".join(line + b"\n" for line in lines)
        for each in [together] if len(together) <= self._max_bytes else [line + b"\n" for line in lines]:
            self._make_room(len(each))
            os.write(self._file, each)

    def close(self) -> None:
        """Let go of the file."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)
        super().close()

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def _make_room(self, size: int) -> None:
        if self._is_elsewhere():
            self._reopen()
        held = os.fstat(self._file).st_size
        if held and held + size > self._max_bytes:
            self._put_aside()

    def _is_elsewhere(self) -> bool:
        """Whether another file stands under the name, or none."""
        try:
            return not os.path.samestat(os.stat(self._path), os.fstat(self._file))
        except FileNotFoundError:
            return True

    def _reopen(self) -> None:
        file = self._open()
        self._file, before = file, self._file
        os.close(before)

    def _put_aside(self) -> None:
        """Rename the file and those before it, the oldest away; one process does, while the others wait for it.

        The last step is the file's own, so that nobody begins a new one before there is room.
        """
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            if not self._is_elsewhere():
                names = [self._path, *(f"{self._path}.{number}" for number in range(1, self._max_files))]
                for before, after in reversed(list(pairwise(names))):
                    if os.path.exists(before):
                        os.replace(before, after)
                if self._max_files == 1:
                    os.unlink(self._path)
        finally:  # where it cannot be put aside as well, or all others would wait for this process for ever
            fcntl.flock(self._file, fcntl.LOCK_UN)
        self._reopen()


class UdpSink(Sink):
    """A listener that gets a datagram for each line. Its name is looked up in a thread, again and again."""

    kind = "udp"

    def __init__(self, host: str, port: int) -> None:
        super().__init__()
        self._host = host
        self._port = port
        self._socket: socket.socket | None = None
        self._to: Any = None
        self._held: deque[bytes] = deque()
        self._closing = threading.Event()
        if _is_address(host):
            self._look_up()
        else:
            threading.Thread(target=self._keep_looking, name="log listener", daemon=True).start()

    def write(self, lines: Sequence[bytes]) -> None:
        """Send lines, or hold them until it is known where to."""
        for line in lines:
            if self._socket is None:
                if len(self._held) >= HELD:
                    DROPPED.add(self.kind)
                else:
                    self._held.append(line)
                continue
            try:
                self._socket.sendto(fit(line) + b"\n", self._to)
            except OSError:
                DROPPED.add(self.kind)

    def close(self) -> None:
        """Send no more."""
        self._closing.set()
        self.acquire()
        try:
            if self._socket is not None:
                self._socket.close()
                self._socket = None
        finally:
            self.release()
        super().close()

    def _keep_looking(self) -> None:
        pause = RETRY
        while not self._closing.is_set():
            try:
                self._look_up()
                wait, pause = LOOKED_UP, RETRY
            except OSError:
                wait, pause = pause, min(2 * pause, LONGEST_RETRY)
            self._closing.wait(wait)

    def _look_up(self) -> None:
        """Learn where the listener is, and send what waits. Raises ``OSError``."""
        family, _, _, _, to = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)[0]
        self.acquire()
        try:
            if self._closing.is_set():
                return
            if self._socket is None or self._socket.family != family:
                if self._socket is not None:
                    self._socket.close()
                self._socket = socket.socket(family, socket.SOCK_DGRAM)
                self._socket.setblocking(False)
            self._to = to
            held, self._held = self._held, deque()
            self.write(held)
        finally:
            self.release()


def fit(line: bytes) -> bytes:
    """The line, or what of it has room in a datagram: JSON stays JSON, with ``cut``, and no letter is cut in two."""
    if len(line) <= ROOM:
        return line
    try:
        document = parse(line)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        return line[: ROOM - 3].decode("utf-8", "ignore").encode() + "…".encode()
    document["cut"] = True
    while (excess := len(shorter := to_json(document)) - ROOM) > 0:
        name = max(document.keys() - {"cut"}, key=lambda name: len(name) + len(to_json(document[name])))
        text = value if isinstance(value := document.pop(name), str) else to_json(value).decode()
        size = len(to_json(text))
        if left := text[: max(0, len(text) * (size - excess - 8) // size)]:
            document[name] = left + "…"
    return shorter


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
