"""``Idempotency-Key`` on routes that start no generation: served once, answered alike, whoever asks again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock.app import App
from penstock.bootstrap import build
from penstock.core.jobs import repeats
from penstock.core.keys import generate, new_key
from penstock.errors import StateError
from penstock.house import House
from penstock.schema.config import Auth, Document, Logging, Provider
from penstock.schema.key import Caller
from penstock.schema.secret import Secret
from penstock.settings import Settings

REFRESH, KEYS = "/v1/registry/refresh", "/api/v1/apikeys"
ECHO = [Provider("echo", "simulated", models=["one"], options={"ttft": 0, "tokens_per_second": 0})]

Refreshes = list[float]


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    document = Document(logging=Logging(level="CRITICAL"), providers=ECHO)
    app = App(lambda: build(Settings(state_url=f"sqlite:///{tmp_path}/state.db", document=document)))
    await app.open()
    yield app
    await app.close()


@pytest.fixture
async def house(app: App) -> House:
    return await app.open()


@pytest.fixture
async def caller(app: App, house: House) -> AsyncIterator[Callable[[], Awaitable[httpx.AsyncClient]]]:
    """Makes callers from far away, each with a virtual key of its own."""
    made: list[httpx.AsyncClient] = []

    async def make(address: str = "203.0.113.9", *, keyed: bool = True) -> httpx.AsyncClient:
        key = generate()
        if keyed:
            await house.store.create_key(new_key(key))
        transport = httpx.ASGITransport(app=app, client=(address, 4711))  # type: ignore[arg-type]
        headers = {"authorization": f"Bearer {key.reveal()}"} if keyed else {}
        made.append(httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers))
        return made[-1]

    yield make
    for one in made:
        await one.aclose()


@pytest.fixture
def refreshes(house: House, monkeypatch: pytest.MonkeyPatch) -> Refreshes:
    """The times at which the registry was really refreshed."""
    seen: Refreshes = []
    ask = house.registry.ask

    async def noted() -> Any:
        seen.append(time.monotonic())
        return await ask()

    monkeypatch.setattr(house.registry, "ask", noted)
    return seen


async def post(client: httpx.AsyncClient, path: str, key: str = "k-1", **options: Any) -> httpx.Response:
    return await client.post(path, headers={"idempotency-key": key}, **options)


def within(folder: Path, secret: bytes) -> bool:
    """Whether a file in the folder holds the secret."""
    return any(secret in file.read_bytes() for file in folder.rglob("*") if file.is_file())


async def test_a_repeat_is_told_the_first_answer_and_serves_nothing(caller: Any, refreshes: Refreshes) -> None:
    client = await caller()
    first = await post(client, REFRESH)
    again = await post(client, REFRESH)
    assert (again.status_code, again.content, again.headers["content-type"]) == (
        *(200, first.content),
        first.headers["content-type"],
    )
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert len(refreshes) == 1


async def test_another_key_another_request(caller: Any, refreshes: Refreshes) -> None:
    client = await caller()
    await post(client, REFRESH, "k-1")
    await post(client, REFRESH, "k-2")
    await client.post(REFRESH)
    assert len(refreshes) == 3


async def test_a_key_is_its_caller_s_alone(caller: Any, refreshes: Refreshes) -> None:
    await post(await caller(), REFRESH)
    answer = await post(await caller(), REFRESH)
    assert answer.status_code == 200
    assert len(refreshes) == 2


@pytest.mark.parametrize("different", [{"json": {"a": 2}}, {"params": {"a": "1"}, "json": {"a": 1}}])
async def test_another_request_under_the_same_key_is_409(
    caller: Any, refreshes: Refreshes, different: dict[str, Any]
) -> None:
    client = await caller()
    await post(client, REFRESH, json={"a": 1})
    answer = await post(client, REFRESH, **different)
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "idempotency_key_reused"
    assert (await post(client, "/api/v1/apikeys", json={"a": 1})).json()["error"]["code"] == "idempotency_key_reused"
    assert len(refreshes) == 1


async def test_of_many_at_once_one_is_served_and_all_are_told_the_same(caller: Any, refreshes: Refreshes) -> None:
    client = await caller()
    answers = await asyncio.gather(*(post(client, REFRESH) for _ in range(8)))
    assert {answer.content for answer in answers} == {answers[0].content}
    assert [answer.status_code for answer in answers] == [200] * 8
    assert len(refreshes) == 1


async def test_a_repeat_waits_for_the_first_and_then_says_so(
    caller: Any, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeats, "PATIENCE", 0.1)
    begun, go = asyncio.Event(), asyncio.Event()
    ask = house.registry.ask

    async def slowly() -> Any:
        begun.set()
        await go.wait()
        return await ask()

    monkeypatch.setattr(house.registry, "ask", slowly)
    client = await caller()
    first = asyncio.ensure_future(post(client, REFRESH))
    await begun.wait()
    second = await post(client, REFRESH)
    assert (second.status_code, second.json()["error"]["code"]) == (409, "idempotency_key_in_use")
    assert int(second.headers["retry-after"]) == 1
    go.set()
    assert (await first).status_code == 200
    assert (await post(client, REFRESH)).headers["idempotent-replayed"] == "true"


async def test_what_was_refused_is_served_anew(caller: Any, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    client, ask = await caller(), house.registry.ask

    async def away() -> Any:
        raise StateError("The store is away.")

    monkeypatch.setattr(house.registry, "ask", away)
    assert (await post(client, REFRESH)).status_code == 503
    monkeypatch.setattr(house.registry, "ask", ask)
    again = await post(client, REFRESH)
    assert again.status_code == 200
    assert "idempotent-replayed" not in again.headers


async def test_a_process_that_died_at_it_keeps_repeats_waiting_for_its_lease_alone(
    caller: Any, house: House, refreshes: Refreshes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeats, "LEASE", 0.2)
    client = await caller()
    (key,) = await house.store.list_keys()
    await house.repeats.begin(key.id, "k-1", f"POST {REFRESH}", "dead")
    assert (await post(client, REFRESH)).status_code == 200
    assert len(refreshes) == 1


async def test_who_takes_longer_than_a_lease_keeps_it(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "LEASE", 0.3)
    monkeypatch.setattr(repeats, "RENEWED", 0.05)
    first = await house.repeats.begin("me", "k-1", "POST /slow", "server-1")
    renewing = asyncio.ensure_future(house.repeats.renew(first))
    another = asyncio.ensure_future(house.repeats.begin("me", "k-1", "POST /slow", "server-2"))
    done, _ = await asyncio.wait({another}, timeout=1.0)
    assert not done
    renewing.cancel()
    await house.repeats.served(first, b'{"done":true}')
    assert (await another).result == b'{"done":true}'


async def test_a_secret_is_told_once_and_kept_nowhere(caller: Any, house: House, tmp_path: Path) -> None:
    client = await caller("127.0.0.1", keyed=False)
    first = await post(client, KEYS, json={"description": "one"})
    again = await post(client, KEYS, json={"description": "one"})
    assert (first.status_code, again.status_code) == (201, 409)
    assert again.json()["error"]["code"] == "idempotency_answer_not_kept"
    assert len(await house.store.list_keys()) == 1
    await house.store.close()
    secret = first.json()["api_key"].encode()
    assert not within(tmp_path, secret)


async def test_a_revoked_key_replays_nothing(caller: Any, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await caller()
    assert (await post(client, REFRESH)).status_code == 200
    (key,) = await house.store.list_keys()
    await house.store.revoke_key(key.id, time.time())
    house.keyring._known.clear()
    assert (await post(client, REFRESH)).status_code == 401


@pytest.mark.parametrize("key", ["", "  ", "x" * 256, "snow\u2603".encode().decode("latin-1"), "a b"])
async def test_a_key_that_is_none_is_refused(caller: Any, key: str) -> None:
    answer = await post(await caller(), REFRESH, key.encode("latin-1"))  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "Idempotency-Key")


async def test_two_keys_are_refused(caller: Any) -> None:
    answer = await (await caller()).post(REFRESH, headers=[("idempotency-key", "a"), ("idempotency-key", "b")])
    assert answer.status_code == 400


async def test_a_quoted_key_is_the_bare_one(caller: Any, refreshes: Refreshes) -> None:
    client = await caller()
    await post(client, REFRESH, '"k-1"')
    await post(client, REFRESH, "k-1")
    assert len(refreshes) == 1


async def test_a_kept_answer_expires(caller: Any, house: House, refreshes: Refreshes, monkeypatch: Any) -> None:
    client = await caller()
    monkeypatch.setattr(house.repeats, "_retention", -1.0)
    await post(client, REFRESH)
    await post(client, REFRESH)
    assert len(refreshes) == 2


async def test_a_file_that_is_sent_again_is_the_same_whatever_stands_between_the_parts(
    caller: Any, house: House
) -> None:
    client = await caller()
    parts = [("purpose", "user_data", None), ("file", "a" * 5000, "a.txt")]
    answers = [
        await upload(client, parts, boundary, cut) for boundary, cut in (("x1", 7), ("another-one", 64), ("x", 9999))
    ]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["id"] for answer in answers}) == 1
    changed = await upload(client, [parts[0], ("file", "b" * 5000, "a.txt")], "x1", 64)
    assert changed.json()["error"]["code"] == "idempotency_key_reused"


async def upload(client: httpx.AsyncClient, parts: list[Any], boundary: str, cut: int) -> httpx.Response:
    """Send a form with this boundary, in pieces of so many bytes."""
    form = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"'
        + (f'; filename="{file}"' if file else "")
        + f"\r\n\r\n{value}\r\n"
        for name, value, file in parts
    )
    body = f"{form}--{boundary}--\r\n".encode()

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), cut):
            yield body[start : start + cut]

    headers = {"content-type": f"multipart/form-data; boundary={boundary}", "idempotency-key": "k-1"}
    return await client.post("/v1/files", headers=headers, content=pieces())


async def test_in_a_function_a_generation_is_left_to_who_runs_jobs(tmp_path: Path) -> None:
    document = Document(logging=Logging(level="CRITICAL"), providers=ECHO, auth=Auth(api_keys=["test-key"]))
    settings = Settings(state_url=f"sqlite:///{tmp_path}/state.db", document=document, door="stream_api")
    app = App(lambda: build(replace(settings, keys={Secret("test-key").sha256(): Caller("test")})))
    house = await app.open()
    transport = httpx.ASGITransport(app=app)
    headers = {"authorization": "Bearer test-key", "idempotency-key": "k-1"}
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers) as client:
        body = {"model": "one", "messages": [{"role": "user", "content": "Hello"}]}
        asked = [asyncio.ensure_future(client.post("/v1/chat/completions", json=body)) for _ in range(2)]
        async with asyncio.timeout(30):
            [message] = await house.queue.receive(most=10, lease=30, wait=20)
        job = await house.runner.claim(message.job_id)
        assert job is not None
        await house.runner.work(job)
        answers = await asyncio.gather(*asked)
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].content == answers[1].content
    assert {answer.headers["location"] for answer in answers} == {f"/v1/jobs/{job.id}"}
    assert len(await house.store.list_outcomes()) == 1
    await app.close()
