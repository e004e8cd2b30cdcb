"""Objects in a bucket of Amazon S3: ``s3://bucket/prefix?region=eu-west-1``, and ``&endpoint=http://host:port`` for
another server that speaks like it.

Signed here and carried by Penstock's own HTTP client. What is longer than ``PART`` goes as a multipart upload, which is
seen when it is completed, and not before. https://docs.aws.amazon.com/AmazonS3/latest/API/
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl, quote, urlsplit

from penstock.core.ports.objects import NAME
from penstock.errors import NotFound, SettingsError, StateError, UpstreamError

if TYPE_CHECKING:
    from penstock.aws import Identity
    from penstock.outbound import HttpClient

PART = 8 * 1024 * 1024
"""Bytes of one part of a long object, and of one piece that is read. S3 takes 10,000 parts of at least 5 MiB."""
PATIENCE = 60.0
"""Seconds for one attempt at one call, its part included."""
CONNECT = 2.0
PAUSES = (0.05, 0.2, 0.8)
"""Seconds at most before each repeat."""
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_STALE = ("ExpiredToken", "InvalidAccessKeyId", "TokenRefreshRequired")
_CODE = re.compile(rb"<Code>([^<]+)</Code>")
_MESSAGE = re.compile(rb"<Message>([^<]+)</Message>")
_UPLOAD = re.compile(rb"<UploadId>([^<]+)</UploadId>")
_KEY = re.compile(rb"<Key>([^<]+)</Key>")


class _Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """S3's word for a failure; empty where there is none."""
        found = _CODE.search(self.body) if self.status != 206 else None  # which is somebody's own document
        return found[1].decode() if found else ""


class S3Objects:
    """``Objects`` below a prefix of the bucket at ``base``, in a region."""

    def __init__(self, base: str, prefix: str, region: str, client: HttpClient, identity: Identity) -> None:
        self._base = base
        self._prefix = prefix
        self._region = region
        self._client = client
        self._identity = identity

    async def open(self) -> None:
        """Nothing: the bucket is made with the stack, and whether it is there shows when it is used."""

    async def close(self) -> None:
        """Nothing: the client is closed by whom it belongs to."""

    async def put(self, name: str, pieces: AsyncIterable[bytes]) -> int:
        """Keep an object; answers its bytes. Where ``pieces`` raises, nothing is kept and what was there stays."""
        key, size, upload, tags = self._key(name), 0, "", list[str]()
        try:
            async for part, last in _parts(pieces):
                size += len(part)
                if last and not upload:
                    await self._call("PUT", key, body=part)
                    return size
                if not upload:
                    begun = await self._call("POST", key, "uploads=")
                    upload = quote(_found(_UPLOAD, begun, "an upload's id"), safe="")
                answer = await self._call("PUT", key, f"partNumber={len(tags) + 1}&uploadId={upload}", body=part)
                tags.append(answer.headers["etag"])
            await self._complete(key, upload, tags, size)
        except BaseException:
            if upload:
                with suppress(StateError):
                    await self._call("DELETE", key, f"uploadId={upload}", good=(204, 404))
            raise
        return size

    async def get(self, name: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        """An object's bytes from ``start`` to before ``end``, in pieces. Raises ``NotFound`` if there is none."""
        key = self._key(name)
        while end is None or start < end:
            last = start + PART if end is None else min(start + PART, end)
            ranged = {"range": f"bytes={start}-{last - 1}"}
            answer = await self._call("GET", key, headers=ranged, good=(206, 416, 404))
            if answer.status == 404:
                raise NotFound(f"There is no object {name!r}.")
            if answer.status == 416:
                return
            start += len(answer.body)
            yield answer.body
            if start >= int(answer.headers["content-range"].rpartition("/")[2]):
                return

    async def size(self, name: str) -> int | None:
        """An object's bytes; ``None`` if there is none."""
        answer = await self._call("GET", self._key(name), headers={"range": "bytes=0-0"}, good=(206, 416, 404))
        if answer.status == 404:
            return None
        return 0 if answer.status == 416 else int(answer.headers["content-range"].rpartition("/")[2])

    async def delete(self, name: str) -> None:
        """Forget an object; one that is not there is no error."""
        await self._call("DELETE", self._key(name), good=(204, 404))

    async def clear(self, folder: str) -> None:
        """Forget every object whose name begins with ``folder`` and a slash."""
        prefix = quote(f"{self._key(folder)}/", safe="")
        while True:
            page = await self._call("GET", "", f"list-type=2&prefix={prefix}")
            keys = [key.decode() for key in _KEY.findall(page.body)]
            for key in keys:
                await self._call("DELETE", key, good=(204, 404))
            if b"<IsTruncated>true" not in page.body or not keys:
                return

    async def sweep(self, folder: str, before: float) -> int:
        """Nothing: the bucket's life-cycle rules do it."""
        return 0

    def _key(self, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of an object")
        return self._prefix + name

    async def _complete(self, key: str, upload: str, tags: Sequence[str], size: int) -> None:
        """Have the parts seen as one object. That it was completed by an attempt whose answer was lost is no error."""
        parts = (
            f"<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>" for number, tag in enumerate(tags, 1)
        )
        body = f"<CompleteMultipartUpload>{''.join(parts)}</CompleteMultipartUpload>".encode()
        answer = await self._call("POST", key, f"uploadId={upload}", body=body, good=(200, 404))
        if not answer.code:
            return
        if answer.code != "NoSuchUpload" or await self.size(key.removeprefix(self._prefix)) != size:
            raise self._failed("POST", key, _told(answer))

    async def _call(
        self,
        method: str,
        key: str,
        query: str = "",
        *,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        good: Sequence[int] = (200,),
    ) -> _Answer:
        """One operation, repeated after passing failures. Raises ``StateError`` if there is no good answer."""
        url = f"{self._base}/{key}{'?' if query else ''}{query}"
        failure = ""
        for pause in (*PAUSES, 0.0):
            try:
                answer = await self._attempt(method, url, headers or {}, body)
            except UpstreamError as error:
                failure = error.message
            else:
                if answer.status in good and answer.code != "NoSuchBucket":
                    return answer
                failure = _told(answer)
                if answer.code in _STALE:
                    self._identity.forget()
                elif answer.status < 500:
                    break
            await asyncio.sleep(random.uniform(0, pause))
        raise self._failed(method, key, failure)

    async def _attempt(self, method: str, url: str, told: dict[str, str], body: bytes) -> _Answer:
        from penstock.aws import signature  # noqa: PLC0415 - brings aiodynamo along

        headers = {**told, "x-amz-content-sha256": hashlib.sha256(body).hexdigest()}
        signed = signature(
            *(method, url, headers, body),
            key=await self._identity.key(),
            region=self._region,
            service="s3",
            at=datetime.now(UTC),
        )
        response = await self._client.request(
            method,
            url,
            headers=[*headers.items(), *signed],
            body=body,
            deadline=asyncio.get_running_loop().time() + PATIENCE,
            connect_timeout=CONNECT,
        )
        return _Answer(response.status, response.headers, await response.read())

    def _failed(self, method: str, key: str, failure: str) -> StateError:
        return StateError(f"{method} of {key or 'a list'} at {self._base} failed: {failure}")


def connect(url: str, client: HttpClient | None) -> S3Objects:
    """The objects in the bucket that ``url`` names; nothing is sent before they are used. ``client`` carries the calls.

    Raises ``SettingsError`` if the URL is malformed.
    """
    from penstock.aws import Identity, at_home  # noqa: PLC0415 - brings aiodynamo along
    from penstock.outbound import HttpClient  # noqa: PLC0415

    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    endpoint, region = options.pop("endpoint", None), options.pop("region", None)
    bucket, prefix = parts.netloc, parts.path.strip("/")
    if parts.scheme != "s3" or not _BUCKET.fullmatch(bucket) or options or (prefix and not NAME.fullmatch(prefix)):
        raise _wrong(f"{url!r} names no bucket: write s3://bucket/prefix?region=eu-west-1")
    if endpoint is not None and not re.fullmatch(r"https?://[^/\s]+/?", endpoint):
        raise _wrong(f"the endpoint in {url!r} must look like http://host:port")
    if not region and not endpoint:
        raise _wrong(f"{url!r} names no region: add ?region=eu-west-1, or set AWS_REGION")
    region = region or "us-east-1"
    if endpoint:
        base = f"{endpoint.rstrip('/')}/{bucket}"
    elif "." in bucket:  # which no certificate of the buckets' own hosts covers
        base = f"https://s3.{region}.amazonaws.com/{bucket}"
    else:
        base = f"https://{bucket}.s3.{region}.amazonaws.com"
    client = client or HttpClient()
    identity = Identity(client, at_home() if endpoint else None)
    return S3Objects(base, f"{prefix}/" if prefix else "", region, client, identity)


async def _parts(pieces: AsyncIterable[bytes]) -> AsyncGenerator[tuple[bytes, bool], None]:
    """The same bytes in parts of ``PART``, the last one shorter and known as such; of no bytes one empty part."""
    waiting = bytearray()
    async for piece in pieces:
        waiting += piece
        while len(waiting) > PART:
            yield bytes(waiting[:PART]), False
            del waiting[:PART]
    yield bytes(waiting), True


def _found(pattern: re.Pattern[bytes], answer: _Answer, what: str) -> str:
    found = pattern.search(answer.body)
    if found is None:
        raise StateError(f"what answers as S3 sent no {what}: correct the endpoint in PENSTOCK_OBJECTS_URL")
    return found[1].decode()


def _told(answer: _Answer) -> str:
    message = _MESSAGE.search(answer.body)
    return f"{answer.code or answer.status}: {message[1].decode('utf-8', 'replace') if message else 'no more is told'}"


def _wrong(message: str) -> SettingsError:
    return SettingsError(message, setting="PENSTOCK_OBJECTS_URL")
