"""Sums of what went through the gateway: outcomes turned into the attempts that they took, by provider and model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from penstock.schema.outcome import CACHE, FAILED, REFUSED, Failure
from penstock.schema.traffic import Stretch, Traffic

NOBODY = ("", CACHE)
"""In the place of the deployment where no provider was called."""


def provider_of(deployment: str) -> str:
    """The provider in the id of a deployment."""
    return deployment.partition("/")[0]


class Counts(NamedTuple):
    """Sums of outcomes that are alike; ``cost`` in dollars."""

    requests: int
    seconds: float
    first_tokens: int
    first_seconds: float
    prompt_tokens: int
    completion_tokens: int
    cost: float


class Tally:
    """Grows with the number of deployments, not with what is added."""

    def __init__(self) -> None:
        self._requests = self._failed = 0
        self._seconds = 0.0
        self._stretches: dict[str, Stretch] = {}

    def add(self, deployment: str, model: str, ended: str, failures: Sequence[Failure], counts: Counts) -> None:
        """Add outcomes that are alike: each of them had these failures; ``counts`` are of all of them together."""
        requests, lost = counts.requests, 0.0
        self._requests += requests
        self._failed += requests * (ended == FAILED)
        self._seconds += counts.seconds
        for failure in failures:
            there = self._stretch(failure.deployment, model)
            there.requests += requests
            there.failed += requests * (failure.code != REFUSED)
            there.refused += requests * (failure.code == REFUSED)
            there.seconds += requests * failure.seconds
            lost += requests * failure.seconds
        if deployment in NOBODY:
            return
        there = self._stretch(deployment, model)
        there.prompt_tokens += counts.prompt_tokens
        there.completion_tokens += counts.completion_tokens
        there.cost += counts.cost
        if ended != FAILED or not failures:  # else the last failure was the last attempt
            there.requests += requests
            there.failed += requests * (ended == FAILED)
            there.seconds += max(0.0, counts.seconds - lost)
            there.first_tokens += counts.first_tokens
            there.first_seconds += max(0.0, counts.first_seconds - lost) if counts.first_tokens else 0.0

    def traffic(self, since: float, until: float) -> Traffic:
        """The sums, of what started in this time."""
        stretches = tuple(each for _, each in sorted(self._stretches.items()))
        return Traffic(since, until, self._requests, self._failed, self._seconds, stretches)

    def _stretch(self, deployment: str, model: str) -> Stretch:
        if deployment not in self._stretches:
            self._stretches[deployment] = Stretch(provider_of(deployment), model)
        return self._stretches[deployment]
