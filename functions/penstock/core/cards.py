"""What callers are told of a model: its places and what they say of it, as one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from penstock.core.prices import names_of
from penstock.schema.model import CAPABILITIES, Deployment, ModelCard

PACKAGED = Path(__file__).parent.parent / "models.toml"


class Offer(NamedTuple):
    """A place that serves a model, and what is known of the model there."""

    place: Deployment
    card: ModelCard


def completed(card: ModelCard) -> ModelCard:
    """The card, with what its provider left open taken from ``models.toml``."""
    known = _known(card.upstream or card.id)
    return replace(
        card,
        context_window=card.context_window or known.get("context_window"),
        max_tokens=card.max_tokens or known.get("max_tokens"),
        capabilities=in_order(card.capabilities or known.get("capabilities", ())),
    )


def merged(offers: Sequence[Offer]) -> ModelCard:
    """One card for all places of a model, the best first: it says what holds wherever a request may end up.

    Of windows the smallest, of capabilities those of every place that has told any.
    """
    cards = [completed(offer.card) for offer in offers]
    able = [set(card.capabilities) for card in cards if card.capabilities]
    return replace(
        cards[0],
        owned_by=offers[0].place.pool or offers[0].place.provider,
        context_window=_least(card.context_window for card in cards),
        max_tokens=_least(card.max_tokens for card in cards),
        capabilities=in_order(set.intersection(*able) if able else ()),
    )


def in_order(capabilities: Iterable[str]) -> tuple[str, ...]:
    """The words of ``CAPABILITIES`` among these, in its order."""
    known = set(capabilities)
    return tuple(word for word in CAPABILITIES if word in known)


def _least(numbers: Iterable[int | None]) -> int | None:
    return min((number for number in numbers if number), default=None)


def _known(upstream: str) -> dict[str, Any]:
    """The first row that fits the model's name, with its snapshot or without; its vendor's prefix does not count."""
    names = names_of(upstream.lower().rpartition("/")[2])
    return next((row for row in _rows() if any(fnmatchcase(name, row["model"]) for name in names)), {})


@lru_cache
def _rows() -> list[dict[str, Any]]:
    import tomllib  # noqa: PLC0415 - only who lists models needs it

    rows: list[dict[str, Any]] = tomllib.loads(PACKAGED.read_text(encoding="utf-8"))["model"]
    return rows
