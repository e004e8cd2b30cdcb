"""What an answer says of its way here: as headers, and as ``_proxy_info`` in its body, spliced in as bytes."""

from __future__ import annotations

import asyncio
import re

from penstock.core.json import parse, to_json
from penstock.dialects._cache_control import cache_headers
from penstock.dialects._exchange import RawHeaders
from penstock.schema.freshness import HIT
from penstock.schema.request import COMPLETIONS, Attempt, Request

MAX_DROPPED = 50
_TOKEN = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_UNSAFE = re.compile(r"[^ !#-\[\]-~]")

_NAME = b'"_proxy_info"'
_FINISH = b'"finish_reason"'
_NOT_YET = (b":null", b": null")
_MEMBER = b',"_proxy_info":{"provider":%b,"attempt_number":%d,"response_time":%.3f,"request_id":%b%b}}'


def way_headers(request: Request, *, answered: bool = True) -> RawHeaders:
    """Headers that say who answered, after how many attempts, how the others failed, and which fields were dropped.

    ``x-penstock-failed`` is a list of strings with parameters (RFC 9651). Without a deployment tried there are none.
    """
    if not request.deployment:
        return cache_headers(request)
    headers = [
        *cache_headers(request),
        (b"x-penstock-deployment", request.deployment.encode("latin-1", "replace")),
        (b"x-penstock-provider", request.provider.encode("latin-1", "replace")),
        (b"x-penstock-attempts", b"%d" % (len(request.attempts) + (answered and request.cache != HIT))),
    ]
    if request.attempts:
        headers.append((b"x-penstock-failed", ", ".join(map(_failed, request.attempts)).encode()))
    if request.injected:
        headers.append((b"x-penstock-chaos", ", ".join(request.injected).encode()))
    if request.condensed is not None:
        headers.append((b"x-penstock-condensed", request.condensed.header().encode()))
    if request.dropped:
        named = (name if _TOKEN.fullmatch(name) else "?" for name in request.dropped[:MAX_DROPPED])
        headers.append((b"x-penstock-dropped", ",".join(named).encode()))
    return headers


def _failed(attempt: Attempt) -> str:
    return f'"{_UNSAFE.sub("?", attempt.deployment)}";code={attempt.code};seconds={attempt.seconds:.3f}'


def with_info(answer: bytes, request: Request, began: float) -> bytes:
    """A whole answer with ``_proxy_info`` in it. ``began`` is on the loop's clock."""
    return _spliced(answer, request, began)


class LastChunk:
    """Finds the last chunk that a stream shows, as it passes, and puts ``_proxy_info`` into it.

    It is the one that carries the usage, where the caller asked for that; else the one that ends the last choice. None
    is held back to learn more, and none is parsed whose bytes do not say that it may be the one.
    """

    __slots__ = ("_began", "_left", "_request", "_usage")

    def __init__(self, request: Request, began: float) -> None:
        self._request = request
        self._began = began
        self._usage = request.wants_usage
        self._left = _choices(request)

    def see(self, batch: list[bytes]) -> list[bytes]:
        """The batch as the caller gets it."""
        for number, payload in enumerate(batch):
            at = payload.rfind(_FINISH)
            if at < 0:
                candidate = self._usage and b'"usage"' in payload
            else:
                candidate = self._left > 1 or not payload.startswith(_NOT_YET, at + len(_FINISH))
            if candidate and self._is_last(payload):
                batch[number] = _spliced(payload, self._request, self._began)
        return batch

    def _is_last(self, payload: bytes) -> bool:
        try:
            chunk = parse(payload)
            choices = chunk.get("choices") or []
            self._left -= sum(choice.get("finish_reason") is not None for choice in choices)
        except (ValueError, AttributeError, TypeError):
            return False  # it is relayed as it is
        if self._usage:
            return isinstance(chunk.get("usage"), dict) and (not choices or self._left <= 0)
        return bool(choices) and self._left <= 0


def _choices(request: Request) -> int:
    """How many choices a stream has to end."""
    prompts = request.body.get("prompt") if request.endpoint == COMPLETIONS else None
    many = isinstance(prompts, list) and not all(isinstance(token, int) for token in prompts)
    return (request.body.get("n") or 1) * (len(prompts) if many and prompts else 1)


def _spliced(document: bytes, request: Request, began: float) -> bytes:
    """A JSON object with ``_proxy_info`` as one member more, its own bytes untouched; another gateway's gives way."""
    if _NAME in document:
        others = {name: value for name, value in parse(document).items() if name != "_proxy_info"}
        document = to_json(others)
    attempts = b',"attempts":' + to_json([a.told() for a in request.attempts]) if request.attempts else b""
    if request.cache == HIT:
        attempts = b',"cached":true'
    if request.classified is not None:
        attempts += b',"classification":' + to_json(request.classified.told())
    if request.condensed is not None:
        attempts += b',"condensed":' + to_json(request.condensed.told())
    seconds = asyncio.get_running_loop().time() - began
    return document[: document.rindex(b"}")] + _MEMBER % (
        to_json(request.provider),
        0 if request.cache == HIT else len(request.attempts) + 1,
        seconds,
        to_json(request.id),
        attempts,
    )
