"""What a deployment's tokens cost: rows of the configuration, and after them those that come along.

``prices.toml`` is read when a price is first wanted: never at import, and never from anywhere else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

from penstock.schema.config import PriceRow
from penstock.schema.model import Deployment
from penstock.schema.price import Price, nanos

PACKAGED = Path(__file__).parent.parent / "prices.toml"

_SNAPSHOT = re.compile(r"-(20\d\d-?\d\d-?\d\d|\d{4}|latest)$")
_SAME = {"grok": "xai"}
"""Provider types that are another name of a vendor."""


class Catalog:
    """The prices of this process. ``overrides`` go before the packaged rows; of each the first that fits counts."""

    def __init__(self, overrides: Sequence[PriceRow] = (), packaged: Path = PACKAGED) -> None:
        self._overrides = tuple(overrides)
        self._packaged = packaged
        self._known: dict[str, Price | None] = {}

    @property
    def version(self) -> str:
        """The date of the packaged rows, ``YYYY-MM-DD``."""
        version: str = self._file["version"]
        return version

    @cached_property
    def rows(self) -> tuple[PriceRow, ...]:
        """The packaged rows. Raises ``TypeError`` or ``ValueError`` for one that is malformed."""
        return tuple(PriceRow(**row) for row in self._file["price"])

    @cached_property
    def _file(self) -> dict[str, Any]:
        import tomllib  # noqa: PLC0415 - most processes that start serve no request yet

        return tomllib.loads(self._packaged.read_text(encoding="utf-8"))

    def price(self, deployment: Deployment) -> Price | None:
        """What this deployment costs; ``None`` where nobody knows."""
        if deployment.id not in self._known:
            self._known[deployment.id] = self._find(deployment)
        return self._known[deployment.id]

    def _find(self, place: Deployment) -> Price | None:
        models = names_of(place.model, place.upstream_model)
        for row in self._overrides:
            if _fits(row, (place.provider, place.kind), models):
                return price_of(row)
        kind = _SAME.get(place.kind, place.kind)
        for row in self.rows:
            if _fits(row, (kind,), names_of(place.upstream_model)):
                return price_of(row)
        return None


def price_of(row: PriceRow) -> Price:
    """A row's dollars as nano-dollars."""
    return Price(
        input=nanos(row.input or 0),
        cached_input=None if row.cached_input is None else nanos(row.cached_input),
        output=nanos(row.output or 0),
        image=nanos(row.image or 0),
        gpu_second=nanos(row.gpu_second or 0),
    )


def names_of(*models: str) -> tuple[str, ...]:
    """The names, and each without the snapshot that it ends in: ``gpt-4o-2024-08-06`` is a ``gpt-4o`` too."""
    return (*models, *(_SNAPSHOT.sub("", model) for model in models))


def _fits(row: PriceRow, providers: Sequence[str], models: Sequence[str]) -> bool:
    return any(fnmatchcase(name, row.provider) for name in providers) and any(
        fnmatchcase(name, row.model) for name in models
    )
