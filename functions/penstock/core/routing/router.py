"""Puts the deployments of a model in order for one request, by what this process and all others know of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib import import_module

from penstock.core.noticeboard import BELIEVED, Noticeboard
from penstock.core.ports import Store
from penstock.core.routing.breaker import HALF_OPEN, Bounds
from penstock.core.routing.place import Place
from penstock.errors import PenstockError
from penstock.schema.model import Deployment
from penstock.schema.notice import BREAKER, DOWN, HEALTH, OPEN, WARM, WARMING, WARMTH, Notice
from penstock.schema.request import Request

POLICIES = ("affinity", "power_of_two", "least_latency", "round_robin", "weighted")
CAPACITY = 10_000
"""Places that are remembered: workers come and go, each under its own name."""
REMEMBERED = 600.0
"""Seconds for which a place is known to have been broken once its time to be tried again has come."""
FOREVER = float("inf")

Policy = Callable[[Sequence[Place], Request], list[Place]]


class Router:
    """Remembers every deployment that it has seen. ``policy`` names a module of ``policies``.

    With a ``store`` all processes that share it know what each has found broken, and one of them tries it again.
    """

    def __init__(self, policy: str = POLICIES[0], bounds: Bounds | None = None, store: Store | None = None) -> None:
        self._policy: Policy = import_module(f"penstock.core.routing.policies.{policy}").order
        self._bounds = bounds or Bounds()
        self._places: dict[str, Place] = {}
        self._known: dict[str, Place] = {}
        self._broken: set[Place] = set()
        self._told: dict[tuple[str, str], Notice] = {}
        self.board = Noticeboard(store, self.learn) if store else None

    def succeed(self, before: Router) -> None:
        """Know what another has learned of the places that stay as they are."""
        self._known, self._told = before._places, dict(before._told)
        if self.board is not None and before.board is not None:
            self.board.succeed(before.board)

    def place(self, deployment: Deployment) -> Place:
        """What is known of a deployment."""
        place = self._places.get(deployment.id)
        if place is None or _is_another(deployment, place.deployment):
            if len(self._places) >= CAPACITY:
                self._places = {name: known for name, known in self._places.items() if known.under_way}
            place = self._places[deployment.id] = self._inherited(deployment) or Place(deployment, self._bounds)
            for about in (BREAKER, HEALTH, WARMTH):
                if notice := self.told(deployment, about):
                    self._apply(place, notice)
        place.deployment = deployment  # as the registry describes it now
        return place

    def _inherited(self, deployment: Deployment) -> Place | None:
        """The place as the router before has it, if the deployment is the same."""
        known = self._known.get(deployment.id)
        if known is None or known.breaker.bounds != self._bounds or not _is_same(deployment, known.deployment):
            return None
        if known.breaker.opened_until:
            self._broken.add(known)
        return known

    def order(self, deployments: Sequence[Deployment], request: Request) -> list[Place]:
        """Who is tried in which order: forced ones, then by priority, among equals as the policy says.

        Places that sleep come after those that do not, then those that are busy, and at last those that are broken or
        down, first the one whose time is over soonest: a guess is better than a refusal.
        """
        now = time.monotonic()
        places = [self.place(deployment) for deployment in deployments]
        if len(places) == 1:
            return places
        well = [place for place in places if place.available(now)]
        busy = [place for place in places if place not in well and place.serves(now)]
        broken = [place for place in places if not place.serves(now)]
        ordered: list[Place] = []
        for rank in sorted({_rank(place, now) for place in well}):
            ordered += self._policy([place for place in well if _rank(place, now) == rank], request)
        ordered += sorted(busy, key=lambda place: place.busy_until)
        return ordered + sorted(broken, key=lambda place: max(place.breaker.opened_until, place.down_until))

    def look(self) -> None:
        """Begin to learn what other processes know; nobody waits for it."""
        if self.board is not None:
            self.board.look()

    def passed_over(self, ordered: Sequence[Place]) -> list[Place]:
        """Places that would be tried first if they did not sleep."""
        now = time.monotonic()
        sleeping = [place for place in ordered[1:] if place.cold(now)]
        return [place for place in sleeping if _rank(place, now)[1:] < _rank(ordered[0], now)[1:]]

    async def look_around(self, deployments: Sequence[Deployment]) -> None:
        """Learn what other processes know, and get leave to try what was broken; mostly there is nothing to wait for.
        Where there is no choice nobody asks.

        A place whose time to be tried again has come is tried by the process that has the duty, for as long as a
        breaker stays open.
        """
        if self.board is None or (len(deployments) == 1 and deployments[0].cold_start is None):
            return
        self.board.look()
        now = time.monotonic()
        for place in tuple(self._broken):
            breaker = place.breaker
            if breaker.state(now) == HALF_OPEN and now >= breaker.trying_until and now >= breaker.asks_at:
                breaker.asks_at = now + BELIEVED
                if await self.board.take(f"try {place.deployment.id}", self._bounds.recovery_timeout):
                    breaker.trying_until = now + self._bounds.recovery_timeout

    def ended(self, place: Place, error: BaseException | None, endpoint: str) -> None:
        """A call to an endpoint of a place has ended; tell the others what came of it."""
        became = place.ended(error, endpoint)
        if became is not None:
            self._broken.add(place) if became == OPEN else self._broken.discard(place)
            why = error.code if isinstance(error, PenstockError) else ""  # its words may repeat a prompt
            self.tell(place.deployment, BREAKER, became, self._bounds.recovery_timeout + REMEMBERED, why)
            if self.board is None:
                place.breaker.trying_until = FOREVER
        cold = place.deployment.cold_start
        if cold is not None and error is None:
            self.awake(place)

    def awake(self, place: Place) -> None:
        """A place that may sleep has answered."""
        cold = place.deployment.cold_start
        assert cold is not None
        now = time.monotonic()
        known = self._told.get((place.deployment.id, WARMTH))
        place.warm_until, place.warming_since = now + cold.idle, None
        if known is None or known.state != WARM or known.until - time.time() < cold.idle / 2:
            self.tell(place.deployment, WARMTH, WARM, cold.idle)

    def tell(self, deployment: Deployment, about: str, state: str, seconds: float, why: str = "") -> None:
        """Tell all processes something about a place that holds for ``seconds`` from now."""
        now = time.time()
        notice = Notice(_subject(deployment, about), about, state, now, now + seconds, why[:200])
        self.learn(notice)
        if self.board is not None:
            self.board.post(notice)

    def learn(self, notice: Notice) -> None:
        """Take what another process says of a place, if it is news."""
        known = self._told.get((notice.place, notice.about))
        if known is not None and (known.at, known.until) >= (notice.at, notice.until):
            return
        if len(self._told) >= CAPACITY:
            self._told = {subject: kept for subject, kept in self._told.items() if kept.until > time.time()}
        self._told[notice.place, notice.about] = notice
        for place in self._places.values():
            if _subject(place.deployment, notice.about) == notice.place:
                self._apply(place, notice)

    def served_since(self, deployment: Deployment, moment: float) -> bool:
        """Whether a call to this provider went well after a moment of the monotonic clock."""
        return any(place.served_at > moment for place in self._of(deployment))

    def under_way(self, deployment: Deployment) -> bool:
        """Whether this process has calls under way at this provider."""
        return any(place.under_way for place in self._of(deployment))

    def _of(self, deployment: Deployment) -> Iterator[Place]:
        return (place for place in self._places.values() if place.deployment.provider == deployment.provider)

    def told(self, deployment: Deployment, about: str) -> Notice | None:
        """The last word about a deployment, unless its time is over."""
        notice = self._told.get((_subject(deployment, about), about))
        return notice if notice is not None and notice.until > time.time() else None

    def _apply(self, place: Place, notice: Notice) -> None:
        now, wall = time.monotonic(), time.time()
        at, until = now + notice.at - wall, now + notice.until - wall
        if notice.about == BREAKER:
            place.breaker.told(notice.state, at)
            self._broken.add(place) if place.breaker.opened_until else self._broken.discard(place)
        elif notice.about == HEALTH:
            place.down_until = until if notice.state == DOWN and place.served_at < at else 0.0
        elif notice.state == WARM:
            place.warm_until, place.warming_since = max(place.warm_until, until), None
        else:
            place.warming_since = at if notice.state == WARMING else None


def _is_another(new: Deployment, known: Deployment) -> bool:
    """Whether a worker has come back: what was known of the one before tells nothing of it."""
    return new.base_url != known.base_url or new.generation != known.generation


def _is_same(new: Deployment, known: Deployment) -> bool:
    """Whether a configuration says of a deployment what the one before said; what workers and selections say aside."""
    asked = replace(known, max_tokens=new.max_tokens, temperature=new.temperature)
    return replace(asked, priority=new.priority, reported=new.reported) == new


def _subject(deployment: Deployment, about: str) -> str:
    """Whom a notice names: a server is up or down as a whole, and a worker that has come back is another."""
    name = deployment.provider if about == HEALTH else deployment.id
    return f"{name} {deployment.generation}" if deployment.generation else name


def _rank(place: Place, now: float) -> tuple[bool, bool, int]:
    deployment = place.deployment
    sleeps = deployment.cold_start is not None and not deployment.cold_start.wait and place.cold(now)
    return sleeps, not deployment.forced, deployment.priority
