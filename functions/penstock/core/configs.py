"""The numbered configurations of a state, and which of them a process is to live by."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace

from penstock.core.keys import record_act
from penstock.core.ports import Store
from penstock.errors import InvalidRequest, NotFound, StateConflict, StateError
from penstock.schema.config_version import LARGEST, ConfigVersion, Steering
from penstock.schema.source import Source

TRIES = 20
LISTED = 100


def sha256_of(source: Source) -> str:
    """What tells a document from others, as it was read."""
    return hashlib.sha256(source.text.encode("utf-8", "surrogatepass")).hexdigest()


def named(number: int) -> str:
    """How a version of the state's is called."""
    return f"configuration {number}"


class Documents:
    """Reads and numbers documents, and tells all processes what to follow.

    A process follows its file, and where that was rolled back, what runs instead; without a file, what was pushed.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def wanted(self, file: Source | None, steering: Steering) -> tuple[int, Source | None]:
        """The document to live by, and its number; 0 if it has none yet, or there is no document."""
        number = steering.pushed
        if file is not None:
            number = await self._store.find_config(sha256_of(file))
            if number not in steering.instead:
                return number, file
            number = steering.instead[number]
        return number, await self.source(number) if number else None

    async def source(self, number: int) -> Source:
        """The text of a version. Raises ``NotFound``."""
        return Source(named(number), (await self.find(number)).text)

    async def find(self, number: int) -> ConfigVersion:
        """A version. Raises ``NotFound``."""
        found = await self._store.read_config(number)
        if found is None:
            raise NotFound(f"There is no configuration {number}; GET /v1/config/history lists those that there are.")
        return found

    async def number(self, source: Source, kept: str, actor: str) -> int:
        """The number of a document that may be new; ``kept`` is what the state keeps of it."""
        if len(kept.encode()) > LARGEST:
            raise InvalidRequest(f"{source.name} is too large: a configuration has at most {LARGEST} bytes.")
        return await self._store.number_config(sha256_of(source), kept, origin=source.name, actor=actor, at=time.time())

    async def history(self, limit: int = LISTED) -> list[ConfigVersion]:
        """The newest versions first."""
        return await self._store.list_configs(limit=limit)

    async def before(self, present: int) -> int:
        """The version that was in force before. Raises ``NotFound``."""
        others = [version for version in await self.history() if version.number != present]
        if not others:
            raise NotFound("There is no configuration before this one.")
        return max(others, key=lambda version: (version.loaded_at, version.number)).number

    async def call_all(self, actor: str) -> Steering:
        """Have every process load its file anew."""
        await record_act(self._store, actor, "reload configuration", "configuration")
        return await self._steer(lambda told: replace(told, reloads=told.reloads + 1))

    async def roll_back(self, file: Source | None, number: int, actor: str) -> Steering:
        """Have every process live by this version whose file says the same as this one, or that has none either.

        Raises ``InvalidRequest`` for a file that was never in force.
        """
        own = await self._store.find_config(sha256_of(file)) if file else 0
        if file is not None and not own:
            raise InvalidRequest(f"{file.name} is wrong as it is now: mend it, or put its last version back.")
        await record_act(self._store, actor, "roll back configuration", named(number))
        await self._store.touch_config(number, time.time())
        if not own:
            return await self._steer(lambda told: replace(told, pushed=number))

        def change(told: Steering) -> Steering:
            instead = {key: other for key, other in told.instead.items() if key != own}
            return replace(told, instead=instead if number == own else instead | {own: number})

        return await self._steer(change)

    async def push(self, number: int, actor: str) -> Steering:
        """Have every process live by this version that has no file."""
        await record_act(self._store, actor, "push configuration", named(number))
        await self._store.touch_config(number, time.time())
        return await self._steer(lambda told: replace(told, pushed=number))

    async def _steer(self, change: Callable[[Steering], Steering]) -> Steering:
        for _ in range(TRIES):
            told = await self._store.load_steering()
            new = replace(change(told), revision=told.revision + 1)
            try:
                await self._store.replace_steering(new)
            except StateConflict:
                continue
            return new
        raise StateError("the configuration is being steered by others faster than it can be by this one; try again")
