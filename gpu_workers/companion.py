"""Who stands beside an engine and speaks for it to a gateway, as the launcher sees it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import Process
from pathlib import Path

import agent
from catalogue import LaunchError, Model

AGENT = Path(__file__).with_name("agent.py")
AGAIN = 1.0
"""Seconds after which an agent that has ended is started again."""


class Companion:
    """A silent one: nobody is told anything."""

    async def joined(self, model: Model, url: str) -> None:
        """The engine at ``url`` has answered, and is ready for calls."""

    async def leaving(self) -> None:
        """The engine is about to drain: return when no gateway sends it calls and it has ended those it had."""

    async def left(self) -> None:
        """The engine has ended, whether it was asked to or not."""


class Spokesman(Companion):
    """`agent.py` in a process of its own, started again whenever it ends too early: the engine goes on meanwhile."""

    def __init__(self, *words: str) -> None:
        self._words = words
        self._over = False
        self._process: Process | None = None
        self._keeping: asyncio.Task[int] | None = None

    async def joined(self, model: Model, url: str) -> None:
        """Have an agent speak from now on."""
        self._keeping = asyncio.create_task(self._keep())

    async def leaving(self) -> None:
        """Let the agent leave; where there is none at this moment, or it did not live to do it, another does."""
        if self._keeping is None:
            return
        self._over = True
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
        if await asyncio.shield(self._keeping):
            self._process = await self._start("--leave")
            await self._process.wait()

    async def left(self) -> None:
        """See that the gateway knows, and end the agent."""
        try:
            await self.leaving()
        finally:
            if self._process is not None and self._process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()

    async def _keep(self) -> int:
        """How the last agent ended."""
        while not self._over:
            self._process = await self._start()
            status = await self._process.wait()
            if self._over:
                return status
            agent.tell(f"the agent ended with status {status}, and is started again")
            await asyncio.sleep(AGAIN)
        return 1

    async def _start(self, *more: str) -> Process:
        # In a session of its own: the terminal's Ctrl-C is for the launcher, who tells it.
        return await asyncio.create_subprocess_exec(
            sys.executable, str(AGENT), *self._words, *more, stdin=asyncio.subprocess.DEVNULL, start_new_session=True
        )


def beside(
    engine: str, gateway: str, url: str | None, id: str | None, *, drain_within: float, pull: bool = False
) -> Companion:
    """Who speaks to a gateway for the engine at ``engine``, and shall perhaps ``pull`` jobs for it.

    Raises `LaunchError` with what is wrong with the place.
    """
    try:
        place = agent.place_of(gateway, engine, url, id, pull=pull)
    except ValueError as error:
        raise LaunchError(str(error)) from None
    where = ("--gateway", place.gateway, "--engine", place.engine, "--url", place.url, "--launcher", str(os.getpid()))
    return Spokesman(*where, "--id", place.id, "--drain-within", str(drain_within), *(["--pull"] if pull else []))
