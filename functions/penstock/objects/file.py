"""Objects in a folder, for any number of processes that see it: ``file:///absolute/path``.

A document is written beside its place under a name that nobody looks for, synced to the disk, and then renamed.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, ParamSpec, TypeVar
from urllib.parse import unquote

from penstock.core.ports.objects import NAME
from penstock.errors import NotFound, SettingsError, StateError

if TYPE_CHECKING:
    from penstock.outbound import HttpClient

PIECE = 1024 * 1024
"""Bytes that are read or written at a time."""

P = ParamSpec("P")
T = TypeVar("T")


class FolderObjects:
    """``Objects`` below a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def open(self) -> None:
        """Make the folder, readable by its owner alone, where it is missing."""
        await self._do(self._root.mkdir, mode=0o700, parents=True, exist_ok=True)

    async def close(self) -> None:
        """Nothing: no file stays open between two calls."""

    async def put(self, name: str, pieces: AsyncIterable[bytes]) -> int:
        """Keep an object; answers its bytes. Where ``pieces`` raises, nothing is kept and what was there stays."""
        place = self._place(name)
        beside = place.with_name(f".{place.name}.{secrets.token_hex(8)}")
        file = await self._do(_create, beside)
        try:
            with file:
                async for piece in pieces:
                    await self._do(file.write, piece)
                await self._do(_sync, file)
                size = file.tell()
            await self._do(_rename, beside, place)
        except BaseException:
            with suppress(OSError):
                beside.unlink()
            raise
        return size

    async def get(self, name: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        """An object's bytes from ``start`` to before ``end``, in pieces. Raises ``NotFound`` if there is none."""
        place = self._place(name)
        try:
            file = await self._do(place.open, "rb")
        except FileNotFoundError:
            raise NotFound(f"There is no object {name!r}.") from None
        with file:
            file.seek(start)
            while end is None or start < end:
                piece = await self._do(file.read, PIECE if end is None else min(PIECE, end - start))
                if not piece:
                    return
                start += len(piece)
                yield piece

    async def size(self, name: str) -> int | None:
        """An object's bytes; ``None`` if there is none."""
        try:
            return (await self._do(self._place(name).stat)).st_size
        except FileNotFoundError:
            return None

    async def delete(self, name: str) -> None:
        """Forget an object; one that is not there is no error."""
        await self._do(self._place(name).unlink, missing_ok=True)

    async def clear(self, folder: str) -> None:
        """Forget every object whose name begins with ``folder`` and a slash."""
        with suppress(FileNotFoundError):
            await self._do(shutil.rmtree, self._place(folder))

    async def sweep(self, folder: str, before: float) -> int:
        """Forget what was kept in a folder before a time, and writes that were given up by then."""
        return await self._do(_sweep, self._place(folder), before)

    def _place(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of an object")
        return self._root / name

    async def _do(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Work in a thread of its own: a disk may be slow."""
        try:
            return await asyncio.to_thread(work, *args, **kwargs)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StateError(
                f"the folder of objects {self._root} failed: {error.strerror}; let user id {os.geteuid()} write it, see"
                " that its disk has room, or set PENSTOCK_OBJECTS_URL to another one"
            ) from error


def connect(url: str, client: HttpClient | None) -> FolderObjects:
    """The objects in the folder that ``url`` names; nothing is touched before ``open``. ``client`` is not needed here.

    Raises ``SettingsError`` if the URL names no folder.
    """
    path = unquote(url.removeprefix("file://"))
    if not url.startswith("file:///") or path == "/" or "?" in url:
        raise SettingsError(f"{url!r} names no folder: write file:///absolute/path", setting="PENSTOCK_OBJECTS_URL")
    return FolderObjects(Path(path))


def _create(beside: Path) -> BinaryIO:
    while True:
        beside.parent.mkdir(parents=True, exist_ok=True)
        try:
            return os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=PIECE)
        except FileNotFoundError:
            continue  # an empty folder was swept away between the two


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _rename(beside: Path, place: Path) -> None:
    beside.replace(place)
    folder = os.open(place.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _sweep(folder: Path, before: float) -> int:
    swept = 0
    for root, _, names in os.walk(folder, topdown=False):
        for name in names:
            path = Path(root, name)
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < before:
                    path.unlink()
                    swept += 1
        if Path(root) != folder:
            with suppress(OSError):  # it is not empty
                Path(root).rmdir()
    return swept
