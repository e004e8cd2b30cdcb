"""``GET /metrics``: who may read it, and that what it says is what was counted, in Prometheus's own words."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

import penstock
from penstock.app import App
from penstock.bootstrap import build
from penstock.core.counters import COUNTERS, Counter, Gauge, Histogram
from penstock.core.keys import CACHED_GRANTS, generate, new_key
from penstock.errors import StateError
from penstock.schema.config import Auth, Document, Logging, Provider
from penstock.settings import Settings

INSIDE, OUTSIDE = "10.1.2.3", "203.0.113.9"
BOTH = pytest.mark.parametrize("path", ["/metrics", "/metrics/prometheus"])
OPENMETRICS = "application/openmetrics-text; version=1.0.0"

Ask = Callable[..., Any]


def an_app(folder: Path, mode: str = "keys") -> App:
    document = Document(
        auth=Auth(mode=mode),  # type: ignore[arg-type]
        logging=Logging(level="ERROR"),
        providers=(Provider(name="simulated", type="simulated", models=("echo",)),),
    )
    settings = Settings(state_url=f"sqlite:///{folder / 'state.db'}", document=document)
    return App(lambda: build(settings))


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    app = an_app(tmp_path)
    await app.open()
    yield app
    await app.close()


def client(app: App, address: str = INSIDE, key: str | None = None, **headers: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app, client=(address, 4711))  # type: ignore[arg-type]
    given = {"authorization": f"Bearer {key}"} if key else {}
    return httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=given | headers)


async def a_key(app: App, *scopes: str) -> str:
    secret = generate()
    await (await app.open()).store.create_key(new_key(secret, scopes=scopes))
    return secret.reveal()


def declared() -> list[Counter | Gauge | Histogram]:
    """Every metric of the product, whether this process needed it yet or not; a test's own are left out."""
    for module in pkgutil.walk_packages(penstock.__path__, "penstock."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return [counter for counter in COUNTERS if counter.name.startswith("penstock_")]


async def read(app: App, **sample: str) -> float:
    """The value of the one sample with these labels; ``name`` is the metric's."""
    name = sample.pop("name")
    async with client(app) as asking:
        text = (await asking.get("/metrics")).text
    samples = [found for family in parse(text) for found in family.samples]
    return sum(found.value for found in samples if found.name == name and found.labels == sample)


# who may read


@BOTH
async def test_a_trusted_network_needs_no_key(app: App, path: str) -> None:
    async with client(app) as asking:
        assert (await asking.get(path)).status_code == 200


@BOTH
@pytest.mark.parametrize(
    ("scopes", "status"), [("metrics", 200), ("inference,metrics", 200), ("inference", 403), ("admin", 403)]
)
async def test_elsewhere_a_key_needs_the_scope_metrics(app: App, path: str, scopes: str, status: int) -> None:
    async with client(app, OUTSIDE, await a_key(app, *scopes.split(","))) as asking:
        assert (await asking.get(path)).status_code == status


@BOTH
@pytest.mark.parametrize("key", [None, "psk-unknown"])
async def test_elsewhere_nobody_reads_without_a_good_key(app: App, path: str, key: str | None) -> None:
    async with client(app, OUTSIDE, key) as asking:
        answer = await asking.get(path)
    assert answer.status_code == 401
    assert "penstock_" not in answer.text


@BOTH
async def test_a_web_page_that_somebody_inside_opens_reads_nothing(app: App, path: str) -> None:
    async with client(app, INSIDE, origin="https://evil.example") as asking:
        assert (await asking.get(path)).status_code == 401


@BOTH
async def test_without_keys_at_all_strangers_still_read_nothing(tmp_path: Path, path: str) -> None:
    app = an_app(tmp_path, "none")
    async with client(app, OUTSIDE) as asking:
        answer = await asking.get(path)
    async with client(app, INSIDE) as asking:
        assert (await asking.get(path)).status_code == 200
    await app.close()
    assert answer.status_code == 403
    assert "'metrics'" in answer.json()["error"]["message"]


async def test_it_is_read_while_the_store_is_away(app: App) -> None:
    await (await app.open()).store.close()
    with pytest.raises(StateError):
        await (await app.open()).store.ping()
    async with client(app) as asking:
        assert (await asking.get("/metrics")).status_code == 200


# what it says


async def test_it_is_what_prometheus_reads(app: App) -> None:
    async with client(app) as asking:
        answer = await asking.get("/metrics")
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        families = {family.name: family for family in parse(answer.text)}
        modern = await asking.get("/metrics", headers={"accept": OPENMETRICS})
    assert modern.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert {family.name for family in parse_openmetrics(modern.text)} == set(families)
    declared = {counter.name.removesuffix("_total"): counter for counter in COUNTERS}
    assert set(families) == set(declared), "every counter that is declared, and nothing else"
    for name, counter in declared.items():
        assert families[name].documentation == counter.help
        assert families[name].type == counter.kind


def test_names_follow_prometheus_and_labels_name_nobody() -> None:
    for counter in COUNTERS:
        assert counter.name.startswith("penstock_")
        assert counter.name.endswith("_total") == isinstance(counter, Counter)
        assert not {"key", "key_id", "owner", "request_id", "prompt", "address", "le"} & set(counter.labels)
        if isinstance(counter, Histogram):
            assert counter.name.endswith("_seconds"), "the unit of its values"


def test_docs_metrics_md_lists_every_counter_with_its_labels_and_no_other() -> None:
    rows = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8").splitlines()
    told = {row.split("`")[1] for row in rows if row.startswith("| `penstock_")}
    assert told == {counter.name for counter in declared()}
    for counter in declared():
        labels = ", ".join(f"`{label}`" for label in counter.labels)
        row = f"| `{counter.name}` | {labels} | ".replace("|  |", "| |")
        assert any(found.startswith(row) for found in rows), f"docs/metrics.md lacks {row}"


async def test_what_is_counted_is_told(app: App) -> None:
    before = CACHED_GRANTS.values.get((), 0)
    await (await app.open()).store.ping()
    assert await read(app, name="penstock_auth_cached_grants_total") == before
    CACHED_GRANTS.add(n=3)
    assert await read(app, name="penstock_auth_cached_grants_total") == before + 3
    assert await read(app, name="penstock_state_breaker_open", store="sqlite") == 0
    assert await read(app, name="penstock_state_calls_total", store="sqlite", result="ok") > 0


async def test_requests_are_counted_by_how_they_ended_and_unknown_models_by_no_name(app: App) -> None:
    key = await a_key(app, "inference")
    told = {"name": "penstock_requests_total", "endpoint": "chat/completions"}
    good = told | {"model": "echo", "ended": "ok", "status": "200"}
    bad = told | {"model": "", "ended": "failed", "status": "404"}
    before = await read(app, **good), await read(app, **bad)
    async with client(app, OUTSIDE, key) as asking:
        for model in ("echo", "echo", f"no-such-model-{time.time_ns()}"):
            body = {"model": model, "messages": [{"role": "user", "content": "a canary prompt"}]}
            await asking.post("/v1/chat/completions", json=body)
    await (await app.open()).ledger.flush()
    assert (await read(app, **good), await read(app, **bad)) == (before[0] + 2, before[1] + 1)
    async with client(app) as asking:
        text = (await asking.get("/metrics")).text
    assert key not in text
    assert "canary" not in text
    assert "no-such-model" not in text


def test_the_library_is_imported_by_whoever_asks_first_and_not_at_the_start() -> None:
    code = "import sys, penstock.app; penstock.app.App(lambda: None); assert 'prometheus_client' not in sys.modules"
    functions = Path(penstock.__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], cwd=functions, check=True)
