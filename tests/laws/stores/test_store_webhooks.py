"""Laws of webhooks: all of a key's are replaced together, revision by revision."""

from __future__ import annotations

import pytest

from penstock.core.ports import Store
from penstock.errors import StateConflict
from penstock.schema.webhook import Webhooks
from tests.laws.stores.records import a_webhook


async def test_a_key_that_never_had_webhooks_has_none(store: Store) -> None:
    assert await store.load_webhooks("key_1") == Webhooks("key_1", 0, ())


async def test_webhooks_are_replaced_revision_by_revision(store: Store) -> None:
    one, other = a_webhook(), a_webhook()
    await store.replace_webhooks(Webhooks("key_1", 1, (one,)))
    await store.replace_webhooks(Webhooks("key_1", 2, (one, other)))
    assert await store.load_webhooks("key_1") == Webhooks("key_1", 2, (one, other))
    await store.replace_webhooks(Webhooks("key_1", 3, ()))
    assert await store.load_webhooks("key_1") == Webhooks("key_1", 3, ())


@pytest.mark.parametrize("revision", [1, 2, 4])
async def test_no_revision_is_written_twice_or_left_out(store: Store, revision: int) -> None:
    kept = a_webhook()
    await store.replace_webhooks(Webhooks("key_1", 1, ()))
    await store.replace_webhooks(Webhooks("key_1", 2, (kept,)))
    with pytest.raises(StateConflict):
        await store.replace_webhooks(Webhooks("key_1", revision, (a_webhook(),)))
    assert (await store.load_webhooks("key_1")).each == (kept,)


async def test_the_first_revision_is_the_first(store: Store) -> None:
    with pytest.raises(StateConflict):
        await store.replace_webhooks(Webhooks("key_1", 2, (a_webhook(),)))


async def test_a_secret_comes_back_and_prints_as_stars(store: Store) -> None:
    await store.replace_webhooks(Webhooks("key_1", 1, (a_webhook(),)))
    (found,) = (await store.load_webhooks("key_1")).each
    assert found.secret.reveal() == "whsec_dGVzdA=="
    assert "dGVzdA" not in repr(found)


async def test_each_key_has_its_own(store: Store) -> None:
    await store.replace_webhooks(Webhooks("key_1", 1, (a_webhook(),)))
    assert (await store.load_webhooks("key_2")).each == ()
