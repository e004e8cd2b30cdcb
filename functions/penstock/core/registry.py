"""Which deployments serve which public model: those configured, and those that providers say they have."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from penstock.core.fleet import BELIEVED as WORKERS
from penstock.core.fleet import Fleet
from penstock.core.ports import Connection, Store
from penstock.errors import ModelNotFound, NoDeploymentAvailable, PenstockError, StateConflict, StateError
from penstock.schema.key import ANONYMOUS, EVERY, Caller
from penstock.schema.model import Deployment, ModelCard, Registry

log = logging.getLogger("penstock.registry")

AGAIN = 30.0
"""Seconds after which a provider without an answer is asked for its models again, if somebody wants one."""
BELIEVED = 5.0
"""Seconds for which the registry read from the store is believed."""
ASKING = 3.0
CAPACITY = 10_000
NEVER = float("-inf")


class ModelRegistry:
    """The deployments of this process, and the discovered ones that all processes share through the store.

    ``configured`` are deployments with a fixed model. ``sources`` are providers whose models are discovered: a
    deployment each with an empty model name. ``connect`` makes the connection to a deployment. ``spare`` deployments
    serve only while there are no others. Workers of the ``fleet`` come and go by their own word.
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
        self._started = int(time.time())
        self._index()

    async def candidates(self, model: str, caller: Caller = ANONYMOUS) -> tuple[Deployment, ...]:
        """The deployments of a public model that the caller may be sent to, best first.

        Raises ``ModelNotFound``, and ``NoDeploymentAvailable`` if it has workers and nothing else, and none is ready.
        """
        found = await self._candidates(model)
        if caller.providers == EVERY:
            return found
        reachable = tuple(place for place in found if caller.may_reach(place))
        if not reachable:
            raise ModelNotFound(
                f"No provider that this API key is pinned to serves the model {model!r}.", param="model"
            )
        return reachable

    async def _candidates(self, model: str) -> tuple[Deployment, ...]:
        await self._recent()
        found = self._deployments.get(model)
        workers = await self._workers(model, needed=found is None)
        if workers:
            return tuple(sorted((*workers, *(found or ())), key=lambda place: place.priority))
        if found is None and workers is None and self._sources and time.monotonic() - self._asked_at > AGAIN:
            await self.refresh()
            found = self._deployments.get(model)
        if found is None and workers is not None:
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
        """Every deployment there is: configured, discovered, and of workers that may be sent requests."""
        await self._recent()
        workers = await self._fleet.deployments() if self._fleet else []
        return [place for _, place in workers] + [place for places in self._deployments.values() for place in places]

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
        await self._recent()
        if self._sources and not self._shared.cards and time.monotonic() - self._asked_at > AGAIN:
            await self.refresh()
        cards = dict(self._cards)
        for worker, place in await self._fleet.deployments() if self._fleet else ():
            cards.setdefault(place.model, ModelCard(place.model, place.pool, worker.engine, int(worker.registered_at)))
        reachable = {place.model for place in await self.places() if caller.may_reach(place)}
        return [cards[name] for name in sorted(cards) if name in reachable and caller.may_use(name)]

    async def refresh(self) -> Registry:
        """Ask every provider for its models, all at once, and publish what is new."""
        if self._refreshing is None:
            self._refreshing = asyncio.ensure_future(self._refresh())
            self._refreshing.add_done_callback(self._refreshed)
        return await asyncio.shield(self._refreshing)

    def _refreshed(self, _: object) -> None:
        self._refreshing = None

    async def _refresh(self) -> Registry:
        self._asked_at = time.monotonic()
        sources = list(self._sources.values())
        answers = await asyncio.gather(*(self._ask(source) for source in sources))
        for _ in range(10):
            await self._reload(quietly=False)
            kept = [card for card in self._shared.cards if card.owned_by not in self._sources]
            for source, answer in zip(sources, answers, strict=True):
                before = [card for card in self._shared.cards if card.owned_by == source.provider]
                kept += before if answer is None else answer
            if _essence(kept) == _essence(self._shared.cards):
                return self._shared
            try:
                self._shared = await self._store.publish_registry(kept, expected=self._shared.version, at=time.time())
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

    async def _ask(self, source: Deployment) -> list[ModelCard] | None:
        try:
            return await self.connection(source).models(asyncio.get_running_loop().time() + ASKING)
        except PenstockError as error:
            expected = not self._spare  # else nobody said that it is there
            log.log(
                logging.WARNING if expected else logging.DEBUG,
                "%s does not list its models: %s",
                source.provider,
                error,
            )
            return None

    async def _recent(self) -> None:
        """Have the shared registry at hand; once it was read, it is read again behind the requests' back."""
        if self._sources and time.monotonic() - self._read_at > BELIEVED:
            if self._read_at == NEVER:
                await self._reload()
            elif self._reloading is None or self._reloading.done():
                self._reloading = asyncio.ensure_future(self._reload())

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
        """Make the table that requests look into; the sort is stable, so equals keep the configuration's order."""
        by_model: dict[str, list[Deployment]] = {}
        cards: dict[str, ModelCard] = {}
        found = [card for card in self._shared.cards if card.owned_by in self._sources]
        for deployment in self._configured if self._configured or found else self._spare:
            by_model.setdefault(deployment.model, []).append(deployment)
            card = ModelCard(deployment.model, deployment.provider, deployment.kind, self._started)
            cards.setdefault(deployment.model, card)
        for card in found:
            source = self._sources[card.owned_by]
            place = f"{source.provider}/{card.id}"
            by_model.setdefault(card.id, []).append(
                replace(source, id=place, model=card.id, upstream_model=card.upstream or card.id)
            )
            cards.setdefault(card.id, card)
        self._deployments = {
            model: tuple(sorted(places, key=lambda place: place.priority)) for model, places in by_model.items()
        }
        self._cards = cards


def _essence(cards: Sequence[ModelCard]) -> list[tuple[str, str]]:
    return sorted((card.owned_by, card.id) for card in cards)
