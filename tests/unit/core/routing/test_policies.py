"""Each policy puts places in order, loses none, and does what its name says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest

from penstock.core.routing.breaker import Bounds
from penstock.core.routing.place import Place
from penstock.core.routing.policies import affinity, least_latency, power_of_two, round_robin, weighted
from penstock.core.routing.router import POLICIES
from penstock.schema.key import ANONYMOUS
from penstock.schema.model import Deployment
from penstock.schema.request import CHAT, COMPLETIONS, Request

Order = Callable[[list[Place], Request], list[Place]]


def places(*weights: int) -> list[Place]:
    """Places named a, b, c … of these weights."""
    return [
        Place(Deployment(name, "m", name, "openai", "m", "http://x", weight=weight), Bounds())
        for name, weight in zip("abcdefghij", weights, strict=False)
    ]


def asking(text: str = "hello", *, endpoint: str = CHAT, model: str = "m", **body: Any) -> Request:
    """A request of one turn."""
    messages = {"messages": [{"role": "user", "content": text}]} if endpoint == CHAT else {"prompt": text}
    return Request("req_1", endpoint, model, {**messages, **body}, False, ANONYMOUS, 0.0)


def names(ordered: list[Place]) -> str:
    return "".join(place.deployment.id for place in ordered)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_place_is_in_the_order_once(policy: str) -> None:
    order: Order = import_module(f"penstock.core.routing.policies.{policy}").order
    for number in range(1, 8):
        several = places(*range(1, number + 1))
        for load, place in enumerate(several):
            place.under_way = load * 3
        assert sorted(names(order(several, asking(str(number))))) == sorted(names(several))


def test_weighted_goes_by_the_weights() -> None:
    several = places(1, 3)
    first = Counter(names(weighted.order(several, asking()))[0] for _ in range(4000))
    assert 0.20 < first["a"] / 4000 < 0.30, "one in four; 0.05 is seven standard deviations"


def test_round_robin_goes_in_turn_by_model_and_weight() -> None:
    several = places(1, 2, 1)
    turns = [names(round_robin.order(several, asking(model="turns"))) for _ in range(8)]
    assert [turn[0] for turn in turns] == list("abbcabbc")
    assert turns[1] == "bca"
    assert names(round_robin.order(several, asking(model="another"))) == "abc"


def test_least_latency_prefers_the_quick_and_tries_the_unknown() -> None:
    slow, quick, unknown = places(1, 1, 1)
    slow.answered(2.0, 3.0, 10)
    quick.answered(0.1, 3.0, 10)
    assert names(least_latency.order([slow, quick, unknown], asking())) == "cba"
    quick.under_way = 30
    assert names(least_latency.order([slow, quick], asking())) == "ab", "thirty calls before this one take time"


def test_power_of_two_takes_the_less_loaded_of_two() -> None:
    several = places(1, 1, 1, 1)
    for place in several[1:]:
        place.under_way = 9
    first = Counter(names(power_of_two.order(several, asking()))[0] for _ in range(2000))
    assert 0.42 < first["a"] / 2000 < 0.58, "the idle one is among two of four every other time"
    assert names(power_of_two.order(several[:2], asking())) == "ab"


def test_affinity_keeps_a_conversation_at_its_place() -> None:
    several = places(1, 1, 1, 1)
    system = {"role": "system", "content": "You are kind."}
    turn = {"role": "user", "content": "My name is Ada."}
    later = [system, turn, {"role": "assistant", "content": "Hello Ada"}, {"role": "user", "content": "Who am I?"}]
    first = names(affinity.order(several, asking(messages=[system, turn])))
    assert names(affinity.order(several, asking(messages=later))) == first
    assert names(affinity.order(several[::-1], asking(messages=later))) == first, "whatever the configuration's order"


def test_affinity_moves_no_conversation_but_those_of_a_place_that_goes() -> None:
    several = places(1, 1, 1, 1)
    for number in range(100):
        before = names(affinity.order(several, asking(f"conversation {number}")))
        after = names(affinity.order(several[:3], asking(f"conversation {number}")))
        assert after == before.replace("d", "")


def test_affinity_spreads_conversations_by_weight() -> None:
    several = places(1, 3)
    first = Counter(names(affinity.order(several, asking(f"conversation {number}")))[0] for number in range(2000))
    assert 0.18 < first["a"] / 2000 < 0.32


def test_affinity_passes_over_a_place_that_has_too_much_to_do() -> None:
    several = places(1, 1, 1)
    favourite, *others = affinity.order(several, asking())
    favourite.under_way = 4
    assert affinity.order(several, asking())[0] is others[0]
    for place in others:
        place.under_way = 4
    assert affinity.order(several, asking())[0] is favourite, "all have as much to do"


def test_affinity_believes_the_callers_own_cache_key() -> None:
    several = places(*[1] * 8)
    one, two = (asking(text, prompt_cache_key="tenant-7") for text in ("good morning", "good evening"))
    assert names(affinity.order(several, one)) == names(affinity.order(several, two))
    assert affinity.prefix_of(asking("x" * 5000, endpoint=COMPLETIONS)) == b"x" * 1024
    assert affinity.prefix_of(asking(endpoint=COMPLETIONS, prompt=[1, 2])) is None
