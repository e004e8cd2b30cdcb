"""Which deployments serve which public model: those configured, and those that providers say they have."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from penstock.core.cards import Offer, merged
from penstock.core.fleet import BELIEVED as WORKERS
from penstock.core.fleet import Fleet
from penstock.core.ports import Connection, Store
from penstock.errors import (
    JobsOnly,
    ModelNotFound,
    NoDeploymentAvailable,
    NotFound,
    PenstockError,
    PermissionDenied,
    StateConflict,
    StateError,
)
from penstock.schema.key import ANONYMOUS, EVERY, Caller
from penstock.schema.model import Deployment, ModelCard, Registry, Selection

log = logging.getLogger("penstock.registry")

AGAIN = 30.0
"""Seconds after which a provider without an answer is asked for its models again, if somebody wants one."""
BELIEVED = 4.0
"""Seconds after which the registry is read from the store again, behind the back of the request that needs it."""
TRUSTED = 5.0
"""Seconds after which a request waits for that: what was selected elsewhere is obeyed once they have passed."""
ASKING = 3.0
CAPACITY = 10_000
NEVER = float("-inf")


class ModelRegistry:
    """The deployments of this process, and the discovered ones that all processes share through the store.

    ``configured`` are deployments with a fixed model. ``sources`` are providers whose models are discovered: a
    deployment each with an empty model name. ``connect`` makes the connection to a deployment. ``spare`` deployments
    serve only while there are no others. Workers of the ``fleet`` come and go by their own word. ``problems`` are those
    of providers that did not list their models when they were asked last.
    """

    def __init__(
        self,
        store: Store,
        configured: Sequence[Deployment],
        sources: Sequence[Deployment],
        connect: Callable[[Deployment], Connection],
        *,
        spare: Sequence[Deployment] = (),
        fleet: Fleet | None = None,
    ) -> None:
        self._store = store
        self._configured = tuple(configured)
        self._spare = tuple(spare)
        self._fleet = fleet
        self._sources = {source.provider: source for source in sources}
        self._connect = connect
        self._connections: dict[tuple[str, str, str], Connection] = {}
        self._shared = Registry()
        self._read_at = self._asked_at = NEVER
        self._reloading: asyncio.Task[None] | None = None
        self._refreshing: asyncio.Task[Registry] | None = None
        self.problems: dict[str, str] = {}
        self._started = int(time.time())
        self._index()

    def succeed(self, before: ModelRegistry) -> None:
        """Know what another has read; providers that it did not have are asked when their models are wanted."""
        self._shared, self._read_at = before._shared, before._read_at
        self._index()

    def lacks(self, before: ModelRegistry) -> bool:
        """Whether it has providers, to be asked for their models, that the one before did not ask."""
        return not self._sources.keys() <= before._sources.keys()

    async def candidates(self, model: str, caller: Caller = ANONYMOUS) -> tuple[Deployment, ...]:
        """The deployments of a public model that the caller may be sent to, best first.

        Raises ``ModelNotFound``, and ``NoDeploymentAvailable`` if it has workers and nothing else, and none is ready:
        ``JobsOnly`` where there are such as ask for jobs.
        """
        found = await self._candidates(model, caller)
        if caller.providers == EVERY:
            return found
        reachable = tuple(place for place in found if caller.may_reach(place))
        if not reachable:
            raise ModelNotFound(
                f"No provider that this API key is pinned to serves the model {model!r}.", param="model"
            )
        return reachable

    async def _candidates(self, model: str, caller: Caller) -> tuple[Deployment, ...]:
        if self._fleet:
            self._fleet.look()  # so that both are waited for at once
        await self._recent()
        found = self._deployments.get(model)
        workers = await self._workers(model, needed=found is None)
        if workers:
            return tuple(sorted((*workers, *(found or ())), key=lambda place: place.priority))
        if found is None and workers is None and self._may_look:
            await self.refresh()
            found = self._deployments.get(model)
        if found is None and workers is not None:
            assert self._fleet is not None
            if any(map(caller.may_reach, await self._fleet.asking(model))):
                raise JobsOnly(
                    f"The model {model!r} is served by workers that take jobs and nothing else: send the request with"
                    " the header 'Prefer: respond-async', and poll for its answer."
                )
            raise NoDeploymentAvailable(f"No worker that serves {model!r} is ready.", retry_after=WORKERS)
        if found is None:
            raise ModelNotFound(
                f"The model {model!r} does not exist here, or you may not use it. GET /v1/models lists those that do.",
                param="model",
            )
        return found

    async def _workers(self, model: str, *, needed: bool) -> list[Deployment] | None:
        """The model's workers. While nobody can tell, those that are configured do, if it is not ``needed``."""
        try:
            return await self._fleet.serving(model) if self._fleet else None
        except StateError:
            if needed:
                raise
            return None

    async def places(self) -> list[Deployment]:
        """Every deployment that can be called: configured, discovered, and of workers that may be sent requests."""
        await self._recent()
        workers = await self._fleet.deployments() if self._fleet else []
        called = [place for worker, place in workers if not worker.pulls]
        return called + [place for places in self._deployments.values() for place in places]

    def providers(self) -> list[Deployment]:
        """One place of each provider that serves something, workers aside."""
        found: dict[str, Deployment] = {}
        for places in self._deployments.values():
            for place in places:
                found.setdefault(place.provider, place)
        return list(found.values())

    def connection(self, deployment: Deployment) -> Connection:
        """The connection to a deployment, made at its first use."""
        place = deployment.id, deployment.kind, deployment.base_url  # a worker may come back as another
        connection = self._connections.get(place)
        if connection is None:
            if len(self._connections) >= CAPACITY:
                self._connections.clear()
            connection = self._connections[place] = self._connect(deployment)
        return connection

    async def cards(self, caller: Caller = ANONYMOUS) -> list[ModelCard]:
        """A card for each public model that the caller may use, sorted by name."""
        return [merged(offers) for offers in (await self.offers(caller)).values()]

    async def offers(self, caller: Caller = ANONYMOUS) -> dict[str, list[Offer]]:
        """The places of each public model that the caller may use, best first, by the models' names."""
        await self._recent()
        if not self._shared.cards and self._may_look:
            await self.refresh()
        found = {model: list(offers) for model, offers in self._offers.items()}
        for offer in reversed(await self._fleet_offers()):
            found.setdefault(offer.place.model, []).insert(0, offer)
        reached = {
            model: sorted((offer for offer in found[model] if caller.may_reach(offer.place)), key=_rank)
            for model in sorted(found)
            if caller.may_use(model)
        }
        return {model: offers for model, offers in reached.items() if offers}

    async def catalogue(self, provider: str, caller: Caller = ANONYMOUS) -> list[tuple[Offer, bool]]:
        """What a provider has that the caller may use, by name, and whether it is served: an administrator may have
        selected others. A worker is a provider, and so are all ``workers``. Raises ``NotFound`` for an unknown one.
        """
        await self._recent()
        all_of_it = [offer for offer in self._all if offer.place.provider == provider]
        workers = [o for o in await self._fleet_offers() if provider in (o.place.provider, o.place.pool)]
        known = {offer.place.provider for offer in self._all} | set(self._sources)
        if not workers and provider not in known:
            raise NotFound(f"There is no provider {provider!r}; there are {', '.join(sorted(known)) or 'none'}.")
        found = [*((offer, _selected(offer.place, self.selection(provider))) for offer in all_of_it)]
        found += [(offer, True) for offer in workers]
        allowed = [(o, served) for o, served in found if caller.may_use(o.place.model) and caller.may_reach(o.place)]
        return sorted(allowed, key=lambda each: each[0].place.model)

    async def _fleet_offers(self) -> list[Offer]:
        return [
            Offer(place, ModelCard(place.model, place.provider, worker.engine, int(worker.registered_at), place.model))
            for worker, place in (await self._fleet.deployments() if self._fleet else ())
        ]

    @property
    def refreshed_at(self) -> float:
        """When the list of what providers have was published last, in seconds since the epoch."""
        return self._shared.refreshed_at

    def selection(self, provider: str) -> Selection:
        """What an administrator has chosen of a provider."""
        chosen = (each for each in self._shared.selections if each.provider == provider)
        return next(chosen, Selection(provider))

    async def select(self, new: Selection, *, unlock: bool = False) -> Registry:
        """Choose of a provider what is served; every process obeys within 5 seconds.

        Raises ``PermissionDenied`` where the choice before is not ``editable`` and it is not to be unlocked.
        """

        def change(shared: Registry) -> Registry:
            before = [each for each in shared.selections if each.provider == new.provider]
            if not unlock and any(not each.editable for each in before):
                raise PermissionDenied(
                    f"The selection of {new.provider!r} is locked: send 'editable': true to change it."
                )
            others = [each for each in shared.selections if each.provider != new.provider]
            return replace(shared, selections=(*others, new))

        return await self._publish(change, at=None)

    async def refresh(self) -> Registry:
        """Ask every provider for its models, all at once, and publish what is new."""
        if self._refreshing is None:
            self._refreshing = asyncio.ensure_future(self._refresh())
            self._refreshing.add_done_callback(self._refreshed)
        return await asyncio.shield(self._refreshing)

    def _refreshed(self, _: object) -> None:
        self._refreshing = None

    @property
    def _may_look(self) -> bool:
        """Whether asking providers may find what is missing: they were asked long ago, or are just being asked."""
        asked_long_ago = time.monotonic() - self._asked_at > AGAIN
        return bool(self._sources) and (self._refreshing is not None or asked_long_ago)

    async def ask(self, provider: str | None = None) -> Registry:
        """Ask one provider, or every one, for its models because somebody wants to know, and publish what it answers.

        Those of the configuration with models of their own are asked as well: what they say of these is learned.
        ``problems`` tells who did not answer.
        """
        everyone = {place.provider: place for place in (*self._configured, *self._sources.values())}
        return await self._learn([place for name, place in everyone.items() if provider in (None, name)], always=True)

    async def _refresh(self) -> Registry:
        self._asked_at = time.monotonic()
        return await self._learn(list(self._sources.values()))

    async def _learn(self, asked: list[Deployment], *, always: bool = False) -> Registry:
        answers = await asyncio.gather(*map(self._ask, asked))
        told = {place.provider: cards for place, cards in zip(asked, answers, strict=True) if cards is not None}

        def change(shared: Registry) -> Registry:
            kept = [card for card in shared.cards if card.owned_by not in told]
            new = (*kept, *(card for cards in told.values() for card in cards))
            return shared if not always and _essence(new) == _essence(shared.cards) else replace(shared, cards=new)

        return await self._publish(change, at=time.time())

    async def _publish(self, change: Callable[[Registry], Registry], *, at: float | None) -> Registry:
        """Make the next version of what all processes share out of the newest one; ``at`` is when providers said it."""
        for _ in range(10):
            await self._reload(quietly=False)
            new = change(self._shared)
            if new is self._shared:
                return new
            moment = self._shared.refreshed_at if at is None else at
            try:
                self._shared = await self._store.publish_registry(
                    new.cards, new.selections, expected=self._shared.version, at=moment
                )
            except StateConflict:
                continue
            self._index()
            return self._shared
        raise StateError("The registry is being changed by others faster than it can be published; try again.")

    async def examine(self) -> list[tuple[str, str | None]]:
        """Every provider asked for its models: its name, and what is wrong with it, if anything is."""
        places = {place.provider: place for place in (*self._sources.values(), *self._configured, *self._spare)}
        return [(name, await self._problem(place)) for name, place in sorted(places.items())]

    async def _problem(self, place: Deployment) -> str | None:
        try:
            await self.connection(place).models(asyncio.get_running_loop().time() + ASKING)
        except PenstockError as error:
            return str(error)
        return None

    async def _ask(self, place: Deployment) -> list[ModelCard] | None:
        """The provider's models; of one whose models are configured, those. ``None`` if it does not list them."""
        try:
            cards = await self.connection(place).models(asyncio.get_running_loop().time() + ASKING)
        except PenstockError as error:
            self.problems[place.provider] = str(error)
            expected = place.provider in self._sources and not self._spare  # else nobody said that it is there
            log.log(
                logging.WARNING if expected else logging.DEBUG,
                "%s does not list its models: %s",
                place.provider,
                error,
            )
            return None
        self.problems.pop(place.provider, None)
        if place.provider in self._sources:
            return cards
        wanted = {each.upstream_model for each in self._configured if each.provider == place.provider}
        return [card for card in cards if (card.upstream or card.id) in wanted]

    async def _recent(self) -> None:
        """Have the shared registry at hand. In use, it is read again behind the requests' back, and none waits."""
        age = time.monotonic() - self._read_at
        if age > BELIEVED:
            if self._reloading is None or self._reloading.done():
                self._reloading = asyncio.ensure_future(self._reload())
            if age > TRUSTED:
                await asyncio.shield(self._reloading)

    async def _reload(self, *, quietly: bool = True) -> None:
        try:
            shared = await self._store.load_registry()
        except StateError as error:
            if not quietly:
                raise
            log.warning("the registry is used as it was: %s", error)
            shared = self._shared
        self._read_at = time.monotonic()
        if shared.version != self._shared.version:
            self._shared = shared
            self._index()

    def _index(self) -> None:
        """Make the tables that requests look into; the sort is stable, so equals keep the configuration's order."""
        found = [card for card in self._shared.cards if card.owned_by in self._sources]
        told = {(card.owned_by, card.upstream or card.id): card for card in self._shared.cards}
        self._all: list[Offer] = []
        for place in self._configured if self._configured or found else self._spare:
            card = told.get((place.provider, place.upstream_model))
            unknown = ModelCard(place.model, place.provider, place.kind, self._started, place.upstream_model)
            self._all.append(Offer(place, replace(card, id=place.model) if card else unknown))
        for card in found:
            source, upstream = self._sources[card.owned_by], card.upstream or card.id
            place = replace(source, id=f"{source.provider}/{card.id}", model=card.id, upstream_model=upstream)
            self._all.append(Offer(place, card))
        self._offers: dict[str, list[Offer]] = {}
        for offer in self._all:
            chosen = self.selection(offer.place.provider)
            if _selected(offer.place, chosen):
                served = Offer(_as_chosen(offer.place, chosen), offer.card)
                self._offers.setdefault(served.place.model, []).append(served)
        self._deployments = {
            model: tuple(sorted((offer.place for offer in offers), key=lambda place: place.priority))
            for model, offers in self._offers.items()
        }


def _rank(offer: Offer) -> tuple[bool, int]:
    return not offer.place.forced, offer.place.priority


def _selected(place: Deployment, chosen: Selection) -> bool:
    return not chosen.models or place.model in chosen.models


def _as_chosen(place: Deployment, chosen: Selection) -> Deployment:
    priority = place.priority if chosen.priority is None else chosen.priority
    return replace(place, priority=priority, max_tokens=chosen.max_tokens, temperature=chosen.temperature)


def _essence(cards: Sequence[ModelCard]) -> list[tuple[object, ...]]:
    """What of the cards is worth a new version: all but when a model says that it was made, which may be just now."""
    essence = [(c.owned_by, c.id, c.context_window or 0, c.max_tokens or 0, c.capabilities) for c in cards]
    return sorted(essence)
