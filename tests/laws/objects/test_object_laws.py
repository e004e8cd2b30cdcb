"""Laws of objects: they are seen whole or not at all, whatever their size, and forgotten when they are told to be."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import os
import sys
import time
import tracemalloc
from asyncio.subprocess import PIPE
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path

import pytest

from penstock import plugs
from penstock.core.ports import Objects
from penstock.core.ports.objects import one, whole
from penstock.errors import NotFound, SettingsError, StateError
from penstock.objects import file
from penstock.outbound import HttpClient
from tests.laws.objects.conftest import ROOT

OPERATIONS = {name: member for name, member in vars(Objects).items() if inspect.isfunction(member) and name[0] != "_"}
MIB = 1024 * 1024


async def pieces(*parts: bytes) -> AsyncGenerator[bytes, None]:
    for part in parts:
        yield part


async def broken(*parts: bytes) -> AsyncGenerator[bytes, None]:
    for part in parts:
        yield part
    raise ConnectionResetError("the caller left")


async def long(mebibytes: int, seen: Callable[[bytes], None]) -> AsyncGenerator[bytes, None]:
    """A long document that is nowhere as a whole."""
    for number in range(mebibytes):
        piece = number.to_bytes(4, "big") * (MIB // 4)
        seen(piece)
        yield piece


@pytest.mark.parametrize("parts", [(b"{}",), (b"a" * 300_000, b"", b"b" * 5), (b"",), ()])
async def test_what_is_kept_is_read_again(objects: Objects, parts: tuple[bytes, ...]) -> None:
    document = b"".join(parts)
    assert await objects.put("files/file-1/0", pieces(*parts)) == len(document)
    assert await objects.size("files/file-1/0") == len(document)
    assert await whole(objects.get("files/file-1/0")) == document


async def test_what_is_not_there_is_not_found(objects: Objects) -> None:
    assert await objects.size("files/nobody") is None
    with pytest.raises(NotFound, match="files/nobody"):
        await whole(objects.get("files/nobody"))
    await objects.delete("files/nobody")
    await objects.clear("files")


async def test_a_part_of_an_object_is_read_alone(objects: Objects) -> None:
    await objects.put("a", one(b"0123456789"))
    assert await whole(objects.get("a", 3)) == b"3456789"
    assert await whole(objects.get("a", 3, 5)) == b"34"
    assert await whole(objects.get("a", 8, 99)) == b"89"
    assert await whole(objects.get("a", 10)) == b""
    assert await whole(objects.get("a", 4, 4)) == b""


async def test_another_object_takes_the_place_of_an_earlier_one(objects: Objects) -> None:
    await objects.put("a", one(b"a long one at first"))
    await objects.put("a", one(b"short"))
    assert await whole(objects.get("a")) == b"short"


async def test_what_is_forgotten_is_gone_and_nothing_else(objects: Objects) -> None:
    names = ["jobs/1/body", "jobs/1/result", "jobs/10/body", "jobs/2"]
    for name in names:
        await objects.put(name, one(b"x"))
    await objects.delete("jobs/2")
    await objects.clear("jobs/1")
    assert [name for name in names if await objects.size(name) is not None] == ["jobs/10/body"]


@pytest.mark.parametrize("start", [b"a" * 10, b"a" * (20 * MIB)], ids=["short", "long"])
async def test_what_breaks_off_is_never_seen(objects: Objects, start: bytes) -> None:
    await objects.put("kept", one(b"earlier"))
    for name in ("new", "kept"):
        with pytest.raises(ConnectionResetError):
            await objects.put(name, broken(start, b"b"))
    assert await objects.size("new") is None
    assert await whole(objects.get("kept")) == b"earlier"


async def test_nothing_is_seen_while_it_is_written(objects: Objects) -> None:
    going = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"a" * (9 * MIB)
        await going.wait()

    writing = asyncio.ensure_future(objects.put("slow", slow()))
    done, _ = await asyncio.wait({writing}, timeout=0.2)
    assert not done
    assert await objects.size("slow") is None
    going.set()
    assert await writing == 9 * MIB == await objects.size("slow")


async def test_of_two_at_once_one_is_whole(objects: Objects) -> None:
    await asyncio.gather(*(objects.put("a", pieces(b"%d" % number * 1000, b"." * 9)) for number in range(8)))
    found = await whole(objects.get("a"))
    assert found in {b"%d" % number * 1000 + b"." * 9 for number in range(8)}


@pytest.mark.timeout(300)
async def test_memory_is_bounded_whatever_the_size(objects: Objects) -> None:
    mebibytes = 2048 if os.environ.get("PENSTOCK_TEST_LONG") else 64
    sent, got, size = hashlib.sha256(), hashlib.sha256(), 0
    tracemalloc.start()
    assert await objects.put("long", long(mebibytes, sent.update)) == mebibytes * MIB
    async for piece in objects.get("long"):
        got.update(piece)
        size += len(piece)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (size, got.digest()) == (mebibytes * MIB, sent.digest())
    assert peak < 48 * MIB, f"{peak / MIB:.0f} MiB at once"


async def test_a_write_whose_process_dies_is_never_seen(place: str, objects: Objects) -> None:
    program = f"""
import asyncio, sys
from penstock import plugs
from penstock.outbound import HttpClient
async def pieces():
    yield b"a" * {9 * MIB}
    print("half", flush=True)
    await asyncio.Event().wait()
async def main():
    objects = plugs.load("objects", {place.partition(":")[0]!r}).connect({place!r}, HttpClient())
    await objects.open()
    await objects.put("jobs/half", pieces())
asyncio.run(main())
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "functions")}
    dying = await asyncio.create_subprocess_exec(sys.executable, "-c", program, env=environment, stdout=PIPE)
    assert dying.stdout is not None
    assert await dying.stdout.readline() == b"half\n"
    dying.kill()
    await dying.communicate()
    assert await objects.size("jobs/half") is None
    await objects.put("jobs/half", one(b"another's"))
    assert await whole(objects.get("jobs/half")) == b"another's"


def age(at: float, *paths: Path) -> None:
    """Make files, or have those that are there, last written at a time."""
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.utime(path, (at, at))


def below(root: Path) -> list[str]:
    return sorted(path.name for path in root.rglob("*"))


@pytest.mark.parametrize("place", ["file"], indirect=True)
async def test_a_sweep_takes_what_is_old_and_what_was_given_up(place: str, objects: Objects) -> None:
    root = Path(place.removeprefix("file://"))
    for name in ("jobs/old/body", "jobs/young/body", "files/old"):
        await objects.put(name, one(b"x"))
    half = root / "jobs" / "half" / ".body.0011"
    now = time.time()
    age(now - 100, half, root / "jobs/old/body", root / "files/old")
    assert await objects.sweep("jobs", now - 50) == 2
    assert await objects.sweep("jobs", now - 50) == 0
    assert below(root) == ["body", "files", "jobs", "old", "young"]


@pytest.mark.parametrize("name", ["", "/a", "a/", "../a", "a/../b", "a//b", ".a", "a/.b", "a b", "a\n", "ä"])
async def test_a_name_that_leads_elsewhere_is_refused(objects: Objects, name: str) -> None:
    for refused in (objects.put(name, one(b"")), objects.size(name), objects.delete(name), whole(objects.get(name))):
        with pytest.raises(ValueError, match="is no name"):
            await refused


async def test_a_place_that_cannot_answer_is_a_state_error(tmp_path: Path) -> None:
    client = HttpClient()
    away = plugs.load("objects", "s3").connect("s3://nobodys?endpoint=http://127.0.0.1:1", client)
    with pytest.raises(StateError, match=r"PUT of a at http://127.0.0.1:1/nobodys failed"):
        await away.put("a", one(b""))
    await client.aclose()
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(StateError, match="PENSTOCK_OBJECTS_URL"):
        await file.connect(f"file://{tmp_path}/taken/below", None).open()


async def test_a_bucket_that_does_not_exist_is_named_with_what_s3_says(moto: Callable[[], str]) -> None:
    client = HttpClient()
    objects = plugs.load("objects", "s3").connect(f"s3://nobodys?endpoint={moto()}&region=eu-west-1", client)
    for asked in (objects.put("a", one(b"")), whole(objects.get("a")), objects.size("a")):
        with pytest.raises(StateError, match=r"nobodys failed: NoSuchBucket"):
            await asked
    await client.aclose()


@pytest.mark.parametrize("plug", plugs.names("objects"))
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_takes_and_answers_what_the_shape_says(plug: str, operation: str) -> None:
    module = plugs.load("objects", plug)
    kind = inspect.signature(module.connect, eval_str=False).return_annotation
    member = getattr(getattr(module, kind), operation)
    assert inspect.signature(member) == inspect.signature(OPERATIONS[operation])


@pytest.mark.parametrize("plug", plugs.names("objects"))
def test_a_url_that_names_no_place_is_refused_with_the_settings_name(plug: str) -> None:
    connect = plugs.load("objects", plug).connect
    for url in (f"{plug}:", f"{plug}://", f"{plug}:///?x=1", "other://place", ""):
        with pytest.raises(SettingsError, match="PENSTOCK_OBJECTS_URL"):
            connect(url, None)
