"""The sections of ``config.yaml`` about limits and budgets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from penstock.schema.bounds import require
from penstock.schema.limit import NO_BUDGET, NO_LIMITS, Budget, Limits
from penstock.schema.model import MODEL_NAME, MODEL_NAMES
from penstock.schema.request import CHAT, COMPLETIONS, EMBEDDINGS, IMAGES, INFER, MODELS


@dataclass(frozen=True, slots=True)
class LimitSection:
    """What may be taken, by scope: the whole gateway, each endpoint, each caller's address, each key, each owner.

    The numbers are those of the five documents that Penstock replaces. ``endpoints`` and ``owners`` name exceptions,
    ``models`` by their public names those that have limits. A key's own limits stand in the place of ``key``. With
    ``enabled`` off only those hold. While the store is away rates are counted by each process alone (``open``), or
    requests refused (``closed``).
    """

    enabled: bool = True
    gateway: Limits = Limits(1000, 50)  # noqa: RUF009 - records are immutable
    endpoint: Limits = Limits(1000, 50)  # noqa: RUF009
    endpoints: dict[str, Limits] = field(default_factory=dict)
    models: dict[str, Limits] = field(default_factory=dict)
    address: Limits = Limits(100, 50)  # noqa: RUF009
    key: Limits = Limits(60, 10)  # noqa: RUF009
    owner: Limits = NO_LIMITS
    owners: dict[str, Limits] = field(default_factory=dict)
    lease_from: int = 3000
    max_tokens: int = 4096
    when_state_is_away: Literal["open", "closed"] = "open"

    def __post_init__(self) -> None:
        require("lease_from", self.lease_from >= 60, "at least 60 requests a minute")
        require("max_tokens", 1 <= self.max_tokens <= 10**6, "from 1 to 1000000")
        known = (CHAT, COMPLETIONS, EMBEDDINGS, IMAGES, INFER, MODELS)
        require("endpoints", set(self.endpoints) <= set(known), f"named {', '.join(known[:-1])} or {known[-1]}")
        require("models", all(map(MODEL_NAME.fullmatch, self.models)), MODEL_NAMES)
        slots = [limits.concurrency for limits in (self.endpoint, *self.endpoints.values())]
        require("endpoints" if slots[0] is None else "endpoint", not any(slots), "without concurrency")


@dataclass(frozen=True, slots=True)
class BudgetSection:
    """Dollars that each key and each owner may spend; ``owners`` names exceptions. A key's own budget stands in the
    place of ``key``.
    """

    key: Budget = NO_BUDGET
    owner: Budget = NO_BUDGET
    owners: dict[str, Budget] = field(default_factory=dict)
