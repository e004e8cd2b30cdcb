"""The fleet: workers that say themselves that they are there, under a secret that only they and the gateway know."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from penstock.core.ports import Store
from penstock.errors import Authentication, StateError
from penstock.schema.model import Deployment
from penstock.schema.secret import Secret
from penstock.schema.worker import LEASE, WORKERS, Load, Worker

log = logging.getLogger("penstock.fleet")

SKEW = 60.0
"""Seconds by which a signature's time may differ from ours."""
BELIEVED = 2.0
"""Seconds for which the list of workers is believed; then it is read again behind the requests' back."""
OLD = 3.0
"""Seconds after which a request waits for that reading: agents rely on it that nobody uses a list much older."""
NEVER = float("-inf")

Serving = dict[str, list[tuple[Worker, Deployment]]]
"""The workers of each model, and where they serve it."""


def sign(secret: Secret, method: str, path: str, body: bytes, at: int) -> str:
    """The header ``x-penstock-signature`` of a request: ``t=`` its time in epoch seconds, ``v1=`` an HMAC-SHA256 of
    time, method, path and body.
    """
    signed = b"%d.%s.%s." % (at, method.encode(), path.encode()) + body
    return f"t={at},v1={hmac.new(secret.reveal().encode(), signed, hashlib.sha256).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Workplace:
    """What the gateway adds to what workers say of themselves: the credential of their engines, their rank, and
    whether they schedule by the priority of the caller's key.
    """

    credential: Secret | None = None
    priority: int = 1
    timeout: float = 300.0
    first_token_timeout: float | None = None
    pass_priority: bool = False


class Fleet:
    """The workers that all processes share through the store. Without a ``secret`` there is none."""

    def __init__(self, store: Store, secret: Secret | None, workplace: Workplace | None = None) -> None:
        self._store = store
        self._secret = secret
        self._workplace = workplace or Workplace()
        self._serving: Serving | None = None
        self._asked_at = self._read_at = NEVER
        self._reading: asyncio.Task[None] | None = None

    @property
    def exists(self) -> bool:
        """Whether workers may register here."""
        return self._secret is not None

    def verify(self, signature: str, method: str, path: str, body: bytes) -> None:
        """Raise ``Authentication`` unless the request is signed with the fleet's secret, now."""
        assert self._secret is not None
        parts = dict(part.split("=", 1) for part in signature.split(",") if "=" in part)
        at = int(parts["t"]) if parts.get("t", "").isdecimal() and len(parts["t"]) < 12 else 0
        if not hmac.compare_digest(sign(self._secret, method, path, body, at).encode(), signature.encode()):
            raise Authentication("The signature is not the fleet's.")
        if abs(time.time() - at) > SKEW:
            raise Authentication(f"The signature is from {at}: see that the clocks agree to within {SKEW:g} seconds.")

    async def register(self, worker: Worker) -> Worker:
        """Take a worker in; its id's earlier generation is gone."""
        await self._store.register_worker(worker)
        await self._read()
        return worker

    async def beat(self, id: str, generation: str, state: str, load: Load) -> Worker | None:
        """A worker's heartbeat; ``None`` if it must register anew."""
        return await self._store.beat_worker(id, generation, state, load, until=time.time() + LEASE)

    async def drain(self, id: str) -> Worker | None:
        """Send a worker no more requests; ``None`` if it is not known."""
        drained = await self._store.drain_worker(id)
        await self._read()
        return drained

    async def workers(self) -> Sequence[Worker]:
        """Every worker, those that are gone for an hour more, as the store has them now."""
        return await self._store.list_workers(time.time())

    async def serving(self, model: str) -> list[Deployment] | None:
        """The deployments of a model on workers that may be called now; ``None`` if no worker has this model.

        Raises ``StateError`` while nobody can tell.
        """
        known = (await self._known()).get(model)
        now = time.time()
        if known is None:
            return None
        return [place for worker, place in known if worker.routable(now) and not worker.pulls]

    async def asking(self, model: str) -> list[Deployment]:
        """The deployments of a model on workers that ask for jobs by themselves, also on those that are gone."""
        return [place for worker, place in (await self._known()).get(model, ()) if worker.pulls]

    async def deployments(self) -> list[tuple[Worker, Deployment]]:
        """Each model of each worker that may be given work now, with its deployment."""
        now = time.time()
        return [each for known in (await self._known()).values() for each in known if each[0].routable(now)]

    async def find(self, id: str) -> Worker | None:
        """The worker, as it was known a moment ago; ``None`` if it is not."""
        for _ in range(2):
            for known in (await self._known()).values():
                for worker, _place in known:
                    if worker.id == id:
                        return worker
            await self._read()
        return None

    def look(self) -> None:
        """Begin to read who is there, if the last reading is too old; nobody waits for it yet."""
        now = time.monotonic()
        recent = self._secret is None or now - self._asked_at <= BELIEVED
        if not recent and (self._reading is None or self._reading.done()):
            self._asked_at = now
            self._reading = asyncio.ensure_future(self._read())

    async def _known(self) -> Serving:
        """What workers serve; once it was read, it is read again behind the requests' back unless it has become old."""
        if self._secret is None:
            return {}
        self.look()
        if self._reading is not None and time.monotonic() - self._read_at > OLD:
            await asyncio.shield(self._reading)
        if self._serving is None:
            raise StateError("the workers are not known yet: the state cannot be read")
        return self._serving

    async def _read(self) -> None:
        began = time.monotonic()
        try:
            workers = await self._store.list_workers(time.time())
        except StateError as error:
            log.warning("the workers are as they were: %s", error)
            return
        if began < self._read_at:
            return  # another reading began later, and was quicker
        serving: Serving = {}
        for worker in workers:
            for model in worker.models:
                serving.setdefault(model, []).append((worker, self.place(worker, model)))
        self._serving, self._read_at = serving, began

    def place(self, worker: Worker, model: str) -> Deployment:
        """A model on a worker, as a place that serves it."""
        return Deployment(
            id=f"{worker.id}/{model}",
            model=model,
            provider=worker.id,
            kind=worker.engine,
            upstream_model=model,
            base_url=f"{worker.url.rstrip('/')}/v1",
            credential=self._workplace.credential,
            priority=self._workplace.priority,
            timeout=self._workplace.timeout,
            first_token_timeout=self._workplace.first_token_timeout,
            pass_priority=self._workplace.pass_priority,
            reported=worker.running + worker.waiting,
            generation=worker.generation,
            pool=WORKERS,
        )
