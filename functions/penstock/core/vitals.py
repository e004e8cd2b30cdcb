"""The present numbers of the whole gateway, each under a dotted path such as ``providers.openai.error_rate``.

They are read from the ledger, which all processes write: any of them can tell them, the housekeeper too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from penstock.core.ports import Store
from penstock.schema.traffic import Stretch, Traffic

NEWEST = 20_000
"""Outcomes that are read at most: at more than that in a window, the numbers are those of its newest part."""

Machine = Callable[[], Mapping[str, float]]


class Vitals:
    """Reads the numbers. ``providers`` are those that count though nobody was sent to them; ``machine`` tells how the
    machine of this process is.
    """

    def __init__(self, store: Store, providers: Sequence[str] = (), machine: Machine | None = None) -> None:
        self._store = store
        self.providers = providers
        self._machine = machine

    async def read(self, window: float, *, now: float | None = None) -> dict[str, float]:
        """The numbers of the last ``window`` seconds, by path. Raises ``StateError``.

        A rate or a mean of what did not happen is not among them. docs/metrics.md lists the paths.
        """
        traffic = await self.traffic(window, now=now)
        names = names_in(traffic, self.providers)
        told = {f"summary.{name}": value for name, value in summary(traffic, names).items()}
        told["summary.window"] = traffic.until - traffic.since
        for group, listed, of in (
            ("providers", names, "provider"),
            ("models", sorted({each.model for each in traffic.stretches}), "model"),
        ):
            for name in listed:
                there = numbers(each for each in traffic.stretches if getattr(each, of) == name)
                told |= {f"{group}.{name}.{key}": value for key, value in there.items()}
        if self._machine is not None:
            told |= {f"system.{name}": value for name, value in self._machine().items()}
        return told

    async def traffic(self, window: float, *, now: float | None = None) -> Traffic:
        """What the numbers are made of: what started in the last ``window`` seconds and has ended."""
        until = time.time() if now is None else now
        return await self._store.sum_traffic(since=until - window, until=until, limit=NEWEST)


def names_in(traffic: Traffic, providers: Sequence[str]) -> list[str]:
    """The providers that are configured or were tried."""
    return sorted({*providers, *(each.provider for each in traffic.stretches)})


def numbers(stretches: Iterable[Stretch]) -> dict[str, float]:
    """What is told of a provider or a model. What it refused as wrong in itself is no failure of its own."""
    parts = list(stretches)
    requests = sum(each.requests for each in parts)
    failed = sum(each.failed for each in parts)
    told: dict[str, float] = {
        "total_requests": requests,
        "successful_requests": requests - failed,
        "failed_requests": failed,
        "refused_requests": sum(each.refused for each in parts),
        "prompt_tokens": sum(each.prompt_tokens for each in parts),
        "completion_tokens": sum(each.completion_tokens for each in parts),
        "cost": sum(each.cost for each in parts),
    }
    told["total_tokens"] = told["prompt_tokens"] + told["completion_tokens"]
    if requests:
        told["success_rate"] = 1 - failed / requests
        told["error_rate"] = failed / requests
        told["avg_response_time"] = sum(each.seconds for each in parts) / requests
    if first_tokens := sum(each.first_tokens for each in parts):
        told["avg_time_to_first_token"] = sum(each.first_seconds for each in parts) / first_tokens
    return told


def summary(traffic: Traffic, providers: Sequence[str]) -> dict[str, float]:
    """What is told of all together: of requests, however many attempts each of them took."""
    parts = traffic.stretches
    told: dict[str, float] = {
        "total_providers": len(providers),
        "total_requests": traffic.requests,
        "failed_requests": traffic.failed,
        "successful_requests": traffic.requests - traffic.failed,
        "attempts": sum(each.requests for each in parts),
        "total_tokens": sum(each.prompt_tokens + each.completion_tokens for each in parts),
        "cost": sum(each.cost for each in parts),
    }
    rates = [
        there["success_rate"]
        for name in providers
        if "success_rate" in (there := numbers(each for each in parts if each.provider == name))
    ]
    if rates:
        told["average_success_rate"] = sum(rates) / len(rates)
    if traffic.requests:
        told["error_rate"] = traffic.failed / traffic.requests
        told["avg_response_time"] = traffic.seconds / traffic.requests
    return told
