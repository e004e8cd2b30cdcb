"""One house after another: a process lives in a new one with each version of its configuration.

The present house serves what is new; those before it serve whom they have let in, and are let go of when the last one
has left. What a process is to live by is its file, or what was pushed to the state; either has its number there.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from penstock import settings
from penstock.core.chore import Chore
from penstock.core.configs import Documents
from penstock.core.last_good import LastGood
from penstock.errors import PenstockError, SettingsError, StateError
from penstock.house import House
from penstock.schema.config import Server
from penstock.schema.config_version import Steering
from penstock.schema.source import Source
from penstock.settings import Settings

log = logging.getLogger("penstock.configuration")

EVERY = 2.0
"""Seconds between two looks for another configuration."""
BY_ITSELF = "process"
"""Who acts where nobody in particular does."""


@dataclass(frozen=True, slots=True)
class Look:
    """What came of a look: the version in force, whether it is another one now, and what waits for a restart."""

    version: int
    changed: bool
    seconds: float
    needs_restart: tuple[str, ...] = ()


class Succession:
    """The houses of one process. ``build`` makes the first, which knows how to make the next.

    ``bare`` makes one without any configuration, for a process that starts in the place of another of its server while
    what it is to live by is wrong: it lives by what the others do.
    ``problem`` is why the configuration that was found last is not in force, ``loaded_at`` when the present one was
    loaded, ``load_time`` the seconds that it took.
    """

    def __init__(self, build: Callable[[], House], bare: Callable[[], House] | None = None) -> None:
        self._build = build
        self._bare = bare
        self.present: House | None = None
        self.problem: SettingsError | None = None
        self.loaded_at = self.load_time = 0.0
        self._file: Source | None = None
        self._stamp: object = None
        self._steering = Steering()
        self._listens = Server()
        self._turn = asyncio.Lock()
        self._started = False
        self._looked_at = 0.0
        self._looking: asyncio.Task[None] | None = None
        self._retiring: dict[asyncio.Task[None], House] = {}
        self._watch = Watch(self)

    @property
    def house(self) -> House:
        """The present house, once there is one."""
        assert self.present is not None
        return self.present

    @property
    def documents(self) -> Documents:
        """The configurations that the state keeps."""
        return Documents(self.house.store)

    async def open(self) -> House:
        """Build and open the house to live in, once. Raises ``SettingsError`` or ``StateError``."""
        async with self._turn:
            if self.present is None:
                began, problem = time.monotonic(), None
                try:
                    self.present = await self._opened(self._build(), self._first)
                except SettingsError as error:
                    self.present, problem = await self._stand_in(error), error
                self._loaded(began)
                self.problem = problem
        return self.house

    def start(self) -> None:
        """Run jobs, do chores and look for other configurations from now on, as a server does."""
        self._started = True
        self.house.start()
        if self.house.settings.again is not None:
            self._watch.start()

    async def current(self) -> House:
        """The house to live in now, after another look if the last one is too old."""
        if self.present is None:
            return await self.open()
        if time.monotonic() - self._looked_at > EVERY:
            self._looked_at = time.monotonic()
            await self.follow()
        return self.house

    def look(self) -> None:
        """Begin to look for another configuration if the last look is too old; nobody waits for it."""
        now = time.monotonic()
        if now - self._looked_at > EVERY and (self._looking is None or self._looking.done()):
            self._looked_at = now
            self._looking = asyncio.ensure_future(self.follow())

    def look_anew(self) -> None:
        """Read the file behind everybody's back, even if it seems to be as it was."""
        self._watch.errand(self.follow(anew=True))

    async def follow(self, *, anew: bool = False) -> None:
        """Live by what the file and the state say now, if that can be; what cannot be is logged, and nothing changes.

        The file is read if it seems to have changed, or ``anew`` in any case.
        """
        try:
            await self.reload(anew=anew)
        except SettingsError:
            return  # it was told when it was found
        except PenstockError as error:
            log.warning("the configuration stays as it is: %s", error)

    async def reload(self, *, anew: bool = True, actor: str = BY_ITSELF) -> Look:
        """Live by what the file and the state say now. Raises ``SettingsError`` and stays as it is if that is wrong."""
        async with self._turn:
            began = time.monotonic()
            try:
                changed = await self._renew(anew, actor)
            except SettingsError as error:
                if self.problem is None or str(self.problem) != str(error):
                    log.error("configuration %d stays in force: %s", self.house.settings.version, error)
                self.problem = error
                raise
            if changed:
                self._loaded(began)
                log.info("configuration %d is in force", self.house.settings.version)
            return Look(self.house.settings.version, changed, time.monotonic() - began, self.needs_restart)

    async def call_all(self, actor: str) -> None:
        """Have all other processes load their files anew."""
        await self.documents.call_all(actor)

    async def roll_back(self, number: int | None, actor: str) -> Look:
        """Live by an earlier version, the one before if none is named, here and wherever the same one was in force.

        Raises ``NotFound``, and ``SettingsError`` if it cannot be lived by here and now, or the file is wrong.
        """
        await self.reload(actor=actor)
        documents, told = self.documents, self.house.settings
        number = number or await documents.before(told.version)
        self.house.build(await _read(told, await documents.source(number), number), self.house)
        file = self._file if self._follows_file(self.house) else None
        await documents.roll_back(file, number, actor)
        return await self.reload(anew=False, actor=actor)

    async def close(self) -> None:
        """Let go of everything."""
        await self._watch.close()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        if self.present is not None:
            await self.present.consumer.close()
            retiring, self._retiring = self._retiring, {}
            for task, house in retiring.items():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await house.retire()
            await self.present.close()
            self.present = None

    async def _opened(self, house: House, live_in: Callable[[House], Awaitable[House]]) -> House:
        """What to ``live_in`` by the state, which is open from now on."""
        try:
            await house.open()
            return await live_in(house)
        except BaseException:
            await house.close()
            raise

    async def _stand_in(self, error: SettingsError) -> House:
        """The house that the other processes of this server live in. Raises the ``error`` at its first start."""
        if self._bare is None:
            raise error
        bare = self._bare()
        number = LastGood(bare.settings.metrics_folder).known()
        if number is None:
            raise error

        async def live_in(bare: House) -> House:
            self._steering = await bare.store.load_steering()
            self._file = await Documents(bare.store).source(number) if number else None
            house = bare.build(await _read(bare.settings, self._file, number), bare)
            house.speak()
            self._listens = house.settings.listens
            return house

        house = await self._opened(bare, live_in)
        log.error("configuration %d stays in force: %s", number, error)
        return house

    async def _first(self, house: House) -> House:
        """The house as it was built, under its number, or another if that is what the state says."""
        told = house.settings
        self._listens = told.listens
        if told.again is None:
            return house
        self._steering = await house.store.load_steering()
        self._file, self._stamp = told.source, _stamp(told.config_path)
        version, source = await self._wanted(house)
        if source == told.source:
            return await self._numbered(house, version, BY_ITSELF)
        new = house.build(await _read(told, source, version), house)
        new.speak()
        return new

    async def _renew(self, anew: bool, actor: str) -> bool:
        """Move into another house, if another document is to be lived by; answers whether."""
        house = self.house
        told = house.settings
        if told.again is None:
            return False
        steering = await house.store.load_steering()
        stamp = _stamp(told.config_path) if told.document.server.reload and not told.door else self._stamp
        anew = anew or stamp != self._stamp or steering.reloads != self._steering.reloads
        if not anew and steering.revision == self._steering.revision:
            return False
        self._steering, self._stamp = steering, stamp
        if anew and told.config_path:
            self._file = settings.read(told.config_path)
        try:
            return await self._move(house, actor)
        except StateError:
            self._stamp = None  # look again
            raise

    async def _move(self, house: House, actor: str) -> bool:
        """Move into the house of the document that is wanted, unless that is the present one; answers whether."""
        version, source = await self._wanted(house)
        self.problem, problem = None, self.problem
        if version == house.settings.version and (version or source == house.settings.source):
            return False
        self.problem = problem
        new = house.build(await _read(house.settings, source, version), house)
        new.speak()
        try:
            new = await self._numbered(new, version, actor)
            if version and source == self._file:
                await house.store.touch_config(version, time.time())
        except StateError:
            house.speak()
            raise
        self.present = new
        if self._started:
            new.start(house)
            if new.registry.lacks(house.registry):
                self._watch.errand(new.registry.refresh())
        retiring = asyncio.ensure_future(_retire(house))
        self._retiring[retiring] = house
        retiring.add_done_callback(self._retired)
        return True

    async def _wanted(self, house: House) -> tuple[int, Source | None]:
        file = self._file if self._follows_file(house) else None
        return await Documents(house.store).wanted(file, self._steering)

    def _follows_file(self, house: House) -> bool:
        """A function lives by the file it was packed with only until something is pushed."""
        return bool(house.settings.config_path) and not (house.settings.door and self._steering.pushed)

    async def _numbered(self, house: House, version: int, actor: str) -> House:
        """The house under the number of its document, which gets one if it is new."""
        source = house.settings.source
        if source is not None and not version:
            version = await Documents(house.store).number(source, settings.kept(source), actor)
        return replace(house, settings=replace(house.settings, version=version))

    def _retired(self, retiring: asyncio.Task[None]) -> None:
        self._retiring.pop(retiring, None)
        if not retiring.cancelled() and (error := retiring.exception()):
            log.error("a configuration that is over was not let go of", exc_info=error)

    def _loaded(self, began: float) -> None:
        self.problem, self.loaded_at, self.load_time = None, time.time(), time.monotonic() - began
        LastGood(self.house.settings.metrics_folder).keep(self.house.settings.version)

    @property
    def needs_restart(self) -> tuple[str, ...]:
        """What the file says of the server that holds only from its next start on."""
        said, began = self.house.settings.listens, self._listens
        return tuple(
            f"server.{name}" for name in ("host", "port", "grace") if getattr(said, name) != getattr(began, name)
        )


class Watch(Chore):
    """Has a process look for another configuration every two seconds, while it is used and while it is not."""

    def __init__(self, succession: Succession) -> None:
        super().__init__(EVERY)
        self._succession = succession
        self._errands: set[asyncio.Future[object]] = set()

    async def turn(self) -> None:
        """Look."""
        await self._succession.follow()

    def errand(self, work: Coroutine[Any, Any, object]) -> None:
        """Have something done behind everybody's back."""
        task: asyncio.Future[object] = asyncio.ensure_future(_quietly(work))
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)


async def _quietly(work: Coroutine[Any, Any, object]) -> object:
    try:
        return await work
    except PenstockError as error:
        log.warning("%s", error)
        return None


async def _read(told: Settings, source: Source | None, version: int) -> Settings:
    """The settings with this document; requests are served meanwhile. Raises ``SettingsError``."""
    assert told.again is not None
    return await asyncio.to_thread(told.again, source, version)


async def as_served(house: House) -> House:
    """The house that a server would live in which starts now, seen from an open one; the state stays as it is.

    Raises ``SettingsError`` where such a server would not start.
    """
    told = house.settings
    version, source = await Documents(house.store).wanted(told.source, await house.store.load_steering())
    return house if source == told.source else house.build(await _read(told, source, version), house)


async def _retire(house: House) -> None:
    await house.rest()
    await house.guests.gone()
    await house.webhooks.courier.sent()
    await house.ledger.written()
    await house.retire()


def _stamp(path: str) -> object:
    """What is another once a file is; nobody needs to read it for that."""
    try:
        found = os.stat(path) if path else None
    except OSError:
        return None
    return found and (found.st_mtime_ns, found.st_size, found.st_ino)
