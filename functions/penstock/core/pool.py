"""The counters of several processes of one server added up, so that any of them can tell those of all.

Each process writes its own to a file in a common folder, beside a lock that it holds while it lives: the kernel lets go
of it however the process dies. What is told was written first, so that no scrape is ever told less than the one before,
whoever answers. The last word of a dead process stays; a process that starts takes those together into one file.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from penstock.core.chore import Chore
from penstock.core.families import Families, Family, add, own, read, written
from penstock.core.json import parse, to_json

EVERY = 0.25
"""Seconds that a process counts without having written it: what is lost when it is killed."""
DEAD = "dead.json"
DOOR = "folder.lock"
REMEMBERED = 1000
"""Dead processes whose names are known, so that who reads while they are taken together counts none of them twice."""


class Pool(Chore):
    """A folder of such files."""

    def __init__(self, folder: str) -> None:
        super().__init__(EVERY)
        self._folder = Path(folder)
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._lock: int | None = None
        self._written = b""

    @property
    def since(self) -> float:
        """When the first process began to count, in seconds since the epoch."""
        return (self._folder / DOOR).stat().st_mtime

    def start(self, before: Chore | None = None) -> None:
        """Take part from now on."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with _locked(self._folder / DOOR):
            self._lock = _held(self._folder / f"{self._name}.lock")
            self._bury()
        super().start(before)

    async def turn(self) -> object:
        """Write what is counted, if it has changed."""
        self._write(own())
        return None

    async def close(self) -> None:
        """Write the last word; the file stays."""
        await super().close()
        if self._lock is not None:
            self._write(own())
            os.close(self._lock)
            self._lock = None

    def gather(self) -> Families:
        """What all processes have counted: this one until now, the others until a moment ago."""
        families = own()
        self._write(families)
        found = [(name, _alive(self._folder, name), _last_word(self._folder, name)) for name in self._others()]
        buried, sums = self._dead()  # after the others, who may be buried meanwhile: then they are in here
        for name, alive, words in found:
            if name not in buried:
                add(families, words if alive else _lasting(words))
        add(families, sums)
        return families

    def _write(self, families: Families) -> None:
        data = to_json(written(families))
        if self._lock is not None and data != self._written:
            _replace(self._folder / f"{self._name}.json", data)
            self._written = data

    def _others(self) -> list[str]:
        names = (path.stem for path in self._folder.glob("*-*.lock"))
        return [name for name in names if name != self._name]

    def _dead(self) -> tuple[list[str], list[Family]]:
        """Who is buried, and what they have counted together."""
        try:
            document = parse((self._folder / DEAD).read_bytes())
        except FileNotFoundError:
            return [], []
        return document["buried"], read(document["families"])

    def _bury(self) -> None:
        buried, sums = self._dead()
        gone = [name for name in self._others() if not _alive(self._folder, name)]
        families = {family.name: family for family in sums}
        for name in gone:
            if name not in buried:
                add(families, _lasting(_last_word(self._folder, name)))
                buried.append(name)
        if gone:
            told = {"buried": buried[-REMEMBERED:], "families": written(families)}
            _replace(self._folder / DEAD, to_json(told))
        for name in gone:
            (self._folder / f"{name}.json").unlink(missing_ok=True)
            (self._folder / f"{name}.lock").unlink(missing_ok=True)


def _lasting(families: list[Family]) -> list[Family]:
    """Those that outlive their process: a gauge of the dead is nothing."""
    return [family for family in families if family.kind != "gauge"]


def _alive(folder: Path, name: str) -> bool:
    """Whether a process lives."""
    try:
        file = os.open(folder / f"{name}.lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(file)


def _last_word(folder: Path, name: str) -> list[Family]:
    """What a process wrote last; nothing if it is buried, or has not written yet."""
    try:
        return read(parse((folder / f"{name}.json").read_bytes()))
    except FileNotFoundError:
        return []


def _replace(path: Path, data: bytes) -> None:
    """Put a whole file in the place of another: who reads it finds the one or the other."""
    beside = path.with_suffix(".part")
    beside.write_bytes(data)
    beside.rename(path)


def _held(path: Path) -> int:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    file = _held(path)
    try:
        yield
    finally:
        os.close(file)
