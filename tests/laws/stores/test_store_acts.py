"""Laws of the audit trail."""

from __future__ import annotations

from penstock.core.ports import Store
from penstock.schema.act import Act
from tests.laws.stores.records import NOW


def an_act(number: int, **differs: str) -> Act:
    plain = {"actor": "key_1", "action": "create key", "target": "key_2", "detail": "owner, priority"}
    return Act(f"act_{number}", NOW + number, **(plain | differs))


async def test_acts_are_listed_newest_first_as_they_were_recorded(store: Store) -> None:
    acts = [an_act(number, target=f"key_{number}") for number in (3, 1, 2)]
    for act in acts:
        await store.record_act(act)
    assert await store.list_acts() == sorted(acts, key=lambda act: -act.at)


async def test_at_most_as_many_acts_as_asked_for_are_listed(store: Store) -> None:
    for number in range(5):
        await store.record_act(an_act(number))
    assert [act.id for act in await store.list_acts(limit=2)] == ["act_4", "act_3"]


async def test_an_act_is_recorded_once_an_id(store: Store) -> None:
    await store.record_act(an_act(1))
    await store.record_act(an_act(1))
    assert await store.list_acts() == [an_act(1)]


async def test_a_new_trail_is_empty(store: Store) -> None:
    assert await store.list_acts() == []
