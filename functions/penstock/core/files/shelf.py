"""What callers do with files: keep one, look at it, read it, forget it. A file is private to its key."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterable
from dataclasses import replace

from penstock.core.ports import Objects, Store
from penstock.errors import NotConfigured, NotFound, RequestTooLarge, StateError
from penstock.schema.config import FileSection
from penstock.schema.file import File, folder_of, part_of

WRITING = 86_400.0
"""Seconds within which a file is written; what was begun and never ended is swept away after it."""
SWEPT = 100


class Shelf:
    """The files of all keys: records in the store, bytes among the objects.

    The record comes first, unseen, so that no object is without one: what a crash leaves expires with it.
    """

    def __init__(self, store: Store, objects: Objects | None, terms: FileSection) -> None:
        self._store = store
        self._objects = objects
        self.terms = terms

    @property
    def objects(self) -> Objects:
        """Where the bytes are. Raises ``NotConfigured`` if there is no such place."""
        if self._objects is None:
            raise NotConfigured("This gateway keeps no files: set PENSTOCK_OBJECTS_URL to s3://bucket/prefix.")
        return self._objects

    async def begin(self, key_id: str, *, file_id: str = "", until: float | None = None) -> File:
        """A file that is yet to be written, by now and ``until`` a time; nobody sees it."""
        now = time.time()
        file = File(file_id or new_id(now), key_id, "", "", now, now + WRITING if until is None else until)
        _ = self.objects
        await self._store.create_file(file)
        return file

    async def write(self, file: File, pieces: AsyncIterable[bytes]) -> File:
        """The file with its bytes, which are kept in pieces as they come. Raises ``RequestTooLarge``."""
        size = await self.objects.put(part_of(file.id, 0), _bounded(pieces, self.terms.max_bytes))
        return replace(file, size=size, parts=1)

    async def publish(self, file: File, *, seconds: float | None = None) -> File:
        """Have its key see a file from now on, for so many seconds. Raises ``StateError`` if that came too late."""
        now = time.time()
        file = replace(file, created_at=now, expires_at=now + (self.terms.retention if seconds is None else seconds))
        if not await self._store.replace_file(file, now=now):
            raise StateError(f"the file {file.id} was not written in time")
        return file

    async def find(self, id: str, key_id: str) -> File:
        """A key's own file. Raises ``NotFound`` for every other."""
        file = await self._store.find_file(key_id, id)
        if file is None or not file.seen(time.time()):
            raise NotFound(f"There is no file {id[:80]!r}.")
        return file

    async def listed(
        self, key_id: str, *, limit: int, after: str = "", oldest_first: bool = False, purpose: str = ""
    ) -> list[File]:
        """A key's files, newest first."""
        return await self._store.list_files(
            key_id, now=time.time(), limit=limit, after=after, oldest_first=oldest_first, purpose=purpose
        )

    async def content(self, file: File, start: int = 0) -> AsyncGenerator[bytes, None]:
        """A file's bytes, from one on, in pieces. Raises ``NotFound`` where it has been forgotten meanwhile."""
        for number in range(file.parts):
            if start:
                size = await self.objects.size(part_of(file.id, number)) or 0
                if start >= size and number + 1 < file.parts:
                    start -= size
                    continue
            async for piece in self.objects.get(part_of(file.id, number), start):
                yield piece
            start = 0

    async def forget(self, file: File) -> None:
        """Forget a file; from the first moment on nobody sees it."""
        now = time.time()
        await self._store.replace_file(replace(file, expires_at=now), now=now)
        await self._remove(file)

    async def sweep(self) -> int:
        """Remove what has expired; answers how many files."""
        if self._objects is None:
            return 0
        swept = 0
        while expired := await self._store.expired_files(time.time(), limit=SWEPT):
            for file in expired:
                await self._remove(file)
            swept += len(expired)
            if len(expired) < SWEPT:
                break
        return swept

    async def _remove(self, file: File) -> None:
        await self.objects.clear(folder_of(file.id))
        await self._store.remove_file(file)


def new_id(now: float) -> str:
    """An id that grows with time: files are listed by it."""
    return f"file-{int(now * 1e6):014x}{secrets.token_hex(8)}"


async def _bounded(pieces: AsyncIterable[bytes], limit: int) -> AsyncGenerator[bytes, None]:
    size = 0
    async for piece in pieces:
        size += len(piece)
        if size > limit:
            raise RequestTooLarge(f"A file may have {limit} bytes, and this one has more.", param="file")
        yield piece
