"""Laws of lost answers: DynamoDB has made the write, the answer never came, and the call is made again by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

import pytest

from penstock.core.ports import Store
from penstock.errors import StateConflict, UpstreamUnavailable
from penstock.schema.webhook import DELIVERED, Webhooks
from penstock.stores import dynamodb
from tests.laws.stores.moto_in_process import Answer, InProcess
from tests.laws.stores.places import make
from tests.laws.stores.records import LATER, NOW, a_card, a_delivery, a_job, a_key, a_webhook, an_outcome


@dataclass
class LosesAnswers(InProcess):
    """A client that loses the answer to the next write of each kind that it is told to."""

    lose: set[str] = field(default_factory=set)
    lost: list[str] = field(default_factory=list)

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        deadline: float,
        connect_timeout: float = 5.0,
    ) -> Answer:
        """Let the request be served, and then perhaps fail all the same."""
        answer = await super().request(method, url, headers=headers, body=body, deadline=deadline)
        action = dict(headers)["x-amz-target"].partition(".")[2]
        if action in self.lose:
            self.lose.remove(action)
            self.lost.append(action)
            raise UpstreamUnavailable("the connection was closed without an answer")
        return answer


@pytest.fixture
def wire() -> LosesAnswers:
    return LosesAnswers()


@pytest.fixture
async def store(wire: LosesAnswers, tmp_path: object) -> AsyncIterator[Store]:
    place = make("dynamodb-in-process", tmp_path, str)  # type: ignore[arg-type]
    store = dynamodb.connect(place.url, wire)  # type: ignore[arg-type]
    await store.open()
    yield store
    await store.close()


async def test_a_key_is_created_once_and_by_us(store: Store, wire: LosesAnswers) -> None:
    key = a_key()
    wire.lose = {"TransactWriteItems"}
    await store.create_key(key)
    assert wire.lost == ["TransactWriteItems"]
    assert await store.list_keys() == [key]


async def test_a_key_of_somebody_else_is_still_a_conflict(store: Store, wire: LosesAnswers) -> None:
    key = a_key()
    await store.create_key(key)
    wire.lose = {"TransactWriteItems"}
    with pytest.raises(StateConflict):
        await store.create_key(key)
    assert wire.lost == ["TransactWriteItems"]


async def test_a_job_is_created_once_and_by_us(store: Store, wire: LosesAnswers) -> None:
    job = a_job()
    wire.lose = {"PutItem"}
    await store.create_job(job)
    assert wire.lost == ["PutItem"]
    assert await store.find_job(job.id) == job


async def test_a_claim_is_ours_and_counts_as_one_attempt(store: Store, wire: LosesAnswers) -> None:
    job = a_job()
    await store.create_job(job)
    wire.lose = {"UpdateItem"}
    claimed = await store.claim_job(job.id, "runner-1", now=NOW, lease=30)
    assert wire.lost == ["UpdateItem"]
    assert claimed is not None
    assert (claimed.runner, claimed.attempts) == ("runner-1", 1)


async def test_a_claim_of_somebody_else_stays_his(store: Store, wire: LosesAnswers) -> None:
    job = a_job()
    await store.create_job(job)
    await store.claim_job(job.id, "runner-1", now=NOW, lease=30)
    wire.lose = {"UpdateItem"}
    assert await store.claim_job(job.id, "runner-1", now=NOW, lease=30) is None
    assert wire.lost == ["UpdateItem"]


async def test_a_job_is_finished_once_and_by_us(store: Store, wire: LosesAnswers) -> None:
    job = a_job()
    await store.create_job(job)
    await store.claim_job(job.id, "runner-1", now=NOW, lease=30)
    wire.lose = {"UpdateItem"}
    assert await store.finish_job(job.id, "runner-1", now=NOW, expires=LATER, result=b"{}")
    assert wire.lost == ["UpdateItem"]
    assert not await store.finish_job(job.id, "runner-1", now=NOW, expires=LATER, result=b"{}")


async def test_a_version_of_the_registry_is_published_once_and_by_us(store: Store, wire: LosesAnswers) -> None:
    wire.lose = {"PutItem"}
    published = await store.publish_registry([a_card()], expected=0, at=NOW)
    assert wire.lost == ["PutItem"]
    assert await store.load_registry() == published


async def test_an_outcome_is_recorded_once_and_counted(store: Store, wire: LosesAnswers) -> None:
    outcome = an_outcome()
    wire.lose = {"PutItem"}
    assert await store.record_outcomes([outcome]) == 1
    assert wire.lost == ["PutItem"]
    assert await store.list_outcomes() == [outcome]


async def test_a_batch_of_outcomes_is_recorded_once_and_counted(store: Store, wire: LosesAnswers) -> None:
    outcomes = [an_outcome(started_at=NOW - number) for number in range(30)]
    wire.lose = {"BatchWriteItem", "BatchGetItem"}
    assert await store.record_outcomes(outcomes) == 30
    assert sorted(wire.lost) == ["BatchGetItem", "BatchWriteItem"]
    assert await store.list_outcomes() == outcomes


async def test_a_revocation_keeps_its_first_time(store: Store, wire: LosesAnswers) -> None:
    key = a_key()
    await store.create_key(key)
    wire.lose = {"UpdateItem"}
    revoked = await store.revoke_key(key.id, NOW)
    assert wire.lost == ["UpdateItem"]
    assert revoked is not None
    assert revoked.revoked_at == NOW


async def test_a_duty_is_taken_although_the_answer_is_lost(store: Store, wire: LosesAnswers) -> None:
    wire.lose = {"PutItem"}
    assert await store.take_duty("health", "one", now=NOW, until=NOW + 30)
    assert wire.lost == ["PutItem"]
    assert not await store.take_duty("health", "two", now=NOW, until=NOW + 30)


async def test_webhooks_are_replaced_once_and_by_us(store: Store, wire: LosesAnswers) -> None:
    for revision in (1, 2):
        wire.lose = {"PutItem"}
        await store.replace_webhooks(Webhooks("key_1", revision, (a_webhook(),)))
    assert wire.lost == ["PutItem"] * 2
    assert (await store.load_webhooks("key_1")).revision == 2


async def test_a_delivery_is_created_claimed_and_settled_once_and_by_us(store: Store, wire: LosesAnswers) -> None:
    delivery = a_delivery()
    wire.lose = {"PutItem"}
    assert await store.create_delivery(delivery)
    wire.lose = {"UpdateItem"}
    claimed = await store.claim_delivery(delivery.id, "sender-1", now=NOW, lease=30)
    assert claimed is not None
    wire.lose = {"UpdateItem"}
    assert await store.settle_delivery(replace(claimed, status=DELIVERED, due_at=None), "sender-1")
    assert wire.lost == ["PutItem", "UpdateItem", "UpdateItem"]
    assert not await store.settle_delivery(claimed, "sender-1")


async def test_an_end_is_noted_as_told_once(store: Store, wire: LosesAnswers) -> None:
    job = a_job(notify=True)
    await store.create_job(job)
    await store.cancel_job(job.id, now=NOW, expires=LATER, tell_at=NOW)
    wire.lose = {"UpdateItem"}
    assert await store.told_job(job.id)
    assert wire.lost == ["UpdateItem"]
    assert await store.due_jobs(LATER, limit=10) == []
