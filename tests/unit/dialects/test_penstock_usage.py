"""``GET /v1/usage``: who sees what, of which days, in which groups."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock.app import App
from penstock.bootstrap import build
from penstock.core.keys import generate, new_key
from penstock.schema.config import Auth, Document, Logging, Server
from penstock.schema.outcome import FAILED, Outcome, Usage
from penstock.settings import Settings

INSIDE, OUTSIDE = "10.1.2.3", "203.0.113.9"

Ask = Callable[..., Any]


def document(mode: str = "keys") -> Document:
    return Document(server=Server(port=30000), auth=Auth(mode=mode), logging=Logging(level="ERROR"))  # type: ignore[arg-type]


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    settings = Settings(state_url=f"sqlite:///{tmp_path / 'state.db'}", document=document())
    app = App(lambda: build(settings))
    await app.open()
    yield app
    await app.close()


@pytest.fixture
def ask(app: App) -> Ask:
    """Ask for usage from an address, with a key if given."""

    async def asked(address: str = INSIDE, key: str | None = None, query: str = "", **params: str) -> httpx.Response:
        transport = httpx.ASGITransport(app=app, client=(address, 4711))  # type: ignore[arg-type]
        headers = {"authorization": f"Bearer {key}"} if key else {}
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers) as client:
            return await client.get(f"/v1/usage{query}", params=params or None)

    return asked


async def a_key(app: App, *scopes: str) -> tuple[str, str]:
    """A new key's id, and the key."""
    secret = generate()
    key = new_key(secret, scopes=scopes or ("inference",))
    await (await app.open()).store.create_key(key)
    return key.id, secret.reveal()


def outcome(number: int, day: date, key_id: str = "key_1", **differs: Any) -> Outcome:
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp()
    plain: dict[str, Any] = {
        "request_id": f"req_{number}",
        "started_at": noon,
        "duration": 0.5,
        "key_id": key_id,
        "owner": "ada",
        "endpoint": "/v1/chat/completions",
        "model": "tiny",
        "deployment": "engine/tiny",
        "ended": "ok",
        "status": 200,
        "usage": Usage(100, 10, 40),
        "cost_nanos": 1_500,
    }
    return Outcome(**(plain | differs))


async def hold(app: App, *outcomes: Outcome) -> None:
    await (await app.open()).store.record_outcomes(outcomes)


TODAY = datetime.now(UTC).date()
MAY = date(2026, 5, 20)


async def test_a_line_tells_what_its_group_used(app: App, ask: Ask) -> None:
    await hold(app, outcome(1, MAY), outcome(2, MAY, cost_nanos=None, ended=FAILED), outcome(3, MAY, model="huge"))
    told = (await ask(start="2026-05-01", end="2026-05-31")).json()
    huge = {"day": "2026-05-20", "key_id": "key_1", "owner": "ada", "model": "huge", "requests": 1, "failed": 0}
    tokens = {"prompt_tokens": 100, "cached_tokens": 40, "completion_tokens": 10}
    twice = {name: 2 * count for name, count in tokens.items()}
    tiny = huge | {"model": "tiny", "requests": 2, "failed": 1}
    assert told["data"] == [
        huge | tokens | {"cost": 0.0000015, "unpriced": 0},
        tiny | twice | {"cost": 0.0000015, "unpriced": 1},
    ]
    assert told["total"] == {
        "requests": 3,
        "failed": 1,
        "prompt_tokens": 300,
        "cached_tokens": 120,
        "completion_tokens": 30,
        "cost": 0.000003,
        "unpriced": 1,
    }
    assert (told["object"], told["start"], told["end"]) == ("list", "2026-05-01", "2026-05-31")
    assert date.fromisoformat(told["prices_version"])


async def test_without_days_it_is_this_month_until_today(app: App, ask: Ask) -> None:
    before = TODAY.replace(day=1) - timedelta(days=1)
    await hold(app, outcome(1, TODAY), outcome(2, TODAY.replace(day=1)), outcome(3, before))
    told = (await ask()).json()
    assert (told["start"], told["end"]) == (TODAY.replace(day=1).isoformat(), TODAY.isoformat())
    assert told["total"]["requests"] == 2


async def test_both_days_are_included(app: App, ask: Ask) -> None:
    await hold(app, *(outcome(number, MAY + timedelta(days=number)) for number in range(4)))
    told = (await ask(start="2026-05-21", end="2026-05-22")).json()
    assert [line["day"] for line in told["data"]] == ["2026-05-21", "2026-05-22"]


async def test_a_ledger_without_anything_is_told_as_nothing(ask: Ask) -> None:
    told = (await ask(start="2026-05-01", end="2026-05-31")).json()
    assert told["data"] == []
    assert set(told["total"].values()) == {0}


@pytest.mark.parametrize(
    ("query", "columns", "lines"),
    [
        ("", ["day", "key_id", "owner", "model"], 5),
        ("&group_by=day", ["day"], 2),
        ("&group_by=key", ["key_id", "owner"], 3),
        ("&group_by=model", ["model"], 2),
        ("&group_by=owner", ["owner"], 2),
        ("&group_by=model,day", ["day", "model"], 3),
        ("&group_by=model&group_by=day", ["day", "model"], 3),
    ],
)
async def test_lines_are_grouped_as_asked(app: App, ask: Ask, query: str, columns: list[str], lines: int) -> None:
    await hold(
        app,
        outcome(1, MAY),
        outcome(2, MAY),
        outcome(3, MAY, "key_2"),
        outcome(4, MAY, "key_2", model="huge"),
        outcome(5, MAY + timedelta(days=1), "key_2"),
        outcome(6, MAY, "key_3", owner="bob"),
    )
    told = (await ask(query=f"?start=2026-05-01&end=2026-05-31{query}")).json()
    groups = [tuple(line[column] for column in columns) for line in told["data"]]
    assert len(groups) == len(set(groups)) == lines
    assert groups == sorted(groups)
    assert all(list(line)[: len(columns) + 1] == [*columns, "requests"] for line in told["data"])
    assert sum(line["requests"] for line in told["data"]) == told["total"]["requests"] == 6


# who sees what


async def test_an_administrator_sees_every_key_or_the_one_asked_for(app: App, ask: Ask) -> None:
    _, admin = await a_key(app, "admin")
    await hold(app, outcome(1, TODAY), outcome(2, TODAY, "key_2"))
    for address, key in ((INSIDE, None), (OUTSIDE, admin)):
        assert (await ask(address, key)).json()["total"]["requests"] == 2
        [line] = (await ask(address, key, key_id="key_2")).json()["data"]
        assert line["key_id"] == "key_2"


async def test_everybody_else_sees_his_own_alone(app: App, ask: Ask) -> None:
    mine, key = await a_key(app)
    await hold(app, outcome(1, TODAY), outcome(2, TODAY, mine))
    for query in ({}, {"key_id": mine}, {"group_by": "model"}):
        told = (await ask(OUTSIDE, key, **query)).json()
        assert told["total"]["requests"] == 1
        assert all(line.get("key_id", mine) == mine for line in told["data"])


async def test_nobody_else_sees_another_key(app: App, ask: Ask) -> None:
    _, key = await a_key(app)
    answer = await ask(OUTSIDE, key, key_id="key_1")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (403, "insufficient_permissions", "key_id")


async def test_without_a_key_nothing_is_told(ask: Ask) -> None:
    assert (await ask(OUTSIDE)).status_code == 401
    assert (await ask(OUTSIDE, "psk-unknown")).status_code == 401


async def test_a_key_for_metrics_alone_is_refused(app: App, ask: Ask) -> None:
    _, key = await a_key(app, "metrics")
    assert (await ask(OUTSIDE, key)).status_code == 403


async def test_where_keys_are_off_everybody_is_one_caller(tmp_path: Path) -> None:
    settings = Settings(state_url=f"sqlite:///{tmp_path / 'state.db'}", document=document("none"))
    app = App(lambda: build(settings))
    await hold(app, outcome(1, TODAY, "anonymous"), outcome(2, TODAY))
    transport = httpx.ASGITransport(app=app, client=(OUTSIDE, 4711))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        assert (await client.get("/v1/usage")).json()["total"]["requests"] == 1
        assert (await client.get("/v1/usage?key_id=key_1")).status_code == 403
    await app.close()


# mistakes


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"start": "yesterday"}, "start"),
        ({"start": "2026-02-30"}, "start"),
        ({"start": ""}, "start"),
        ({"end": "2026-13-01"}, "end"),
        ({"end": "1764000000"}, "end"),
        ({"start": "2026-05-02", "end": "2026-05-01"}, "start"),
        ({"start": "2026-01-01", "end": "2026-04-03"}, "start"),
        ({"group_by": "colour"}, "group_by"),
        ({"group_by": "day,,key"}, "group_by"),
        ({"group_by": ""}, "group_by"),
        ({"key_id": "k" * 201}, "key_id"),
    ],
)
async def test_a_mistake_is_a_400_that_names_it(ask: Ask, params: dict[str, str], param: str) -> None:
    answer = await ask(**params)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    "params",
    [
        {"start": "2026-01-01", "end": "2026-04-02"},
        {"start": "0001-01-01", "end": "0001-01-02"},
        {"start": "9999-12-31", "end": "9999-12-31"},
    ],
)
async def test_up_to_92_days_of_any_time_may_be_asked_for(ask: Ask, params: dict[str, str]) -> None:
    assert (await ask(**params)).status_code == 200
