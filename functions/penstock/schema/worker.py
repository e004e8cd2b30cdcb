"""Workers: GPU processes that serve models, and say so themselves."""

from __future__ import annotations

from dataclasses import dataclass

STARTING, READY, BUSY, DRAINING, GONE = "starting", "ready", "busy", "draining", "gone"
WORKERS = "workers"
"""The name under which all of them are one provider."""
LEASE = 30.0
"""Seconds after its last word for which a worker is believed."""


@dataclass(frozen=True, slots=True)
class Load:
    """What an engine has to do: requests running and waiting, the part of its KV cache in use, and how many requests it
    runs at a time at most (0: it did not say).
    """

    running: int = 0
    waiting: int = 0
    kv_use: float = 0.0
    capacity: int = 0


@dataclass(frozen=True, slots=True)
class Worker:
    """One engine with its agent, as it described itself. Times are seconds since the epoch, memory is in MiB.

    ``generation`` is the agent's process: the word of an earlier one under the same id counts no more. One that
    ``pulls`` cannot be called: it asks for jobs.
    """

    id: str
    generation: str
    url: str
    models: tuple[str, ...]
    state: str
    engine: str = ""
    engine_version: str = ""
    gpu: str = ""
    gpu_memory: int = 0
    gpus: int = 0
    running: int = 0
    waiting: int = 0
    kv_use: float = 0.0
    capacity: int = 0
    registered_at: float = 0.0
    lease_until: float = 0.0
    pulls: bool = False

    def state_at(self, now: float) -> str:
        """The state in one word: ``gone`` once the lease is over, ``busy`` while a ready one has requests waiting."""
        if now >= self.lease_until:
            return GONE
        return BUSY if self.state == READY and self.waiting > 0 else self.state

    def routable(self, now: float) -> bool:
        """Whether it may be given work."""
        return self.state == READY and now < self.lease_until
