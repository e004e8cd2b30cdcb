"""Sixteen processes that do the same thing to one store at the same moment.

Run as ``python -m tests.laws.stores.arena``. Each line of its input is a race, ``["PLAY", "URL", "WHAT"]``; it answers
with a line that lists what each process saw. A play gets an open store, the number of its process, what it is about
(the id of a job, or a number of rounds), and ``start``, which waits for the others.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import sys
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from multiprocessing.synchronize import Barrier
from typing import Any

from penstock import plugs
from penstock.core.ports import Store
from penstock.errors import StateConflict
from penstock.outbound import HttpClient
from penstock.schema.alert import Watch
from penstock.stores.dynamodb import connection as dynamodb
from tests.laws.stores import limit_plays
from tests.laws.stores.records import LATER, NOW, a_card, a_delivery, a_job, a_key, a_webhook, an_outcome

RIVALS = 16
PATIENCE = 40.0

Start = Callable[[], None]
Play = Callable[[Store, int, str, Start], Awaitable[Any]]


async def create_one_hash(store: Store, me: int, _: str, start: Start) -> str | None:
    """Everybody creates a key of his own id with the same hash; the winner answers his id."""
    return await _create(store, start, id=f"key_{me}", sha256="5" * 64)


async def create_one_id(store: Store, me: int, _: str, start: Start) -> str | None:
    """Everybody creates a key of his own hash with the same id; the winner answers his hash."""
    return await _create(store, start, id="key_1", sha256=f"{me:064d}") and f"{me:064d}"


async def _create(store: Store, start: Start, **differs: str) -> str | None:
    start()
    try:
        await store.create_key(a_key(**differs))
    except StateConflict:
        return None
    return differs["id"]


async def revoke_one_key(store: Store, me: int, _: str, start: Start) -> float | None:
    """Everybody revokes the same key at his own time, and answers the time that he was told."""
    start()
    revoked = await store.revoke_key("key_1", NOW + me)
    return revoked.revoked_at if revoked else None


async def change_one_key(store: Store, me: int, rounds: str, start: Start) -> int:
    """Everybody counts the same key's priority up, ``rounds`` times, reading it again after each conflict."""
    start()
    for _ in range(int(rounds)):
        while True:
            key = await store.read_key("key_1")
            assert key is not None
            try:
                await store.replace_key(replace(key, priority=key.priority + 1, revision=key.revision + 1))
                break
            except StateConflict:
                continue
    return int(rounds)


async def create_one_job(store: Store, me: int, job: str, start: Start) -> bool:
    """Everybody creates a job with the same id; the winner answers ``True``."""
    start()
    try:
        await store.create_job(a_job(id=job, key_id=f"key_{me}"))
    except StateConflict:
        return False
    return True


async def claim_one_job(store: Store, me: int, job: str, start: Start) -> str | None:
    """Everybody claims the same job; the winner answers his name."""
    start()
    claimed = await store.claim_job(job, f"runner-{me}", now=NOW + 60, lease=30)
    return claimed.runner if claimed else None


async def finish_one_job(store: Store, me: int, job: str, start: Start) -> str | None:
    """Everybody finishes the same job as the runner that holds it; the winner answers his result."""
    start()
    return (
        f"result of {me}"
        if await store.finish_job(job, "runner", now=NOW, expires=LATER, result=b"result of %d" % me)
        else None
    )


async def publish_versions(store: Store, me: int, _: str, start: Start) -> list[int]:
    """Everybody publishes until he has published twice, and answers his versions."""
    start()
    mine: list[int] = []
    while len(mine) < 2:
        newest = await store.load_registry()
        cards = [*newest.cards, a_card(f"model-{me}-{len(mine)}")]
        try:
            mine.append((await store.publish_registry(cards, expected=newest.version, at=NOW)).version)
        except StateConflict:
            continue
    return mine


async def record_one_outcome(store: Store, _: int, __: str, start: Start) -> int:
    """Everybody records the same outcome, and answers how many were new."""
    start()
    return await store.record_outcomes([an_outcome(request_id="req_1")])


async def record_one_batch(store: Store, me: int, _: str, start: Start) -> int:
    """Everybody records the same thirty outcomes and ten of his own, and answers how many were new."""
    outcomes = [an_outcome(request_id=f"req_{number}", started_at=NOW + number) for number in range(30)]
    outcomes += [an_outcome(request_id=f"req_{me}_{number}", key_id=f"key_{me}") for number in range(10)]
    start()
    return await store.record_outcomes(outcomes)


async def write_without_rest(store: Store, me: int, rounds: str, start: Start) -> int:
    """Everybody writes a batch and a job in each round, and answers how many outcomes were new."""
    start()
    new = 0
    for batch in range(int(rounds)):
        new += await store.record_outcomes([an_outcome(request_id=f"req_{me}_{batch}_{n}") for n in range(10)])
        await store.create_job(a_job(id=f"job_{me}_{batch}"))
    return new


async def take_one_duty(store: Store, me: int, name: str, start: Start) -> bool:
    """Everybody takes the same duty; the winner answers ``True``."""
    start()
    return await store.take_duty(name, f"process-{me}", now=NOW, until=NOW + 30)


async def claim_fill(store: Store, me: int, _: str, start: Start) -> bool:
    """Everybody claims to fill the same key; the winner answers ``True``."""
    start()
    return await store.claim_fill("key", f"process-{me}", now=NOW, until=NOW + 30, stale=NOW - 300)


async def add_one_webhook(store: Store, me: int, key: str, start: Start) -> int:
    """Everybody adds a webhook to the same key's, reading them again after each conflict; answers his revision."""
    start()
    while True:
        found = await store.load_webhooks(key)
        more = replace(found, revision=found.revision + 1, each=(*found.each, a_webhook(id=f"wh_{me}")))
        try:
            await store.replace_webhooks(more)
        except StateConflict:
            continue
        return more.revision


async def create_one_delivery(store: Store, me: int, id: str, start: Start) -> bool:
    """Everybody creates a delivery with the same id; the winner answers ``True``."""
    start()
    return await store.create_delivery(a_delivery(id=id, message_id=f"msg_{me}"))


async def claim_one_delivery(store: Store, me: int, id: str, start: Start) -> str | None:
    """Everybody claims the same delivery; the winner answers his name."""
    start()
    claimed = await store.claim_delivery(id, f"sender-{me}", now=NOW, lease=30)
    return claimed.sender if claimed else None


async def open_at_once(store: Store, _: int, __: str, start: Start) -> bool:
    """Everybody opens a store that nobody has opened before."""
    start()
    await store.open()
    await store.ping()
    return True


async def revise_one_watch(store: Store, me: int, rule: str, start: Start) -> int:
    """Everybody writes the next revision of one rule's watch, reading it again after each conflict; answers his."""
    start()
    while True:
        found = await store.find_watch(rule) or Watch(rule)
        after = replace(found, revision=found.revision + 1, told_at=found.told_at + 1)
        try:
            await store.replace_watch(after)
        except StateConflict:
            continue
        return after.revision


PLAYS: dict[str, Play] = {
    play.__name__: play
    for play in (
        *(
            create_one_hash,
            create_one_id,
            revoke_one_key,
            change_one_key,
            create_one_job,
            claim_one_job,
            finish_one_job,
            take_one_duty,
            claim_fill,
            add_one_webhook,
            revise_one_watch,
            create_one_delivery,
            claim_one_delivery,
        ),
        *(publish_versions, record_one_outcome, record_one_batch, write_without_rest, open_at_once),
        *limit_plays.PLAYS,
    )
}


def connect(url: str) -> Store:
    """The store at an address, with connections of its own."""
    store: Store = plugs.load("stores", url.partition(":")[0]).connect(url, HttpClient())
    return store


@dataclass(frozen=True, slots=True)
class Race:
    """One play at one address."""

    play: Play
    url: str
    what: str
    barrier: Barrier

    async def take_part(self, me: int) -> Any:
        """Open the store, wait for the others, play."""
        store = connect(self.url)
        if self.play is not open_at_once:
            await store.open()
        async with asyncio.timeout(PATIENCE):
            seen = await self.play(store, me, self.what, self.start)
        await store.close()
        return seen

    def start(self) -> None:
        """Wait until everybody is here."""
        self.barrier.wait(PATIENCE)

    def live(self, me: int, seen: Any) -> None:
        """The life of one process."""
        try:
            seen.put((me, asyncio.run(self.take_part(me))))
        except BaseException:
            self.barrier.abort()
            seen.put((me, {"failed": traceback.format_exc()}))
            raise


def run(name: str, url: str, what: str) -> list[Any]:
    """Start sixteen processes, and tell what they saw in the order of their numbers."""
    connect(url)  # what it imports, it imports for all of them
    context = multiprocessing.get_context("fork")
    race, seen = Race(PLAYS[name], url, what, context.Barrier(RIVALS)), context.SimpleQueue()
    rivals = [context.Process(target=race.live, args=(me, seen), daemon=True) for me in range(RIVALS)]
    for process in rivals:
        process.start()
    told = dict(seen.get() for _ in rivals)
    for process in rivals:
        process.join()
    return [told[me] for me in range(RIVALS)]


def main() -> None:
    """Run races until there are no more."""
    dynamodb.BUDGET = dynamodb.ATTEMPT = PATIENCE  # laws say what is true, not how fast a busy machine tells it
    for line in sys.stdin:
        print(json.dumps(run(*json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
