"""A stream of the real engine that its reader loses again and again, at two gateways on one state."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.server import KEY, PATIENCE, Server
from tests.engine.conftest import CONFIG
from tests.engine.engine import KEY as ENGINE_KEY
from tests.engine.engine import Engine
from tests.engine.speech import song

CUTS = 30
AT_ONCE = 3.0


@pytest.fixture
def other(engines: tuple[Engine, Engine], gateway: Server, tmp_path: Path) -> Iterator[Server]:
    """A second gateway on the first one's state."""
    answering, embedding = engines
    config = CONFIG.format(key=KEY, chat=answering.url, embed=embedding.url)
    state = {"PENSTOCK_STATE_URL": f"sqlite:///{gateway.folder}/.penstock/state.db"}
    with Server(tmp_path, config, PENSTOCK_ENGINE_API_KEY=ENGINE_KEY, **state) as server:
        yield server


class Reader:
    """Reads one stream at any gateway: ``ids`` and ``documents`` of its events so far, ``ended`` once all is told."""

    def __init__(self, tokens: int) -> None:
        self._body = song(tokens, stream=True)
        self.location = ""
        self.ids: list[str] = []
        self.documents: list[dict[str, Any]] = []
        self.ended = False

    @property
    def text(self) -> str:
        """What was said."""
        return "".join(choice["delta"].get("content") or "" for each in self.documents for choice in each["choices"])

    def read(self, server: Server, most: int) -> None:
        """Connect, read so many events at most, and cut the connection."""
        with httpx.Client(base_url=server.url, headers=self._headers(), timeout=PATIENCE) as client:
            method, path = ("GET", f"{self.location}/stream") if self.location else ("POST", "/v1/chat/completions")
            with client.stream(method, path, json=None if self.location else self._body) as response:
                assert response.status_code == 200, response.read()
                self.location = self.location or response.headers["location"]
                with closing(response.iter_lines()) as lines:
                    self._take(lines, most)

    def _headers(self) -> dict[str, str]:
        after = {"last-event-id": self.ids[-1]} if self.ids else {}
        return {"authorization": f"Bearer {KEY}", "prefer": "resumable", **after}

    def _take(self, lines: Iterator[str], most: int) -> None:
        name = ""
        for line in lines:
            field, _, value = line.partition(": ")
            if field == "id":
                name = value
            elif field == "data" and value == "[DONE]":
                self.ended = True
                return
            elif field == "data":
                self.ids.append(name)
                self.documents.append(json.loads(value))
                most -= 1
                if not most or "error" in self.documents[-1]:
                    return


async def test_cut_at_random_and_read_on_at_either_gateway_it_is_whole(
    engine: Engine, gateway: Server, other: Server
) -> None:
    chance, reader, cuts = random.Random(6), Reader(600), 0
    while not reader.ended:
        reader.read(chance.choice([gateway, other]), chance.randrange(1, 2 * 600 // CUTS))
        cuts += 1
    assert cuts >= CUTS / 2
    assert reader.ids == [f"1-{number}" for number in range(1, len(reader.ids) + 1)]
    with gateway.client() as client:
        answer = client.get(reader.location).json()
    assert reader.text == answer["choices"][0]["message"]["content"]
    assert answer["usage"]["completion_tokens"] == 600


async def test_deleting_the_job_frees_the_engine(engine: Engine, gateway: Server, other: Server) -> None:
    reader = Reader(900)
    reader.read(gateway, 3)
    await engine.until_singing()
    with gateway.client() as client:
        assert client.delete(reader.location).json()["status"] == "cancelled"
    assert await engine.until_idle() < AT_ONCE
    reader.read(other, 10**6)
    assert reader.documents[-1]["error"]["code"] == "job_cancelled"


async def test_when_its_gateway_is_killed_the_stream_is_told_anew(
    engine: Engine, gateway: Server, other: Server
) -> None:
    reader = Reader(900)
    reader.read(other, 3)
    other.process.kill()
    reader.read(gateway, 10**6)
    assert reader.documents[-1]["error"]["code"] == "generation_restarted"
    again = Reader(900)
    again.location = reader.location
    again.read(gateway, 10**6)
    assert again.ended
    assert again.ids[0] == "2-1"
    with gateway.client() as client:
        assert again.text == client.get(reader.location).json()["choices"][0]["message"]["content"]
