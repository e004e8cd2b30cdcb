"""Rates kept in this process alone, for when the store is away and the configuration says to go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from penstock.schema.meter import Claim, Meter, Verdict

CAPACITY = 10_000


class LocalMeters:
    """Grants rates by the same arithmetic as a store; slots and money it knows nothing of."""

    def __init__(self) -> None:
        self._meters: dict[str, Meter] = {}

    def reserve(self, claims: Sequence[Claim], now: int) -> Verdict:
        """Grant every claim's rates, or none."""
        if len(self._meters) >= CAPACITY:
            self._meters.clear()
        rates = [
            replace(claim, draws=claim.draws + claim.reserves, reserves=(), slots=0, nanos=0, ceilings=(), held=False)
            for claim in claims
        ]
        meters = [self._meters.setdefault(claim.meter, Meter()) for claim in rates]
        pairs = list(zip(rates, meters, strict=True))
        refusals = tuple(refusal for claim, meter in pairs for refusal in meter.refusals(claim, now))
        if not refusals:
            for claim, meter in pairs:
                meter.grant(claim, now, None)
        return Verdict(refusals, {(c.meter, rate): tat for c, meter in pairs for rate, tat in meter.tats.items()})
