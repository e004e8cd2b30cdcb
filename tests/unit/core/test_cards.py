"""What is told of a model: by its places together, and where they are silent by the list that comes along."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.core import cards
from penstock.core.cards import Offer, completed, merged
from penstock.schema.model import CAPABILITIES, Deployment, ModelCard


def card(id: str = "m", **fields: Any) -> ModelCard:
    return ModelCard(id, "a", "openai", 1_700_000_000, fields.pop("upstream", "something-unheard-of"), **fields)


def offer(provider: str, **fields: Any) -> Offer:
    return Offer(Deployment(f"{provider}/m", "m", provider, "openai", "up", "http://x"), card(**fields))


def test_of_several_places_what_holds_at_all_of_them_is_told() -> None:
    told = merged(
        [
            offer("b", context_window=8192, capabilities=("chat", "tools", "vision"), max_tokens=4096),
            offer("a", context_window=4096, capabilities=("vision", "chat")),
            offer("c"),
        ]
    )
    assert (told.owned_by, told.context_window, told.max_tokens) == ("b", 4096, 4096)
    assert told.capabilities == ("chat", "vision"), "who says nothing takes nothing away"


@pytest.mark.parametrize(
    ("upstream", "window"),
    [
        ("gpt-4", 8192),
        ("gpt-4-0613", 8192),
        ("openai/gpt-4o-2024-08-06", 128000),
        ("GPT-4o", 128000),
        ("claude-3-opus-20240229", 200000),
        ("something-else", None),
    ],
)
def test_a_model_is_known_by_its_name_where_its_provider_says_nothing(upstream: str, window: int | None) -> None:
    assert completed(card(upstream=upstream)).context_window == window


def test_what_a_provider_says_goes_before_the_list() -> None:
    told = completed(card(upstream="gpt-4", context_window=32768, capabilities=("completions",)))
    assert (told.context_window, told.max_tokens, told.capabilities) == (32768, 4096, ("completions",))


def test_every_row_of_the_list_is_sound() -> None:
    for row in cards._rows():
        assert set(row) <= {"model", "context_window", "max_tokens", "capabilities"}
        assert row["model"] == row["model"].lower()
        assert set(row.get("capabilities", ())) <= set(CAPABILITIES)
        assert row.get("max_tokens", 1) <= row.get("context_window", 10**9)
