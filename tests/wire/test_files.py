"""Files on a real socket: by OpenAI's client and by hand, kept, listed in pages, read in pieces, forgotten."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from penstock.core.files import shelf
from penstock.core.keys import generate, new_key
from tests.wire import gateway as gateways
from tests.wire.gateway import KEY, Gateway

FORM = {"content-type": "multipart/form-data; boundary=b0undary"}
LIMIT = 200_000


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway without a provider."""
    async with gateways.serve(tmp_path, sections={"files": {"max_bytes": LIMIT}}) as gateway:
        yield gateway


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def part(name: str, value: bytes, filename: str | None = None) -> bytes:
    """One part of a form."""
    named = f'; filename="{filename}"' if filename is not None else ""
    return b'--b0undary\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n' % (
        *(name.encode(), named.encode(), value),
    )


END = b"--b0undary--\r\n"


async def send(gateway: Gateway, content: Any, headers: dict[str, str] = FORM) -> httpx.Response:
    return await gateway.client.post("/v1/files", content=content, headers=headers)


def folders(tmp_path: Path) -> list[str]:
    """What is on the disk of all files."""
    return sorted(found.name for found in (tmp_path / "state.objects" / "files").glob("*"))


async def test_openai_s_client_keeps_a_file_and_reads_it_again(client: openai.AsyncOpenAI, tmp_path: Path) -> None:
    document = os.urandom(150_000)
    kept = await client.files.create(file=("in ä.jsonl", document), purpose="batch")
    assert (kept.object, kept.bytes, kept.filename, kept.purpose) == ("file", 150_000, "in ä.jsonl", "batch")
    assert kept.expires_at is not None
    assert kept.expires_at - kept.created_at == 30 * 86400
    assert (await client.files.content(kept.id)).content == document
    assert await client.files.retrieve(kept.id) == kept
    assert [file.id async for file in client.files.list()] == [kept.id]
    gone = await client.files.delete(kept.id)
    assert (gone.deleted, folders(tmp_path)) == (True, [])
    for ask in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError, match=kept.id):
            await ask(kept.id)


async def test_files_are_listed_in_pages_the_newest_first(client: openai.AsyncOpenAI) -> None:
    kept = []
    for number in range(5):
        purpose: Any = "vision" if number == 2 else "user_data"
        kept.append((await client.files.create(file=(f"{number}", b"x"), purpose=purpose)).id)
    page = await client.files.list(limit=2)
    assert ([file.id for file in page.data], page.has_more) == ([kept[4], kept[3]], True)
    assert [file.id async for file in client.files.list(limit=2)] == kept[::-1]
    assert [file.id async for file in client.files.list(limit=3, order="asc")] == kept
    assert [file.id async for file in client.files.list(purpose="vision")] == [kept[2]]
    last = await client.files.list(after=kept[0])
    assert (last.data, last.has_more) == ([], False)


async def test_a_file_is_private_to_its_key(gateway: Gateway, client: openai.AsyncOpenAI) -> None:
    kept = await client.files.create(file=("a", b"secret"), purpose="user_data")
    secret = generate()
    await gateway.house.store.create_key(new_key(secret))
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=secret.reveal(), max_retries=0) as other:
        assert [file.id async for file in other.files.list()] == []
        for ask in (other.files.retrieve, other.files.content, other.files.delete):
            with pytest.raises(openai.NotFoundError):
                await ask(kept.id)
    assert (await client.files.content(kept.id)).content == b"secret"


async def test_a_file_expires_when_its_caller_says(
    client: openai.AsyncOpenAI, gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after: Any = {"anchor": "created_at", "seconds": 3600}
    kept = await client.files.create(file=("a", b"x"), purpose="user_data", expires_after=after)
    assert kept.expires_at == kept.created_at + 3600
    assert await gateway.house.files.sweep() == 0
    now = shelf.time.time()
    monkeypatch.setattr(shelf.time, "time", lambda: now + 3601)
    with pytest.raises(openai.NotFoundError):
        await client.files.retrieve(kept.id)
    assert folders(tmp_path) == [kept.id]
    assert await gateway.house.files.sweep() == 1
    assert folders(tmp_path) == []


@pytest.mark.parametrize("order", ["file first", "file last"])
async def test_the_fields_of_a_form_may_stand_anywhere(gateway: Gateway, order: str) -> None:
    parts = [part("purpose", b"user_data"), part("other", b"1"), part("file", b"a\r\n--b0undar\r\n", "n")]
    answer = await send(gateway, b"".join(reversed(parts) if order == "file first" else parts) + END)
    assert (answer.status_code, answer.json()["filename"]) == (200, "n")
    content = await gateway.client.get(f"/v1/files/{answer.json()['id']}/content")
    assert content.content == b"a\r\n--b0undar\r\n"
    assert content.headers["content-type"] == "application/octet-stream"
    assert content.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_a_form_may_come_in_pieces_of_any_size(gateway: Gateway, size: int) -> None:
    form = part("purpose", b"batch") + part("file", b"0123456789" * 20, "n") + END

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(form), size):
            yield form[start : start + size]

    answer = await send(gateway, pieces())
    assert (answer.status_code, answer.json()["bytes"]) == (200, 200)


FILE, PURPOSE = part("file", b"x", "n"), part("purpose", b"batch")
WRONG = {
    "no file": (PURPOSE + END, "file", 400),
    "no purpose": (FILE + END, "purpose", 400),
    "an unknown purpose": (part("purpose", b"fun") + FILE + END, "purpose", 400),
    "two files": (PURPOSE + FILE + FILE + END, "file", 400),
    "no end": (PURPOSE + FILE, None, 400),
    "no form": (b"hello", None, 400),
    "nothing": (b"", None, 400),
    "a long field": (part("x", b"y" * 20_000) + FILE + END, None, 400),
    "too long a file": (PURPOSE + part("file", b"x" * (LIMIT + 1), "n") + END, "file", 413),
    "seconds": (PURPOSE + part("expires_after[seconds]", b"5") + FILE + END, "expires_after.seconds", 400),
    "an anchor": (PURPOSE + part("expires_after[anchor]", b"x") + FILE + END, "expires_after.anchor", 400),
}


@pytest.mark.parametrize("case", WRONG)
async def test_what_is_wrong_with_a_form_is_said_and_nothing_is_kept(
    gateway: Gateway, tmp_path: Path, case: str
) -> None:
    content, param, status = WRONG[case]
    answer = await send(gateway, content)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["param"] == param
    assert folders(tmp_path) == []
    assert (await gateway.client.get("/v1/files")).json()["data"] == []


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data", ""])
async def test_what_is_no_form_is_refused(gateway: Gateway, kind: str) -> None:
    answer = await send(gateway, b"{}", {"content-type": kind})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "Content-Type")


async def test_a_file_that_is_declared_too_long_is_refused_before_it_comes(gateway: Gateway) -> None:
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: 9999999999\r\n"
    writer.write(f"{head}content-type: {FORM['content-type']}\r\n\r\n".encode())
    assert b"413" in await asyncio.wait_for(reader.readline(), gateways.PATIENCE)
    writer.close()
    await writer.wait_closed()


async def test_of_a_client_that_leaves_nothing_is_seen(gateway: Gateway, tmp_path: Path) -> None:
    host, port = gateway.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: 150000\r\n"
    writer.write(f"{head}content-type: {FORM['content-type']}\r\n\r\n".encode() + PURPOSE + FILE[:-2] + b"x" * 70_000)
    await gateways.eventually(lambda: len(folders(tmp_path)) == 1)
    writer.close()
    await writer.wait_closed()
    await gateways.eventually(lambda: not list(tmp_path.rglob(".0*")))
    assert (await gateway.client.get("/v1/files")).json()["data"] == []


@pytest.mark.parametrize("query", ["limit=0", "limit=10001", "order=up", "after=" + "x" * 300])
async def test_a_list_that_cannot_be_is_refused(gateway: Gateway, query: str) -> None:
    answer = await gateway.client.get(f"/v1/files?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == query.partition("=")[0]


async def test_without_a_place_for_objects_files_are_not_configured(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway.house.files, "_objects", None)
    answer = await send(gateway, PURPOSE + FILE + END)
    assert (answer.status_code, answer.json()["error"]["code"]) == (501, "not_configured")
    assert "PENSTOCK_OBJECTS_URL" in answer.json()["error"]["message"]
