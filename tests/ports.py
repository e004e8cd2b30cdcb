"""Ports for servers that tests start."""

from __future__ import annotations

import itertools
import os
import random
import socket

FIRST, SPAN, WORKERS = 10_000, 2_000, 8
"""Below the ports that systems give to outgoing connections, and a span of them for each worker of pytest-xdist."""

_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
_next = itertools.count(random.randrange(SPAN))


def free_port() -> int:
    """A port that nobody listens on, and that no other test of this run is given while its server starts."""
    for _ in range(SPAN):
        port = FIRST + _worker * SPAN + next(_next) % SPAN
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"none of {SPAN} ports is free")
