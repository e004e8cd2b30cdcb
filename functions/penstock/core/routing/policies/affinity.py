"""The same place for the same conversation, so that its prefix is in that engine's cache, unless it has too much to do.

Rendezvous hashing (Thaler and Ravishankar, 1998) with a bounded load (Mirrokni and others, 2016): a place with more
than 1.25 times the mean load is passed over for the next one that the hash names.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from penstock.core.json import to_json
from penstock.core.routing.place import Place
from penstock.core.routing.policies import power_of_two
from penstock.schema.request import Request

BOUND = 1.25
PREFIX = 1024
"""Characters of a prompt that tell it from others."""


def order(places: Sequence[Place], request: Request) -> list[Place]:
    """By the hash of the conversation's beginning; by load where there is no conversation."""
    if len(places) == 1:
        return list(places)
    prefix = prefix_of(request)
    if prefix is None:
        return power_of_two.order(places, request)
    ranked = sorted(places, key=lambda place: _score(place, prefix))
    mean = sum(place.under_way for place in places) / sum(place.deployment.weight for place in places)
    light = [
        place for place in ranked if place.under_way + 1 <= math.ceil(BOUND * (mean + 1) * place.deployment.weight)
    ]
    return light + [place for place in ranked if place not in light]


def prefix_of(request: Request) -> bytes | None:
    """What all turns of one conversation begin with: the caller's own ``prompt_cache_key``, else the messages up to the
    first of the user.
    """
    body = request.body
    if isinstance(key := body.get("prompt_cache_key"), str):
        return key.encode("utf-8", "surrogatepass")
    messages, prompt = body.get("messages"), body.get("prompt")
    if isinstance(messages, list):
        return to_json(_opening(messages))[: 4 * PREFIX]
    return prompt[:PREFIX].encode("utf-8", "surrogatepass") if isinstance(prompt, str) else None


def _opening(messages: list[Any]) -> list[Any]:
    for number, message in enumerate(messages):
        if isinstance(message, dict) and message.get("role") == "user":
            return messages[: number + 1]
    return messages


def _score(place: Place, prefix: bytes) -> float:
    """Lower is better; a place of weight 2 is the best twice as often (weighted rendezvous hashing)."""
    digest = blake2b(prefix, digest_size=8, key=place.deployment.id.encode()[:64]).digest()
    chance = (int.from_bytes(digest, "big") + 0.5) / 2**64
    return -math.log(chance) / place.deployment.weight
