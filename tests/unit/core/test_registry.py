"""The registry of models: who serves what, found where, and shared with every process through the store."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from penstock.core import registry as registries
from penstock.core.registry import AGAIN, BELIEVED, TRUSTED, ModelRegistry
from penstock.errors import ModelNotFound, StateConflict, StateError, UpstreamUnavailable
from penstock.schema.key import Caller
from penstock.schema.model import Deployment, ModelCard, Registry, Selection
from tests.unit.memory import DOWN, Clock, MemoryStore


def deployment(provider: str, model: str = "", **fields: Any) -> Deployment:
    """A deployment with a fixed model, or a provider to be asked for its models."""
    name = f"{provider}/{model}" if model else provider
    return Deployment(name, model, provider, "openai", f"up-{model}" if model else "", "http://x/v1", **fields)


def card(model: str, provider: str, upstream: str = "") -> ModelCard:
    return ModelCard(model, provider, "openai", 1_700_000_000, upstream)


class Listing:
    """A connection that knows only what models there are."""

    def __init__(self, provider: str, *models: str) -> None:
        self.provider = provider
        self.listed = list(models)
        self.down = False
        self.asked = 0
        self.begun = asyncio.Event()

    async def models(self, deadline: float) -> list[ModelCard]:
        self.asked += 1
        self.begun.set()
        await asyncio.sleep(0)
        if self.down:
            raise UpstreamUnavailable("nobody there")
        return [card(model, self.provider) for model in self.listed]


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(registries, "time", clock)
    return clock


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def listing() -> Listing:
    return Listing("engine", "tiny", "small")


@pytest.fixture
def registry(store: MemoryStore, listing: Listing) -> ModelRegistry:
    """A registry with a provider whose models are discovered."""
    return discovering(store, listing)


def discovering(store: MemoryStore, *listings: Listing, **fields: Any) -> ModelRegistry:
    known = {listing.provider: listing for listing in listings}
    sources = [deployment(name) for name in known]
    return ModelRegistry(store, [], sources, lambda place: known[place.provider], **fields)  # type: ignore[arg-type,return-value]


def fixed(*places: Deployment, **fields: Any) -> ModelRegistry:
    return ModelRegistry(MemoryStore(), places, [], lambda place: Listing(place.provider), **fields)  # type: ignore[arg-type,return-value]


async def ids(registry: ModelRegistry, model: str) -> list[str]:
    return [place.id for place in await registry.candidates(model)]


# Configured deployments


async def test_the_best_comes_first_and_equals_keep_their_order() -> None:
    registry = fixed(
        deployment("c", "m", priority=2), deployment("a", "m"), deployment("b", "m"), deployment("d", "m", priority=0)
    )
    assert await ids(registry, "m") == ["d/m", "a/m", "b/m", "c/m"]


async def test_an_unknown_model_is_not_found() -> None:
    registry = fixed(deployment("a", "m"))
    with pytest.raises(ModelNotFound, match="'other' does not exist") as error:
        await registry.candidates("other")
    assert error.value.param == "model"


async def test_a_pinned_key_is_sent_to_its_providers_in_the_usual_order() -> None:
    registry = fixed(deployment("a", "m"), deployment("b", "m", priority=2), deployment("c", "m"), deployment("a", "k"))
    pinned = Caller("key_1", providers=("b", "c"))
    assert [place.id for place in await registry.candidates("m", pinned)] == ["c/m", "b/m"]
    assert [found.id for found in await registry.cards(pinned)] == ["m"]
    with pytest.raises(ModelNotFound, match="pinned to serves the model 'k'"):
        await registry.candidates("k", pinned)


async def test_a_model_of_several_deployments_has_one_card() -> None:
    cards = await fixed(deployment("b", "m", priority=2), deployment("a", "m"), deployment("a", "k")).cards()
    assert [found.id for found in cards] == ["k", "m"]


async def test_a_connection_is_made_once_for_each_deployment() -> None:
    made: list[str] = []

    def connect(place: Deployment) -> Any:
        made.append(place.id)
        return object()

    first, second = deployment("a", "m"), deployment("b", "m")
    registry = ModelRegistry(MemoryStore(), [first, second], [], connect)  # type: ignore[arg-type]
    assert registry.connection(first) is registry.connection(first)
    assert registry.connection(second) is not registry.connection(first)
    assert made == ["a/m", "b/m"]


async def test_spare_deployments_serve_only_while_there_are_no_others(store: MemoryStore, listing: Listing) -> None:
    listing.down = True
    registry = discovering(store, listing, spare=[deployment("simulated", "echo")])
    assert await ids(registry, "echo") == ["simulated/echo"]
    listing.down = False
    await registry.refresh()
    assert [found.id for found in await registry.cards()] == ["small", "tiny"]
    with pytest.raises(ModelNotFound):
        await registry.candidates("echo")


# Discovered models


async def test_a_model_nobody_knows_yet_is_looked_for(registry: ModelRegistry, listing: Listing) -> None:
    (found,) = await registry.candidates("tiny")
    assert (found.id, found.model, found.upstream_model) == ("engine/tiny", "tiny", "tiny")
    assert listing.asked == 1


async def test_looking_for_unknown_models_does_not_ask_providers_each_time(
    registry: ModelRegistry, listing: Listing, clock: Clock
) -> None:
    for _ in range(5):
        with pytest.raises(ModelNotFound):
            await registry.candidates("nonsense")
    assert listing.asked == 1
    clock.now += AGAIN + 1
    listing.listed.append("nonsense")
    assert await ids(registry, "nonsense") == ["engine/nonsense"]
    assert listing.asked == 2


async def test_many_who_look_at_once_ask_once(registry: ModelRegistry, listing: Listing) -> None:
    await asyncio.gather(*(registry.refresh() for _ in range(20)))
    assert listing.asked == 1


async def test_who_comes_while_others_look_waits_for_what_they_find(registry: ModelRegistry, listing: Listing) -> None:
    first = asyncio.create_task(ids(registry, "tiny"))
    await listing.begun.wait()
    assert not first.done()
    assert await ids(registry, "tiny") == await first == ["engine/tiny"]
    assert listing.asked == 1


async def test_who_lists_models_while_others_look_sees_them_too(registry: ModelRegistry, listing: Listing) -> None:
    first = asyncio.create_task(registry.cards())
    await listing.begun.wait()
    assert [card.id for card in await registry.cards()] == [card.id for card in await first] == ["small", "tiny"]


async def test_who_leaves_while_looking_does_not_stop_the_others(registry: ModelRegistry) -> None:
    first, other = (asyncio.ensure_future(registry.refresh()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert len((await other).cards) == 2


async def test_what_one_process_finds_another_reads(registry: ModelRegistry, store: MemoryStore) -> None:
    await registry.refresh()
    listing = Listing("engine")
    another = discovering(store, listing)
    assert await ids(another, "tiny") == ["engine/tiny"]
    assert listing.asked == 0


async def test_a_change_of_another_process_is_seen_within_seconds(
    registry: ModelRegistry, store: MemoryStore, clock: Clock
) -> None:
    await registry.refresh()
    await registry.candidates("tiny")
    store.registry = Registry(store.registry.version + 1, (card("new", "engine"),), 0.0)
    clock.now += BELIEVED + 0.1
    await registry.candidates("tiny")  # served as known, and read behind the request's back
    async with asyncio.timeout(5):
        while [found.id for found in await registry.cards()] != ["new"]:  # noqa: ASYNC110 - the registry tells nobody
            await asyncio.sleep(0)


async def test_a_refresh_that_finds_nothing_new_publishes_nothing(registry: ModelRegistry, store: MemoryStore) -> None:
    assert (await registry.refresh()).version == 1
    assert (await registry.refresh()).version == 1
    assert store.asked["publish_registry"] == 1


async def test_a_provider_that_is_down_keeps_its_models(registry: ModelRegistry, listing: Listing) -> None:
    await registry.refresh()
    listing.down = True
    await registry.refresh()
    assert await ids(registry, "tiny") == ["engine/tiny"]


async def test_a_model_that_is_gone_is_gone(registry: ModelRegistry, listing: Listing) -> None:
    await registry.refresh()
    listing.listed.remove("tiny")
    await registry.refresh()
    with pytest.raises(ModelNotFound):
        await registry.candidates("tiny")


async def test_models_of_a_provider_that_is_no_longer_configured_are_not_served(store: MemoryStore) -> None:
    store.registry = Registry(3, (card("old", "gone"), card("tiny", "engine", upstream="real/tiny")), 0.0)
    registry = discovering(store, Listing("engine"))
    (found,) = await registry.candidates("tiny")
    assert found.upstream_model == "real/tiny"
    with pytest.raises(ModelNotFound):
        await registry.candidates("old")


async def test_a_rival_who_publishes_first_loses_nothing(store: MemoryStore, listing: Listing) -> None:
    class Raced(MemoryStore):
        """Another process publishes just before us, once."""

        async def publish_registry(self, cards: Any, selections: Any = (), *, expected: int, at: float) -> Registry:
            if self.asked["publish_registry"] == 0:
                self.registry = Registry(expected + 1, (card("theirs", "other"),), at)
            return await super().publish_registry(cards, selections, expected=expected, at=at)

    raced = Raced()
    found = await discovering(raced, listing).refresh()
    assert found.version == 2
    assert sorted(each.id for each in found.cards) == ["small", "theirs", "tiny"]


async def test_rivals_without_end_are_an_error(store: MemoryStore, registry: ModelRegistry) -> None:
    store.publish_registry = conflict  # type: ignore[method-assign]
    with pytest.raises(StateError, match="try again"):
        await registry.refresh()


async def conflict(cards: Any, selections: Any, *, expected: int, at: float) -> Registry:
    raise StateConflict("always somebody else")


async def test_while_the_store_is_down_known_models_are_served(
    registry: ModelRegistry, store: MemoryStore, clock: Clock
) -> None:
    await registry.refresh()
    store.failure = DOWN
    for _ in range(3):
        clock.now += BELIEVED + 1
        assert await ids(registry, "tiny") == ["engine/tiny"]
        await asyncio.sleep(0)


async def test_configured_models_need_no_store() -> None:
    store = MemoryStore()
    store.failure = DOWN
    registry = ModelRegistry(store, [deployment("a", "m")], [], lambda _: Listing("a"))  # type: ignore[arg-type,return-value]
    assert await ids(registry, "m") == ["a/m"]


async def test_what_is_wrong_with_each_provider_is_told(store: MemoryStore) -> None:
    broken = Listing("broken")
    broken.down = True
    registry = discovering(store, Listing("engine", "tiny"), broken)
    assert await registry.examine() == [("broken", "nobody there"), ("engine", None)]


async def test_a_discovered_deployment_inherits_from_its_provider(store: MemoryStore) -> None:
    source = replace(deployment("engine"), timeout=7.0, headers=(("x-team", "blue"),))
    registry = ModelRegistry(store, [], [source], lambda _: Listing("engine", "tiny"))  # type: ignore[arg-type,return-value]
    (found,) = await registry.candidates("tiny")
    assert (found.timeout, found.headers, found.base_url) == (7.0, (("x-team", "blue"),), "http://x/v1")


# What somebody wants to know, and what an administrator selects


async def test_providers_of_the_configuration_are_asked_about_their_own_models_alone(store: MemoryStore) -> None:
    listing = Listing("a", "up-m", "up-other")
    registry = ModelRegistry(store, [deployment("a", "m")], [], lambda _: listing)  # type: ignore[arg-type,return-value]
    await registry.refresh()
    assert listing.asked == 0, "nobody wants to know"
    learned = await registry.ask()
    assert [each.id for each in learned.cards] == ["up-m"]
    assert [(each.id, each.created) for each in await registry.cards()] == [("m", 1_700_000_000)]


async def test_one_provider_is_asked_alone_and_its_problem_is_told(store: MemoryStore, listing: Listing) -> None:
    other = Listing("other", "big")
    registry = discovering(store, listing, other)
    other.down = True
    await registry.ask("other")
    assert (listing.asked, registry.problems) == (0, {"other": "nobody there"})
    other.down = False
    await registry.ask("other")
    assert registry.problems == {}
    assert [each.id for each in await registry.cards()] == ["big"]


async def test_a_selection_survives_what_is_discovered(registry: ModelRegistry, listing: Listing) -> None:
    await registry.refresh()
    await registry.select(Selection("engine", ("tiny",), priority=7, max_tokens=9, temperature=0.5))
    listing.listed = ["tiny", "new"]
    await registry.refresh()
    (found,) = await registry.candidates("tiny")
    assert (found.priority, found.max_tokens, found.temperature) == (7, 9, 0.5)
    for unselected in ("new", "small"):
        with pytest.raises(ModelNotFound):
            await registry.candidates(unselected)
    assert [(offer.card.id, served) for offer, served in await registry.catalogue("engine")] == [
        ("new", False), ("tiny", True),
    ]  # fmt: skip


async def test_two_who_select_at_once_are_both_heard(store: MemoryStore) -> None:
    registries = [fixed_in(store, deployment("a", "m"), deployment("b", "m")) for _ in range(2)]
    for each in registries:
        await each.candidates("m")
    await asyncio.gather(
        registries[0].select(Selection("a", ("m",))),
        registries[1].select(Selection("b", ("m",))),
    )
    assert [each.provider for each in sorted(store.registry.selections, key=lambda each: each.provider)] == ["a", "b"]


async def test_what_is_selected_in_one_process_is_obeyed_in_another_within_seconds(
    store: MemoryStore, clock: Clock
) -> None:
    first, second = (fixed_in(store, deployment("a", "m"), deployment("b", "m")) for _ in range(2))
    assert await ids(second, "m") == ["a/m", "b/m"]
    await first.select(Selection("b", ("m",), priority=0))
    clock.now += TRUSTED + 0.1
    assert await ids(second, "m") == ["b/m", "a/m"], "who has not looked for long waits for what holds now"


def fixed_in(store: MemoryStore, *places: Deployment) -> ModelRegistry:
    return ModelRegistry(store, places, [], lambda place: Listing(place.provider))  # type: ignore[arg-type,return-value]
