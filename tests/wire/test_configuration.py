"""A configuration that changes while the gateway runs: each request is served under one version from first to last."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock.house import House
from tests.wire.gateway import KEY, MODEL, UNLIMITED, Gateway, eventually, serve

VERSION = "x-penstock-config"
QUICK = {"ttft": 0, "tokens_per_second": 0}
SLOW = {"ttft": 0, "tokens_per_second": 20}


@dataclass
class Running:
    """A gateway whose file a test rewrites."""

    gateway: Gateway
    path: Path

    @property
    def house(self) -> House:
        """The one that lets requests in now."""
        return self.gateway.app.succession.house

    def write(self, name: str, options: dict[str, Any] = QUICK, **sections: Any) -> None:
        """Have the file name one provider, called so."""
        document = {
            "auth": {"api_keys": [KEY]},
            "server": {"reload": False},
            "limits": UNLIMITED,
            "logging": {"level": "WARNING"},
            "providers": [{"name": name, "type": "simulated", "models": [MODEL], "options": options}],
            **sections,
        }
        self.path.write_text(json.dumps(document, indent=1), encoding="utf-8")

    async def reload(self) -> dict[str, Any]:
        """Have it loaded; the answer."""
        response = await self.gateway.client.post("/v1/config/reload")
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    first = {"name": "provider-0", "type": "simulated", "models": [MODEL], "options": QUICK}
    async with serve(tmp_path, first, sections={"server": {"reload": False}}) as gateway:
        yield Running(gateway, tmp_path / "config.yaml")


async def test_what_is_new_is_served_by_the_new_version_and_says_so(running: Running) -> None:
    before = await running.gateway.plain()
    running.write("provider-1")
    answer = await running.reload()
    assert (answer["success"], answer["changes_detected"], answer["version"]) == (True, True, 2)
    after = await running.gateway.plain()
    assert [before.headers[VERSION], after.headers[VERSION]] == ["1", "2"]
    assert after.headers["x-penstock-deployment"] == f"provider-1/{MODEL}"


async def test_a_stream_ends_under_the_version_that_it_began_with(running: Running) -> None:
    running.write("slow", SLOW)
    await running.reload()
    old = running.house
    words = [{"role": "user", "content": "one two three four five six seven eight nine ten"}]
    async with running.gateway.open({"stream": True, "messages": words}) as live:
        await live.until(lambda body: b"one" in body)
        running.write("quick")
        await running.reload()
        assert running.house is not old
        assert (await running.gateway.plain()).headers["x-penstock-deployment"] == f"quick/{MODEL}"
        await live.rest()
    assert live.ended_well()
    assert live.text.endswith("ten")
    assert live.headers[VERSION] == "2"
    await eventually(lambda: not running.gateway.app.succession._retiring)
    assert old.guests.inside == 0


async def test_a_bad_file_changes_nothing_and_its_mistake_is_told_with_file_line_and_key(running: Running) -> None:
    running.write("provider-1", routing={"polcy": "weighted"})
    response = await running.gateway.client.post("/v1/config/reload")
    assert response.status_code == 400
    answer = response.json()
    assert (answer["success"], answer["version"]) == (False, 1)
    [mistake] = answer["errors"]
    line = 1 + running.path.read_text(encoding="utf-8").splitlines().index('  "polcy": "weighted"')
    assert mistake == {
        "file": str(running.path),
        "line": line,
        "key": "routing.polcy",
        "message": "nothing reads this key; did you mean 'policy'?",
    }
    assert answer["error"]["message"] == f"{running.path}:{line}: routing.polcy: {mistake['message']}"
    assert (await running.gateway.plain()).headers[VERSION] == "1"
    status = (await running.gateway.client.get("/v1/config/status")).json()
    assert (status["status"], status["validation_errors"]) == ("invalid", [mistake])
    running.write("provider-1")
    await running.reload()
    status = (await running.gateway.client.get("/v1/config/status")).json()
    assert (status["status"], status["validation_errors"], status["version"]) == ("valid", [], 2)


async def test_a_provider_of_an_unknown_type_is_a_mistake_of_the_file_too(running: Running) -> None:
    text = running.path.read_text(encoding="utf-8").replace('"simulated"', '"simulatd"')
    running.path.write_text(text, encoding="utf-8")
    response = await running.gateway.client.post("/v1/config/reload")
    assert response.status_code == 400
    assert response.json()["errors"][0]["key"] == "providers.0.type"
    history = (await running.gateway.client.get("/v1/config/history")).json()
    assert [version["version"] for version in history["data"]] == [1]


async def test_a_storm_of_reloads_fails_no_request_and_mixes_no_two_versions(running: Running) -> None:
    stop = asyncio.Event()
    served: Counter[str] = Counter()
    names: dict[str, str] = {}

    def seen(headers: httpx.Headers) -> None:
        [version] = headers.get_list(VERSION)
        name = headers["x-penstock-deployment"]
        assert names.setdefault(version, name) == name
        served[version] += 1

    async def plain() -> None:
        while not stop.is_set():
            reply = await running.gateway.plain()
            assert reply.status == 200, reply.body
            seen(reply.headers)

    async def streamed() -> None:
        while not stop.is_set():
            reply = await running.gateway.stream(messages=[{"role": "user", "content": "one two three"}])
            assert reply.status == 200, reply.body
            assert reply.ended_well()
            seen(reply.headers)

    async def change() -> None:
        for number in range(1, 41):
            running.write(f"provider-{number}", SLOW if number % 5 == 0 else QUICK)
            await running.reload()
            await asyncio.sleep(0.05)
        stop.set()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(plain())
            tasks.create_task(streamed())
        tasks.create_task(change())
    assert len(served) > 20
    await eventually(lambda: not running.gateway.app.succession._retiring)
    await running.house.ledger.flush()
    outcomes = await running.house.store.list_outcomes(limit=10_000)
    assert len(outcomes) == sum(served.values())
    assert {outcome.ended for outcome in outcomes} == {"ok"}
