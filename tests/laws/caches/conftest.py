"""Where each plug of ``caches`` is put to the test: at a real server, started when somebody first asks."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as NoConnection

from penstock import plugs
from tests.ports import free_port

PROGRAMS = ("valkey-server", "redis-server")
PATIENCE = 20.0


class RedisServer:
    """A Redis or Valkey server that keeps nothing on disk."""

    def __init__(self, program: str, port: int) -> None:
        self.url = f"redis://127.0.0.1:{port}/0"
        self._command = [program, "--port", str(port), "--save", "", "--appendonly", "no", "--bind", "127.0.0.1"]
        self.start()

    def start(self) -> None:
        """Start it, empty, and wait until it answers."""
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        end = time.monotonic() + PATIENCE
        with Redis.from_url(self.url) as client:
            while True:
                try:
                    client.ping()
                    return
                except NoConnection:
                    assert time.monotonic() < end, "the server does not answer"
                    time.sleep(0.01)

    def stop(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("there is no Redis or Valkey server: apt-get install redis-server, or valkey-server")
    server = RedisServer(program, free_port())
    yield server
    server.stop()


@pytest.fixture(params=plugs.names("caches"))
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """An empty place of each plug: what the laws call a store."""
    server = request.getfixturevalue(f"{request.param}_server")
    with Redis.from_url(server.url) as client:
        client.flushall()
    backing = plugs.load("caches", request.param).connect(server.url)
    yield backing
    await backing.close()
