"""The most that a request may take, told from its size and from what it asks for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from penstock.core.limits.refusals import too_large, too_long
from penstock.core.limits.terms import Need, Terms
from penstock.errors import PermissionDenied
from penstock.schema.price import Price
from penstock.schema.request import COMPLETIONS, GENERATIVE, IMAGES, Request

TEMPLATE = 256
"""Tokens that an engine's chat template may add by itself."""
TOOLS = 768
"""Tokens that a vendor adds to explain tools to its model."""
IMAGE = 50_000
"""Tokens of one image at most: gpt-4o-mini counts 48,169 for the largest."""
USUAL_IMAGE = 1_000
"""Tokens of an image, for what nobody has counted."""
MADE = 8_192
"""Tokens of an image that is made at most: gpt-image-1 counts 6,240 for its largest."""
LINKED = 250_000
"""Tokens of a video or sound that is only linked; one that is sent along has no more than bytes."""
BYTES_PER_TOKEN = 4
"""Of usual text; only for what nobody has counted."""


NOTHING = Need()


def need_of(request: Request, terms: Sequence[Terms], prices: Sequence[Price | None], cap: int) -> Need:
    """The most tokens and money that a request may take, where a limit or a budget counts them.

    A request that names no bound for its answer gets ``cap``, or nobody could tell. Raises ``RequestTooLarge`` if a
    limit could never admit it, ``PermissionDenied`` if a budget cannot pay because a price is not known.
    """
    counts = any(each.tokens for each in terms)
    pays = any(each.budget for each in terms)
    if not (counts or pays):
        return NOTHING
    known = [price for price in prices if price is not None]
    if pays and len(known) < len(prices):
        raise PermissionDenied(
            f"What {request.model!r} costs is not known here, so that no budget can pay for it: the operator must name"
            " its price under 'prices' in the configuration (0 is free).",
            param="model",
        )
    prompt, completion = prompt_bound(request), completion_bound(request, cap)
    bounded = request.endpoint in GENERATIVE
    if bounded and completion and asked(request) is None and (counts or any(price.output for price in known)):
        request.cap = cap
    for each in terms:
        for rate in each.tokens:
            if completion * rate.interval >= rate.depth:
                raise too_large(rate, prompt + completion)
    seconds = max(request.deadline - asyncio.get_running_loop().time(), 0.0)
    images = answers(request) if request.endpoint == IMAGES else 0
    bounds = (price.bound(prompt, completion, seconds=seconds, images=images) for price in known)
    nanos = max(bounds, default=0) if pays else 0
    return Need(prompt + completion, nanos, prompt)


def prompt_bound(request: Request) -> int:
    """No fewer tokens than the prompt has: a token is at least one byte of it, and JSON only adds to them."""
    bound = request.size + TEMPLATE + (TOOLS if request.body.get("tools") or request.body.get("functions") else 0)
    for kind, url in _media(request.body):
        if kind == "image_url":
            bound += IMAGE - (len(url) if url.startswith("data:") else 0)
        elif not url.startswith("data:"):
            bound += LINKED
    return max(bound, TEMPLATE)


def prompt_guess(request: Request) -> int:
    """How many tokens the prompt likely has, where nobody counted them."""
    images = [url for kind, url in _media(request.body) if kind == "image_url"]
    text = request.size - sum(len(url) for url in images)
    return max(text, 0) // BYTES_PER_TOKEN + 1 + USUAL_IMAGE * len(images)


def refuse_longer(request: Request, longest: int) -> None:
    """Raise ``RequestTooLarge`` for a prompt that likely has more than so many tokens."""
    if (guess := prompt_guess(request)) > longest:
        raise too_long(guess, longest, "prompt" if "prompt" in request.body else "messages")


def asked(request: Request) -> int | None:
    """Tokens that one answer may have by the request's own word, by the larger of two; ``None`` if it does not say."""
    said = (request.body.get(name) for name in ("max_completion_tokens", "max_tokens"))
    return max((max(value, 0) for value in said if isinstance(value, int)), default=None)


def answers(request: Request) -> int:
    """How many answers are asked for."""
    body = request.body
    number = max([1, *(value for name in ("n", "best_of") if isinstance(value := body.get(name), int))])
    prompt = body.get("prompt")
    if request.endpoint == COMPLETIONS and isinstance(prompt, list) and prompt and not isinstance(prompt[0], int):
        return number * len(prompt)
    return number


def completion_bound(request: Request, cap: int) -> int:
    """No fewer tokens than the answers can have, if an answer that names no bound of its own is given ``cap``."""
    if request.endpoint == IMAGES:
        return answers(request) * MADE
    if request.endpoint not in GENERATIVE:
        return 0
    own = asked(request)
    return answers(request) * (cap if own is None else own)


def _media(body: dict[str, Any]) -> list[tuple[str, str]]:
    """The images, videos and sounds of a chat: the kind of the part, and its address."""
    found = []
    messages = body.get("messages")
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            for kind in ("image_url", "video_url", "audio_url") if isinstance(part, dict) else ():
                named = part.get(kind)
                url = named.get("url") if isinstance(named, dict) else named
                if isinstance(url, str):
                    found.append((kind, url))
    return found
