"""The list of workers: read once for all who wait, then behind their backs; believed while the store is away."""

from __future__ import annotations

import asyncio
import time

import pytest

from penstock.core import fleet as fleets
from penstock.core.fleet import Fleet
from penstock.core.registry import ModelRegistry
from penstock.errors import ModelNotFound, StateError
from penstock.schema.key import Caller
from penstock.schema.model import Deployment
from penstock.schema.secret import Secret
from penstock.schema.worker import READY, Load, Worker
from tests.unit.memory import DOWN, Clock, MemoryStore

SECRET = Secret("a-secret-of-the-fleet")


class WorkerStore(MemoryStore):
    """A store that keeps workers."""

    def __init__(self, *workers: Worker) -> None:
        super().__init__()
        self.workers = {worker.id: worker for worker in workers}

    async def list_workers(self, now: float) -> list[Worker]:
        known = list(self.workers.values())
        await self._enter("list_workers")
        return known

    async def drain_worker(self, id: str) -> Worker | None:
        return self.workers.pop(id, None)

    async def beat_worker(self, id: str, generation: str, state: str, load: Load, *, until: float) -> Worker | None:
        await self._enter("beat_worker")
        return self.workers.get(id)


def a_worker(id: str = "gpu-1", *, model: str = "llama", until: float | None = None) -> Worker:
    """A worker that is ready."""
    lease = time.time() + 30 if until is None else until
    return Worker(id, "g1", f"http://{id}:30000", (model,), READY, engine="sglang", lease_until=lease)


def registry(store: WorkerStore, *configured: Deployment) -> ModelRegistry:
    fleet = Fleet(store, SECRET)  # type: ignore[arg-type]
    return ModelRegistry(store, configured, [], lambda place: place, fleet=fleet)  # type: ignore[arg-type,return-value]


async def found(places: ModelRegistry, model: str = "llama") -> list[str]:
    return [place.id for place in await places.candidates(model)]


async def test_a_key_is_pinned_to_one_worker_or_to_all_of_them() -> None:
    vendor = Deployment("vendor/llama", "llama", "vendor", "openai", "m", "http://x")
    places = registry(WorkerStore(a_worker("gpu-1"), a_worker("gpu-2")), vendor)

    async def reached(*providers: str) -> list[str]:
        return [place.id for place in await places.candidates("llama", Caller("key_1", providers=providers))]

    assert await reached("workers") == ["gpu-1/llama", "gpu-2/llama"]
    assert await reached("gpu-2", "vendor") == ["gpu-2/llama", "vendor/llama"]
    assert await reached("gpu-*") == ["gpu-1/llama", "gpu-2/llama"]
    with pytest.raises(ModelNotFound):
        await reached("gpu-3")


async def test_all_who_come_first_wait_for_the_one_reading() -> None:
    store = WorkerStore(a_worker())
    store.gate = asyncio.Event()
    places = registry(store)
    asked = [asyncio.ensure_future(found(places)) for _ in range(5)]
    await store.until(lambda: store.asked["load_registry"] > 0)
    store.gate.set()
    assert await asyncio.gather(*asked) == [["gpu-1/llama"]] * 5, "nobody is told that there is no such model"
    assert (store.asked["load_registry"], store.asked["list_workers"]) == (1, 1)


async def test_nobody_waits_for_the_next_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(fleets, "time", clock)
    store = WorkerStore(a_worker(until=clock.now + 30))
    places = registry(store)
    assert await found(places) == ["gpu-1/llama"]
    store.workers["gpu-2"] = a_worker("gpu-2", until=clock.now + 30)
    store.gate = asyncio.Event()
    clock.now += 2.1
    assert await found(places) == ["gpu-1/llama"]
    store.gate.set()
    async with asyncio.timeout(5):
        while await found(places) != ["gpu-1/llama", "gpu-2/llama"]:  # noqa: ASYNC110 - it is a turn of the loop away
            await asyncio.sleep(0)
    assert store.asked["list_workers"] == 2


async def test_after_a_pause_the_first_to_ask_waits_for_a_new_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(fleets, "time", clock)
    store = WorkerStore(a_worker(until=clock.now + 30))
    places = registry(store)
    assert await found(places) == ["gpu-1/llama"]
    clock.now += 60
    store.workers = {"gpu-2": a_worker("gpu-2", until=clock.now + 30)}
    assert await found(places) == ["gpu-2/llama"], "who has left is not used, and who has come is"


async def test_a_reading_that_was_overtaken_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(fleets, "time", clock)
    store = WorkerStore(a_worker(until=clock.now + 30))
    fleet = Fleet(store, SECRET)  # type: ignore[arg-type]
    store.gate = slow = asyncio.Event()
    asked = asyncio.ensure_future(fleet.serving("llama"))
    await store.until(lambda: store.asked["list_workers"] == 1)
    store.gate = None
    clock.now += 0.5
    await fleet.drain("gpu-1")
    slow.set()
    assert await asked is None


async def test_while_the_store_is_away_workers_are_as_they_were_until_their_lease_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr(fleets, "time", clock)
    store = WorkerStore(a_worker(until=clock.now + 30))
    places = registry(store, Deployment("vendor/llama", "llama", "vendor", "openai", "m", "http://x", priority=2))
    assert await found(places) == ["gpu-1/llama", "vendor/llama"]
    store.failure = DOWN
    clock.now += 29
    assert await found(places) == ["gpu-1/llama", "vendor/llama"]
    clock.now += 1
    assert await found(places) == ["vendor/llama"]


async def test_before_the_first_reading_only_what_is_configured_is_known() -> None:
    store = WorkerStore(a_worker())
    store.failure = DOWN
    places = registry(store, Deployment("vendor/other", "other", "vendor", "openai", "m", "http://x"))
    assert await found(places, "other") == ["vendor/other"]
    with pytest.raises(StateError):
        await found(places)


async def test_without_a_secret_nobody_asks_for_workers() -> None:
    store = WorkerStore(a_worker())
    places = ModelRegistry(store, [], [], lambda place: place, fleet=Fleet(store, None))  # type: ignore[arg-type,return-value]
    with pytest.raises(ModelNotFound):
        await found(places)
    assert not store.asked["list_workers"]
