"""Laws of records: whatever a record holds comes back as it was."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.core.ports import Store
from penstock.schema.job import Job
from penstock.schema.key import VirtualKey
from penstock.schema.model import ModelCard, Selection
from penstock.schema.outcome import Outcome
from penstock.schema.webhook import Delivery, Webhook, Webhooks
from tests.laws.stores import any_record
from tests.laws.stores.records import NOW

FEW = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FEW
@given(key=any_record.keys)
async def test_any_key_comes_back_as_it_was(store: Store, key: VirtualKey) -> None:
    await store.create_key(key)
    assert await store.find_key(key.sha256) == key


@FEW
@given(outcome=any_record.outcomes)
async def test_any_outcome_comes_back_as_it_was(store: Store, outcome: Outcome) -> None:
    await store.record_outcomes([outcome])
    assert outcome in await store.list_outcomes(key_id=outcome.key_id, since=outcome.started_at, limit=1000)


@FEW
@given(job=any_record.jobs)
async def test_any_job_comes_back_as_it_was(store: Store, job: Job) -> None:
    await store.create_job(job)
    assert await store.find_job(job.id) == job


@FEW
@given(cards=st.lists(any_record.cards, max_size=4), chosen=st.lists(any_record.selections, max_size=3))
async def test_any_card_and_selection_comes_back_as_it_was(
    store: Store, cards: list[ModelCard], chosen: list[Selection]
) -> None:
    before = await store.load_registry()
    published = await store.publish_registry(cards, chosen, expected=before.version, at=NOW)
    assert (published.cards, published.selections) == (tuple(cards), tuple(chosen))
    assert await store.load_registry() == published


@FEW
@given(each=st.lists(any_record.webhooks, max_size=3).map(tuple))
async def test_any_webhook_comes_back_as_it_was(store: Store, each: tuple[Webhook, ...]) -> None:
    before = await store.load_webhooks("key_1")
    kept = Webhooks("key_1", before.revision + 1, each)
    await store.replace_webhooks(kept)
    assert await store.load_webhooks("key_1") == kept


@FEW
@given(delivery=any_record.deliveries)
async def test_any_delivery_comes_back_as_it_was(store: Store, delivery: Delivery) -> None:
    assert await store.create_delivery(delivery)
    assert await store.find_delivery(delivery.id) == delivery
