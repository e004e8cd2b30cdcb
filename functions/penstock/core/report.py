"""The numbers of all providers as one document, in the shape of Proxy's ``/metrics``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from penstock.core.counted import ATTEMPT_SECONDS, ATTEMPTS, COST, DURATION, FIRST_TOKEN, REQUESTS, TOKENS
from penstock.core.families import Families
from penstock.core.vitals import names_in, numbers, summary
from penstock.schema.traffic import Stretch, Traffic

UNTRIED = {"success_rate": 1.0, "error_rate": 0.0, "avg_response_time": 0.0}
"""What is told of a provider that nobody was sent to: a document has every field, whatever happened."""


def report(traffic: Traffic, providers: Sequence[str]) -> dict[str, Any]:
    """The document of this traffic; ``providers`` are there though nobody was sent to them."""
    names = names_in(traffic, providers)
    told = {name: numbers(each for each in traffic.stretches if each.provider == name) for name in names}
    return {
        "timestamp": int(traffic.until),
        "since": int(traffic.since),
        "providers": {name: UNTRIED | numbers for name, numbers in told.items()},
        "summary": {"average_success_rate": 1.0, **summary(traffic, names)},
    }


def traffic_of(families: Families, since: float, until: float) -> Traffic:
    """What the counters of a server say of the time since it was started."""
    attempts, requests = families[ATTEMPTS.name], families[REQUESTS.name]
    first, cost = families[FIRST_TOKEN.name], families[COST.name]
    spent, tokens = families[ATTEMPT_SECONDS.name], families[TOKENS.name]
    stretches = []
    for provider, model in sorted({labels[:2] for labels in attempts.values}):
        place = {"provider": provider, "model": model}
        stretches.append(
            Stretch(
                provider,
                model,
                requests=int(attempts.total(**place)),
                failed=int(attempts.total(**place, result="failed")),
                refused=int(attempts.total(**place, result="refused")),
                seconds=spent.total(**place),
                first_tokens=int(sum(first.values.get((provider, model), [0])[:-1])),
                first_seconds=first.total(**place),
                prompt_tokens=int(tokens.total(**place, direction="input")),
                completion_tokens=int(tokens.total(**place, direction="output")),
                cost=cost.total(**place),
            )
        )
    seconds = families[DURATION.name].total()
    counts = int(requests.total()), int(requests.total(ended="failed"))
    return Traffic(since, until, *counts, seconds, tuple(stretches))
