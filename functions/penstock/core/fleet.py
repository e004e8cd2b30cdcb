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
from penstock.errors import Authentication, NoDeploymentAvailable, StateError
from penstock.schema.model import Deployment
from penstock.schema.secret import Secret
from penstock.schema.worker import LEASE, Load, Worker

log = logging.getLogger("penstock.fleet")

SKEW = 60.0
"""Seconds by which a signature's time may differ from ours."""
BELIEVED = 2.0
"""Seconds for which the list of workers is believed; then it is read again behind the requests' back."""
NEVER = float("-inf")


def sign(secret: Secret, method: str, path: str, body: bytes, at: int) -> str:
    """The header ``x-penstock-signature`` of a request: ``t=`` its time in epoch seconds, ``v1=`` an HMAC-SHA256 of
    time, method, path and body.
    """
    signed = b"%d.%s.%s." % (at, method.encode(), path.encode()) + body
    return f"t={at},v1={hmac.new(secret.reveal().encode(), signed, hashlib.sha256).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Workplace:
    """What the gateway adds to what workers say of themselves: the credential of their engines, and their rank."""

    credential: Secret | None = None
    priority: int = 1
    timeout: float = 300.0


class Fleet:
    """The workers that all processes share through the store. Without a ``secret`` there is none."""

    def __init__(self, store: Store, secret: Secret | None, workplace: Workplace | None = None) -> None:
        self._store = store
        self._secret = secret
        self._workplace = workplace or Workplace()
        self._serving: dict[str, list[tuple[Worker, Deployment]]] = {}
        self._read_at = NEVER
        self._reading: asyncio.Task[None] | None = None

    @property
    def exists(self) -> bool:
        """Whether workers may register here."""
        return self._secret is not None

    def verify(self, signature: str, method: str, path: str, body: bytes) -> None:
        """Raise ``Authentication`` unless the request is signed with the fleet's secret, now."""
        assert self._secret is not None
        parts = dict(part.split("=", 1) for part in signature.split(",") if "=" in part)
        at = int(parts["t"]) if parts.get("t", "").isdigit() and len(parts["t"]) < 12 else 0
        if not hmac.compare_digest(sign(self._secret, method, path, body, at).encode(), signature.encode()):
            raise Authentication("The signature is not the fleet's.")
        if abs(time.time() - at) > SKEW:
            raise Authentication(f"The signature is from {at}: see that the clocks agree to within {SKEW:g} seconds.")

    async def register(self, worker: Worker) -> Worker:
        """Take a worker in; its id's earlier generation is gone."""
        await self._store.register_worker(worker)
        self._read_at = NEVER
        return worker

    async def beat(self, id: str, generation: str, state: str, load: Load) -> Worker | None:
        """A worker's heartbeat; ``None`` if it must register anew."""
        return await self._store.beat_worker(id, generation, state, load, until=time.time() + LEASE)

    async def drain(self, id: str) -> Worker | None:
        """Send a worker no more requests; ``None`` if it is not known."""
        drained = await self._store.drain_worker(id)
        self._read_at = NEVER
        return drained

    async def workers(self) -> Sequence[Worker]:
        """Every worker, those that are gone for an hour more, as the store has them now."""
        return await self._store.list_workers(time.time())

    async def serving(self, model: str) -> list[Deployment]:
        """The deployments of a model on workers that may be sent requests now.

        Raises ``NoDeploymentAvailable`` if there are workers of this model, and none of them may.
        """
        await self._recent()
        known = self._serving.get(model)
        if known is None:
            return []
        now = time.time()
        found = [deployment for worker, deployment in known if worker.routable(now)]
        if not found:
            raise NoDeploymentAvailable(f"No worker that serves {model!r} is ready.", retry_after=BELIEVED)
        return found

    async def deployments(self) -> list[Deployment]:
        """A deployment for each model of each worker that may be sent requests now."""
        await self._recent()
        now = time.time()
        return [place for known in self._serving.values() for worker, place in known if worker.routable(now)]

    async def models(self) -> dict[str, Worker]:
        """Each model that a worker serves now, and one that does."""
        await self._recent()
        now = time.time()
        return {
            model: worker for model, known in self._serving.items() for worker, _ in known[::-1] if worker.routable(now)
        }

    async def _recent(self) -> None:
        if self._secret is None:
            return
        if self._read_at == NEVER:
            await self._read()
        elif time.monotonic() - self._read_at > BELIEVED and (self._reading is None or self._reading.done()):
            self._reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        self._read_at = time.monotonic()
        try:
            workers = await self._store.list_workers(time.time())
        except StateError as error:
            log.warning("the workers are as they were: %s", error)
            return
        serving: dict[str, list[tuple[Worker, Deployment]]] = {}
        for worker in workers:
            for model in worker.models:
                serving.setdefault(model, []).append((worker, self._deployment(worker, model)))
        self._serving = serving

    def _deployment(self, worker: Worker, model: str) -> Deployment:
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
            reported=worker.running + worker.waiting,
        )
