"""The numbers that alerts read: each under its path, from the ledger alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from penstock import plugs
from penstock.core.ports import Store
from penstock.core.vitals import Vitals
from penstock.schema.outcome import Failure, Usage
from tests.laws.stores.records import NOW, an_outcome


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    made = plugs.load("stores", "sqlite").connect(f"sqlite:///{tmp_path}/state.db", None)
    await made.open()
    yield made
    await made.close()


async def test_paths_name_a_provider_or_a_model_and_what_is_told_of_it(store: Store) -> None:
    await store.record_outcomes(
        [
            *(an_outcome(deployment="open.ai/gpt-4.1", model="gpt-4.1", duration=0.5, ttft=0.1) for _ in range(3)),
            an_outcome(
                **{"deployment": "spare/gpt-4.1", "model": "gpt-4.1", "duration": 2.0, "usage": Usage(5, 5)},
                failures=(Failure("open.ai/gpt-4.1", "upstream_timeout", 1.5),),
                cost_nanos=2 * 10**9,
            ),
        ]
    )
    told = await Vitals(store, ["open.ai", "idle"], lambda: {"memory_percent": 42.0}).read(60, now=NOW + 1)
    assert told["providers.open.ai.error_rate"] == 0.25
    assert told["providers.open.ai.total_requests"] == 4
    assert told["providers.open.ai.avg_response_time"] == pytest.approx(0.75)
    assert told["providers.open.ai.avg_time_to_first_token"] == pytest.approx(0.1)
    assert told["providers.spare.success_rate"] == 1
    assert told["providers.spare.avg_response_time"] == pytest.approx(0.5)
    assert told["providers.spare.total_tokens"] == 10
    assert told["models.gpt-4.1.failed_requests"] == 1
    assert told["summary.total_requests"] == 4
    assert told["summary.failed_requests"] == 0
    assert told["summary.attempts"] == 5
    assert told["summary.total_providers"] == 3
    assert told["summary.average_success_rate"] == pytest.approx(0.875)
    assert told["summary.cost"] == 2
    assert told["summary.window"] == 60
    assert told["system.memory_percent"] == 42


async def test_of_a_provider_that_nobody_was_sent_to_there_is_no_rate(store: Store) -> None:
    told = await Vitals(store, ["idle"]).read(60)
    assert told["providers.idle.total_requests"] == 0
    assert told["summary.total_requests"] == 0
    assert not {"providers.idle.error_rate", "summary.error_rate", "summary.average_success_rate"} & set(told)


async def test_what_is_older_than_the_window_is_left_out(store: Store) -> None:
    await store.record_outcomes([an_outcome(started_at=NOW - 120), an_outcome(started_at=NOW - 30)])
    vitals = Vitals(store)
    assert (await vitals.read(60, now=NOW))["summary.total_requests"] == 1
    assert (await vitals.read(300, now=NOW))["summary.total_requests"] == 2
