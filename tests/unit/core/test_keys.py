"""The keyring: who holds a key, how long that is believed, and what holds while the store is down."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core import keys
from penstock.core.keys import CACHED_GRANTS, FRESH, STALE, TRUSTED, Keyring, generate, new_key
from penstock.errors import Authentication, PermissionDenied, StateError
from penstock.schema.key import ANONYMOUS, Caller, VirtualKey
from penstock.schema.secret import Secret
from tests.unit.memory import DOWN, Clock, MemoryStore

SECRET = Secret("psk-abcdefghijklmnop")
HASH = SECRET.sha256()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(keys, "time", clock)
    return clock


@pytest.fixture
def store(clock: Clock) -> MemoryStore:
    store = MemoryStore()
    store.keys[HASH] = new_key(SECRET, owner="ann", priority=3, models=("gpt-*",), expires_at=clock.now + 10_000)
    return store


@pytest.fixture
def ring(store: MemoryStore) -> Keyring:
    return Keyring(store, {Secret("fixed").sha256(): Caller("config-1", scopes=("inference", "metrics"))})


async def test_a_key_tells_who_holds_it(ring: Keyring, store: MemoryStore) -> None:
    caller = await ring.authenticate(SECRET.reveal())
    assert (caller.key_id, caller.owner, caller.priority) == (store.keys[HASH].id, "ann", 3)
    assert caller.may_use("gpt-4o")
    assert not caller.may_use("tiny")


@pytest.mark.parametrize("presented", [None, ""], ids=repr)
async def test_without_a_key_nobody_comes_in(ring: Keyring, store: MemoryStore, presented: str | None) -> None:
    with pytest.raises(Authentication, match="No API key"):
        await ring.authenticate(presented)
    assert not store.asked


@pytest.mark.parametrize("presented", ["psk-unknown", "ключ", "\udc80", "x" * 100_000])
async def test_an_unknown_key_opens_nothing(ring: Keyring, presented: str) -> None:
    with pytest.raises(Authentication, match="not known"):
        await ring.authenticate(presented)


async def test_where_no_key_is_required_everybody_is_anonymous(store: MemoryStore) -> None:
    ring = Keyring(store, {}, required=False)
    assert await ring.authenticate(None) is ANONYMOUS
    assert not store.asked


async def test_a_configured_key_needs_no_store(ring: Keyring, store: MemoryStore) -> None:
    store.failure = DOWN
    assert (await ring.authenticate("fixed")).key_id == "config-1"


async def test_a_key_without_the_scope_is_refused(ring: Keyring) -> None:
    assert (await ring.authenticate("fixed", "metrics")).key_id == "config-1"
    with pytest.raises(PermissionDenied, match="'metrics'"):
        await ring.authenticate(SECRET.reveal(), "metrics")


async def test_a_key_is_believed_for_a_moment_and_then_read_again_behind_the_requests_back(
    ring: Keyring, store: MemoryStore, clock: Clock
) -> None:
    for _ in range(3):
        await ring.authenticate(SECRET.reveal())
    clock.now += FRESH - 0.25
    await ring.authenticate(SECRET.reveal())
    assert store.asked["find_key"] == 1
    clock.now += 0.25
    store.gate = asyncio.Event()
    for _ in range(20):
        await ring.authenticate(SECRET.reveal())  # none waits for the store, which has not answered yet
    await store.until(lambda: store.asked["find_key"] == 2)
    store.gate.set()
    await over(ring)
    clock.now += TRUSTED - 0.25
    await ring.authenticate(SECRET.reveal())
    await over(ring)
    assert store.asked["find_key"] == 3, "and its age counts from then"


async def over(ring: Keyring) -> None:
    """Wait until nothing is being read."""
    while ring._reading:
        await asyncio.gather(*ring._reading.values(), return_exceptions=True)


async def test_a_key_that_was_not_used_for_a_while_is_waited_for(
    ring: Keyring, store: MemoryStore, clock: Clock
) -> None:
    await ring.authenticate(SECRET.reveal())
    clock.now += TRUSTED
    store.gate = asyncio.Event()
    asked = asyncio.ensure_future(ring.authenticate(SECRET.reveal()))
    await store.until(lambda: store.asked["find_key"] == 2)
    assert not asked.done()
    store.gate.set()
    await asked


async def test_a_read_that_fails_behind_the_requests_back_leaves_the_key_as_it_is(
    ring: Keyring, store: MemoryStore, clock: Clock
) -> None:
    granted = CACHED_GRANTS.values.get((), 0)
    await ring.authenticate(SECRET.reveal())
    store.failure = DOWN
    clock.now += FRESH
    for asked in (2, 3, 4):
        await ring.authenticate(SECRET.reveal())
        await store.until(lambda asked=asked: store.asked["find_key"] == asked)
        await over(ring)
    assert CACHED_GRANTS.values.get((), 0) == granted, "the key is younger than what is believed of any"


async def test_a_read_that_was_begun_for_another_request_and_failed_is_made_again(
    ring: Keyring, store: MemoryStore, clock: Clock
) -> None:
    """On Lambda a process is frozen between two requests, and a read with it: its time is up when it wakes."""
    await ring.authenticate(SECRET.reveal())
    clock.now += FRESH
    store.gate, store.failure = asyncio.Event(), DOWN
    await ring.authenticate(SECRET.reveal())
    await store.until(lambda: store.asked["find_key"] == 2)
    clock.now += STALE
    asked = asyncio.ensure_future(ring.authenticate(SECRET.reveal()))
    await asyncio.sleep(0)
    gate, store.gate = store.gate, asyncio.Event()
    gate.set()
    await store.until(lambda: store.asked["find_key"] == 3)
    store.failure = None
    store.gate.set()
    assert (await asked).owner == "ann"


async def test_an_unknown_key_is_remembered_too_and_found_once_it_exists(
    ring: Keyring, store: MemoryStore, clock: Clock
) -> None:
    for _ in range(3):
        with pytest.raises(Authentication):
            await ring.authenticate("psk-new")
    assert store.asked["find_key"] == 1
    store.keys[Secret("psk-new").sha256()] = new_key(Secret("psk-new"))
    clock.now += FRESH + 0.1
    await ring.authenticate("psk-new")


async def test_a_revoked_key_opens_nothing_five_seconds_later(ring: Keyring, store: MemoryStore, clock: Clock) -> None:
    await ring.authenticate(SECRET.reveal())
    store.revoke(HASH, clock.now)
    clock.now += TRUSTED - 0.25
    store.gate = asyncio.Event()
    await ring.authenticate(SECRET.reveal())
    clock.now += 0.25
    asked = asyncio.ensure_future(ring.authenticate(SECRET.reveal()))
    await asyncio.sleep(0)
    assert not asked.done()
    store.gate.set()
    with pytest.raises(Authentication, match="revoked"):
        await asked


class LateStore(MemoryStore):
    """Looks at once and answers later, each time after the next of ``delays``, so that its answers are out of date."""

    def __init__(self, clock: Clock, delays: Iterator[float]) -> None:
        super().__init__()
        self._clock = clock
        self._delays = delays
        self._due: list[tuple[float, asyncio.Event]] = []

    async def find_key(self, sha256: str) -> VirtualKey | None:
        found, answered = self.keys.get(sha256), asyncio.Event()
        self._due.append((self._clock.now + next(self._delays), answered))
        await answered.wait()
        return found

    async def go_on(self) -> None:
        """Give the answers that are due."""
        for _ in range(3):  # a request may ask anew once it has its answer
            for at, answered in self._due:
                if at <= self._clock.now:
                    answered.set()
            for _ in range(5):
                await asyncio.sleep(0)


QUARTERS = st.integers(0, 40)


@settings(max_examples=500)
@given(
    asked=st.lists(QUARTERS, max_size=5),
    revoked=st.integers(0, 20),
    late=st.integers(0, 8),
    delays=st.lists(st.sampled_from([0, 1, 4, 8]), min_size=1),
)
def test_whenever_it_is_used_a_revoked_key_opens_nothing_five_seconds_later(
    asked: list[int], revoked: int, late: int, delays: list[int]
) -> None:
    """All times in quarters of a second; the store takes two seconds at most."""

    async def story(clock: Clock) -> None:
        store = LateStore(clock, (quarters / 4 for quarters in itertools.cycle(delays)))
        store.keys[HASH] = new_key(SECRET)
        ring = Keyring(store, {})
        using: dict[int, asyncio.Task[Caller]] = {}
        uses = {*asked, revoked + 20 + late}
        for now in range(max(uses) + 20):
            if now == revoked:
                store.revoke(HASH, clock.now)
            if now in uses:
                using[now] = asyncio.ensure_future(ring.authenticate(SECRET.reveal()))
            await store.go_on()
            clock.now += 0.25
        for at, use in using.items():
            refused = isinstance(use.exception(), Authentication)
            assert refused if at >= revoked + 20 else refused or use.result().key_id

    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "time", clock)
        asyncio.run(story(clock))


async def test_an_expired_key_opens_nothing_at_once(ring: Keyring, clock: Clock, store: MemoryStore) -> None:
    await ring.authenticate(SECRET.reveal())
    assert store.keys[HASH].expires_at is not None
    clock.now = store.keys[HASH].expires_at - 0.1
    await ring.authenticate(SECRET.reveal())
    clock.now += 0.2
    with pytest.raises(Authentication, match="expired"):
        await ring.authenticate(SECRET.reveal())


async def test_while_the_store_is_down_a_good_key_is_believed_for_a_stated_time(
    ring: Keyring, store: MemoryStore, clock: Clock
) -> None:
    granted = CACHED_GRANTS.values.get((), 0)
    await ring.authenticate(SECRET.reveal())
    store.failure = DOWN
    for seconds in (TRUSTED, STALE - TRUSTED - 1):
        clock.now += seconds
        await ring.authenticate(SECRET.reveal())
    assert CACHED_GRANTS.values[()] == granted + 2
    clock.now += 1
    with pytest.raises(StateError):
        await ring.authenticate(SECRET.reveal())
    assert CACHED_GRANTS.values[()] == granted + 2


async def test_while_the_store_is_down_nobody_new_comes_in(ring: Keyring, store: MemoryStore, clock: Clock) -> None:
    with pytest.raises(Authentication):
        await ring.authenticate("psk-unknown")
    store.failure = DOWN
    clock.now += FRESH + 1
    for presented in (SECRET.reveal(), "psk-unknown"):
        with pytest.raises(StateError):
            await ring.authenticate(presented)


async def test_while_the_store_is_down_a_revoked_key_stays_revoked(
    ring: Keyring, store: MemoryStore, clock: Clock
) -> None:
    store.revoke(HASH, clock.now)
    with pytest.raises(Authentication):
        await ring.authenticate(SECRET.reveal())
    store.failure = DOWN
    clock.now += FRESH + 1
    with pytest.raises(Authentication, match="revoked"):
        await ring.authenticate(SECRET.reveal())


async def test_many_at_once_ask_the_store_once(ring: Keyring, store: MemoryStore) -> None:
    store.gate = asyncio.Event()
    asked = [asyncio.ensure_future(ring.authenticate(SECRET.reveal())) for _ in range(50)]
    await asyncio.sleep(0)
    asked[0].cancel()  # the one who asked first leaves; the others get their answer
    await asyncio.sleep(0)
    store.gate.set()
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert store.asked["find_key"] == 1
    assert isinstance(results[0], asyncio.CancelledError)
    assert all(isinstance(result, Caller) for result in results[1:])


async def test_a_failure_is_not_remembered(ring: Keyring, store: MemoryStore) -> None:
    store.failure = DOWN
    with pytest.raises(StateError):
        await ring.authenticate(SECRET.reveal())
    store.failure = None
    assert (await ring.authenticate(SECRET.reveal())).owner == "ann"


async def test_guesses_do_not_fill_the_memory(
    ring: Keyring, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "CAPACITY", 100)
    for number in range(1000):
        with pytest.raises(Authentication):
            await ring.authenticate(f"psk-guess-{number}")
    assert len(ring._known) <= 100


# Making keys


def test_a_made_key_is_long_random_and_of_letters_and_digits() -> None:
    made = {generate().reveal() for _ in range(100)}
    assert len(made) == 100
    assert all(re.fullmatch(r"psk-[A-Za-z0-9]{40}", key) for key in made)
    assert re.fullmatch(r"myservice-[A-Za-z0-9]{24}", generate(24, "myservice").reveal())
    assert re.fullmatch(r"[A-Za-z0-9]{40}", generate(prefix="").reveal())


def test_the_record_of_a_key_does_not_hold_the_key() -> None:
    secret = generate()
    record = new_key(secret, owner="ann")
    assert secret.reveal() not in repr(record)
    assert record.sha256 == secret.sha256()
    assert record.hint == "…" + secret.reveal()[-4:]
