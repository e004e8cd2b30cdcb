"""Laws of workers: who is there, what it has to do, and whose word counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from penstock.core.ports import Store
from penstock.schema.worker import BUSY, DRAINING, GONE, READY, STARTING, Load, Worker
from tests.laws.stores.records import NOW


def a_worker(id: str = "gpu-1", **differs: Any) -> Worker:
    """A worker that is ready, with a lease of 30 seconds from now."""
    plain: dict[str, Any] = {
        "generation": "g1",
        "url": "http://10.0.0.5:30000",
        "models": ("llama", "org/other"),
        "state": READY,
        "engine": "sglang",
        "engine_version": "0.5.23",
        "gpu": "NVIDIA H200",
        "gpu_memory": 143_771,
        "gpus": 8,
        "capacity": 64,
        "registered_at": NOW,
        "lease_until": NOW + 30,
    }
    return Worker(id, **(plain | differs))


async def test_a_worker_is_kept_as_it_described_itself(store: Store) -> None:
    await store.register_worker(a_worker("gpu-2", kv_use=0.25))
    await store.register_worker(a_worker("gpu-1", url="", pulls=True))
    assert await store.list_workers(NOW) == [a_worker("gpu-1", url="", pulls=True), a_worker("gpu-2", kv_use=0.25)]


async def test_a_heartbeat_renews_the_lease_and_tells_the_load(store: Store) -> None:
    await store.register_worker(a_worker(state=STARTING))
    load = Load(running=3, waiting=1, kv_use=0.5, capacity=64)
    told = await store.beat_worker("gpu-1", "g1", READY, load, until=NOW + 40)
    expected = a_worker(running=3, waiting=1, kv_use=0.5, capacity=64, lease_until=NOW + 40)
    assert told == expected
    assert await store.list_workers(NOW) == [expected]
    assert expected.state_at(NOW + 39) == BUSY
    assert expected.state_at(NOW + 40) == GONE


async def test_nobody_who_is_not_known_has_a_heartbeat(store: Store) -> None:
    assert await store.beat_worker("gpu-1", "g1", READY, Load(), until=NOW + 30) is None
    assert await store.list_workers(NOW) == []


async def test_an_earlier_generations_word_counts_no_more(store: Store) -> None:
    await store.register_worker(a_worker())
    await store.register_worker(a_worker(generation="g2", url="http://10.0.0.6:30000"))
    assert await store.beat_worker("gpu-1", "g1", READY, Load(running=9), until=NOW + 99) is None
    assert await store.list_workers(NOW) == [a_worker(generation="g2", url="http://10.0.0.6:30000")]


async def test_a_draining_worker_goes_on_draining_whatever_it_says(store: Store) -> None:
    await store.register_worker(a_worker())
    assert await store.drain_worker("gpu-1") == a_worker(state=DRAINING)
    told = await store.beat_worker("gpu-1", "g1", READY, Load(running=1), until=NOW + 40)
    assert told == replace(a_worker(), state=DRAINING, running=1, capacity=0, lease_until=NOW + 40)
    assert not told.routable(NOW)
    await store.register_worker(a_worker(generation="g2"))
    assert (await store.list_workers(NOW))[0].state == READY, "one that has come back begins anew"


async def test_a_worker_that_is_not_known_cannot_be_drained(store: Store) -> None:
    assert await store.drain_worker("gpu-1") is None
    assert await store.list_workers(NOW) == []


async def test_a_worker_that_is_gone_is_listed_for_an_hour(store: Store) -> None:
    await store.register_worker(a_worker())
    [gone] = await store.list_workers(NOW + 3600)
    assert (gone.state_at(NOW + 3600), gone.routable(NOW + 3600)) == (GONE, False)
    assert await store.list_workers(NOW + 3631) == []
