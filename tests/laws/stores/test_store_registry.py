"""Laws of the model registry in a store."""

from __future__ import annotations

import pytest

from penstock.core.ports import Store
from penstock.errors import StateConflict
from penstock.schema.model import Registry
from tests.laws.stores.records import NOW, a_card, a_selection


async def test_a_new_store_holds_version_0_which_is_empty(store: Store) -> None:
    assert await store.load_registry() == Registry()


async def test_what_was_published_is_loaded(store: Store) -> None:
    cards = (a_card(context_window=8192), a_card("meta-llama/Llama-3.1-8B", upstream="llama"))
    published = await store.publish_registry(cards, expected=0, at=NOW)
    assert published == Registry(1, cards, NOW)
    assert await store.load_registry() == published


async def test_each_version_replaces_the_one_before(store: Store) -> None:
    for version in range(3):
        await store.publish_registry([a_card(f"model-{version}")], expected=version, at=NOW + version)
    assert await store.load_registry() == Registry(3, (a_card("model-2"),), NOW + 2)


async def test_an_empty_list_is_a_version_like_any_other(store: Store) -> None:
    await store.publish_registry([a_card()], expected=0, at=NOW)
    assert await store.publish_registry([], expected=1, at=NOW) == Registry(2, (), NOW)
    assert await store.load_registry() == Registry(2, (), NOW)


@pytest.mark.parametrize("expected", [0, 2, 5])
async def test_a_version_that_is_not_the_newest_cannot_be_replaced(store: Store, expected: int) -> None:
    first = await store.publish_registry([a_card()], expected=0, at=NOW)
    with pytest.raises(StateConflict):
        await store.publish_registry([], expected=expected, at=NOW + 1)
    assert await store.load_registry() == first


async def test_nothing_follows_a_version_that_never_was(store: Store) -> None:
    with pytest.raises(StateConflict):
        await store.publish_registry([a_card()], expected=1, at=NOW)
    assert await store.load_registry() == Registry()


async def test_the_cards_of_three_hundred_models_fit(store: Store) -> None:
    cards = tuple(a_card(f"vendor/model-{number}", upstream="x" * 100) for number in range(300))
    await store.publish_registry(cards, expected=0, at=NOW)
    assert (await store.load_registry()).cards == cards


async def test_what_was_selected_is_published_beside_the_cards(store: Store) -> None:
    chosen = (
        a_selection(priority=0, temperature=0.7, max_tokens=2000),
        a_selection("other", models=(), editable=False),
    )
    published = await store.publish_registry([a_card()], chosen, expected=0, at=NOW)
    assert published.selections == chosen
    assert await store.load_registry() == published
