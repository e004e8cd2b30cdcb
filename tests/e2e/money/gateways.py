"""The gateways of the fuzz: ``penstock serve`` in processes that are killed and started again."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.forked import ForkedServer
from tests.e2e.server import PATIENCE, Server

TIMEOUT = 3.0
"""Seconds that a request may take."""


@dataclass(slots=True, eq=False)
class Gateway:
    """One process from its start to its end; ``killed`` is when, in epoch nanoseconds, if it was."""

    server: Server
    killed: int = 0
    leaving: bool = False

    async def ready(self) -> bool:
        """Wait until it answers; ``False`` if it could not begin, because the store was too busy just then."""
        end = time.monotonic() + PATIENCE
        while True:
            if self.server.process.poll() is not None:
                assert "answer" in self.server.err, f"a gateway ended by itself: {self.server.err[-2000:]}"
                return False
            assert time.monotonic() < end, f"a gateway did not start: {self.server.err[-2000:]}"
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            writer.close()
            return True

    @property
    def excused(self) -> bool:
        """Whether it could not write down all that it knew: it was killed, or says that the store did not answer."""
        return bool(self.killed) or "for the store" in self.server.err

    def kill(self) -> None:
        """End it as a power cut does."""
        self.killed = time.time_ns()
        self.server.process.kill()
        self.server.process.wait()

    async def stop(self) -> None:
        """Ask it to end, and see that it ends well."""
        self.leaving = True
        self.server.process.send_signal(signal.SIGTERM)
        status = await asyncio.to_thread(self.server.process.wait, PATIENCE)
        err = self.server.err
        assert status == -signal.SIGTERM, f"a gateway ended with {status}: {err[-2000:]}"
        assert "Traceback" not in err, err[err.index("Traceback") :]


class Fleet:
    """So many gateways on one state, each at an own port and in an own folder."""

    def __init__(self, folder: Path, state: str, config: dict[str, object], size: int) -> None:
        self.all: list[Gateway] = []
        self.up: list[Gateway] = []
        self._state = state
        self._config = json.dumps(config)
        self._folder = folder
        self._number = itertools.count()
        self._size = size

    async def open(self) -> None:
        """Start all of them, the first one alone: it makes what the others then find."""
        await self.start()
        await asyncio.gather(*(self.start() for _ in range(self._size - 1)))

    async def start(self) -> None:
        """Start one more, and let clients know once it answers."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            folder = self._folder / f"gateway-{next(self._number)}"
            folder.mkdir()
            gateway = Gateway(ForkedServer(folder, self._config, "--state", self._state))
            self.all.append(gateway)
            if await gateway.ready():
                self.up.append(gateway)
                return
        raise AssertionError("no gateway can begin: the store does not answer")

    async def torment(self, dice: random.Random, pause: float) -> None:
        """Kill one of them after a ``pause`` of about so many seconds, start another in its place, without end."""
        while True:
            await asyncio.sleep(dice.uniform(0.2, 2 * pause))
            victim = dice.choice(self.up)
            self.up.remove(victim)
            victim.kill()
            await self.start()

    async def close(self) -> None:
        """Stop those that run, and see each end well."""
        running = [gateway for gateway in self.all if gateway.server.process.poll() is None]
        self.up.clear()
        await asyncio.gather(*(gateway.ready() for gateway in running))  # one may have been started a moment ago
        await asyncio.gather(*(gateway.stop() for gateway in running))

    def kill(self) -> None:
        """Leave nothing running, whatever happened."""
        for gateway in self.all:
            gateway.server.process.kill()
            gateway.server.process.wait()

    @property
    def kills(self) -> int:
        """How many were killed."""
        return sum(bool(gateway.killed) for gateway in self.all)
