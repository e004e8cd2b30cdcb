"""What the laws of objects share: a new, empty place of every plug."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from penstock import plugs
from penstock.core.ports import Objects
from penstock.outbound import HttpClient
from tests.laws.objects.amazon import make_bucket

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def moto() -> Iterator[Callable[[], str]]:
    """The address of moto's S3, started when somebody first asks."""
    started: list[subprocess.Popen[str]] = []

    @cache
    def address() -> str:
        command = [sys.executable, "-m", "tests.laws.stores.moto_server", "s3"]
        started.append(subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        assert started[0].stdout is not None
        return started[0].stdout.readline().strip()

    yield address
    for server in started:
        server.kill()
        server.communicate()


@pytest.fixture(params=plugs.names("objects"))
def place(request: pytest.FixtureRequest, tmp_path: Path, moto: Callable[[], str]) -> str:
    """The address of a new, empty place. A plug that nobody listed is reached at ``PENSTOCK_TEST_<NAME>_OBJECTS``."""
    name = f"laws-{uuid.uuid4().hex[:12]}"
    if request.param == "file":
        return f"file://{tmp_path}/objects"
    if request.param == "s3":
        server = os.environ.get("PENSTOCK_TEST_S3_ENDPOINT") or moto()
        return make_bucket(server, name)
    variable = f"PENSTOCK_TEST_{request.param.upper()}_OBJECTS"
    url = os.environ.get(variable)
    assert url, f"the plug {request.param!r} of objects has no place to be tested at: set {variable}, or add one here"
    return url.replace("{}", name)


@pytest.fixture
async def objects(place: str) -> AsyncIterator[Objects]:
    """An open place, of each plug in turn."""
    client = HttpClient()
    objects: Objects = plugs.load("objects", place.partition(":")[0]).connect(place, client)
    await objects.open()
    yield objects
    await objects.close()
    await client.aclose()
