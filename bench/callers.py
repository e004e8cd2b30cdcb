"""Callers who repeat nothing, and what became of each of their calls as they could see it.

Every call asks for a known number of tokens, so that a whole answer can be told from a shorter one. Half of them are
streams. A few conversations begin with long prompts of their own, so that it matters where they go.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import quantiles
from types import TracebackType
from typing import Any

import httpx

WHOLE, FAILED, CUT, BROKEN, FALSE = "whole", "failed", "cut with an error", "broken off", "false success"
"""``FAILED``: before any content. ``CUT``: after content, by a typed error event. ``BROKEN``: after content, without a
word. ``FALSE``: called whole, and not what was asked for.
"""
WORDS = ("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliet", "kilo", "lima")
PATIENCE = 120.0
PAUSE = 0.5
"""Seconds for which a caller whose call was lost waits: else the quickest failure would make the most calls."""


@dataclass(frozen=True, slots=True)
class Ended:
    """One call: when it began and how long it took, in seconds, how it ended, and the words of its failure."""

    stream: bool
    began: float
    seconds: float
    how: str
    first: float | None = None
    detail: str = ""


class Callers:
    """``count`` of them call one after another while the block lasts; then they end what they have begun."""

    def __init__(
        self, url: str, key: str, model: str, count: int, *, prompt_words: int = 500, tokens: tuple[int, int] = (16, 96)
    ) -> None:
        headers = {"authorization": f"Bearer {key}"}
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self._client = httpx.AsyncClient(base_url=url, headers=headers, timeout=PATIENCE, limits=limits)
        self._model = model
        self._tokens = tokens
        self._count = count
        self._chance = random.Random(7)
        self._prompts = [" ".join(self._chance.choices(WORDS, k=prompt_words)) for _ in range(count)]
        self._over = False
        self._tasks: list[asyncio.Task[None]] = []
        self.calls: list[Ended] = []

    async def __aenter__(self) -> Callers:
        self._tasks = [asyncio.create_task(self._go_on(number)) for number in range(self._count)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        try:
            await asyncio.gather(*self._tasks)
        finally:
            await self._client.aclose()

    async def go_on(self, calls: int) -> None:
        """Return once so many more calls have ended. Raises what a caller has stumbled over."""
        wanted = len(self.calls) + calls
        while len(self.calls) < wanted:
            await asyncio.sleep(0.05)
            for task in self._tasks:
                if task.done():
                    task.result()

    def having(self, *how: str) -> list[Ended]:
        """The calls that ended so."""
        return [call for call in self.calls if call.how in how]

    async def _go_on(self, number: int) -> None:
        while not self._over:
            ended = await self._call(self._chance.random() < 0.5)
            self.calls.append(ended)
            if ended.how != WHOLE:
                await asyncio.sleep(PAUSE)

    async def _call(self, stream: bool) -> Ended:
        tokens = self._chance.randint(*self._tokens)
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [
                {"role": "system", "content": self._chance.choice(self._prompts)},
                {"role": "user", "content": "sing"},
            ],
            "max_tokens": tokens,
            "ignore_eos": True,
            "temperature": 0,
        }
        began = time.monotonic()
        if not stream:
            how, detail = await self._plain(body, tokens)
            return Ended(stream, began, time.monotonic() - began, how, None, detail)
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        seen = Seen()
        try:
            await self._stream(body, seen)
        except httpx.HTTPError as error:
            seen.detail = f"{type(error).__name__}: {error}"
        first = None if seen.first is None else seen.first - began
        return Ended(stream, began, time.monotonic() - began, seen.how(tokens), first, seen.detail)

    async def _plain(self, body: dict[str, Any], tokens: int) -> tuple[str, str]:
        try:
            answer = await self._client.post("/v1/chat/completions", json=body)
        except httpx.HTTPError as error:
            return FAILED, f"{type(error).__name__}: {error}"
        if answer.status_code != 200:
            return FAILED, f"{answer.status_code} {answer.text[:300]}"
        document = answer.json()
        finish = document["choices"][0]["finish_reason"]
        count = document["usage"]["completion_tokens"]
        if (finish, count) == ("length", tokens):
            return WHOLE, ""
        return FALSE, f"{count} of {tokens} tokens, {finish}"

    async def _stream(self, body: dict[str, Any], seen: Seen) -> None:
        async with self._client.stream("POST", "/v1/chat/completions", json=body) as response:
            if response.status_code != 200:
                seen.detail = f"{response.status_code} {(await response.aread()).decode()[:300]}"
                return
            async for line in response.aiter_lines():
                if line.startswith("data:"):
                    seen.see(line.removeprefix("data:").strip())


class Seen:
    """What a stream has shown so far."""

    def __init__(self) -> None:
        self.first: float | None = None
        self.done = False
        self.error = False
        self.finish = ""
        self.count = 0
        self.detail = ""

    def see(self, payload: str) -> None:
        """Take one more event in."""
        if payload == "[DONE]":
            self.done = True
            return
        chunk = json.loads(payload)
        if chunk.get("error"):
            self.error, self.detail = True, payload[:300]
        for choice in chunk.get("choices") or ():
            if choice["delta"].get("content") and self.first is None:
                self.first = time.monotonic()
            self.finish = choice.get("finish_reason") or self.finish
        self.count = (chunk.get("usage") or {}).get("completion_tokens", self.count)

    def how(self, tokens: int) -> str:
        """How the stream that should have brought so many tokens has ended."""
        if self.error or not self.done:
            if self.first is None:
                return FAILED
            return CUT if self.error else BROKEN
        if (self.finish, self.count) == ("length", tokens):
            return WHOLE
        self.detail = self.detail or f"{self.count} of {tokens} tokens, {self.finish}"
        return FALSE


def p50_p95(seconds: Sequence[float]) -> tuple[float, float]:
    """The median and the 95th percentile."""
    hundredths = quantiles(seconds, n=100, method="inclusive")
    return hundredths[49], hundredths[94]


def reasons(calls: Sequence[Ended]) -> Counter[str]:
    """How often calls that did not end well said what, shortened to what tells them apart."""
    kind = {True: "stream", False: "plain"}
    return Counter(f"{kind[call.stream]} {call.how}: {call.detail[:160]}" for call in calls if call.how != WHOLE)
