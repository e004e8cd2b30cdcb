"""Makes a conversation shorter that its provider refused: a model sums up what is old, at the caller's cost."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from random import getrandbits
from typing import Any

from penstock.core.cache.cache import Cache
from penstock.core.cache.caches import Cleaner
from penstock.core.cache.keys import key_of
from penstock.core.condensing.overflow import Overflow, is_overflow, overflow_of
from penstock.core.condensing.plan import Plan, plan
from penstock.core.condensing.sizes import size_beside, size_of
from penstock.core.condensing.transcript import fingerprint, overhead, pieces, request_for, told
from penstock.core.counters import Counter
from penstock.core.json import parse, to_json
from penstock.core.limits.estimate import asked
from penstock.errors import CallerError, PenstockError, RateLimited, UpstreamProtocolError, UpstreamRefused
from penstock.schema.condensation_section import CondensationSection
from penstock.schema.condensed import Condensed
from penstock.schema.key import EVERY
from penstock.schema.request import CHAT, Request

log = logging.getLogger("penstock.condensing")

Complete = Callable[[Request], Awaitable[bytes]]

MOST = 32
"""Calls that one conversation may be summed up with."""
MARGIN = 0.95
"""Of the room that there is said to be: sizes are estimates."""
USUAL = 1024
"""Tokens of an answer whose request names no bound, at most a quarter of the window."""
LISTED = 32
"""Summaries that are known of conversations that begin alike, the latest."""
SHORTEST = 64
"""Tokens of a piece that is not cut any more."""
_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)

CONDENSED = Counter(
    "penstock_condensations_total",
    "Requests that were too long. result: condensed, cached, not_possible, failed.",
    ("result",),
)
TOKENS = Counter("penstock_condensed_tokens_total", "Tokens of conversations before and after.", ("when",))


class Condenser:
    """Condenses conversations as its section says; ``cache`` keeps the summaries, and the ``cleaner`` is its own."""

    def __init__(self, section: CondensationSection, cache: Cache | None, cleaner: Cleaner | None = None) -> None:
        self._section = section
        self._cache = cache
        self.cleaner = cleaner

    def wants(self, request: Request, refusal: UpstreamRefused) -> bool:
        """Whether the request shall be made shorter and sent again."""
        if request.endpoint != CHAT or request.whole or request.worker is not None:
            return False
        return is_overflow(refusal, self._section.error_patterns)

    async def condense(self, request: Request, refusal: UpstreamRefused, complete: Complete) -> None:
        """Put a shorter conversation into the request, in the place of the one that was refused.

        ``complete`` has a request answered, as a caller's own. Raises the refusal if nothing can be done.
        """
        work = _Work(self._section, self._cache, request, overflow_of(refusal), complete)
        request.whole = True
        if work.plan is None or not work.worth_it(work.plan):
            CONDENSED.add("not_possible")
            raise refusal
        try:
            messages = await work.condensed(work.plan)
        except PenstockError as error:
            CONDENSED.add("failed")
            if isinstance(error, RateLimited) and request.admitted:
                raise  # a job can wait
            if not isinstance(error, CallerError):
                words, extra = "a conversation could not be summed up: %s", {"request_id": request.id}
                log.warning(words, error.code, extra=extra)
            raise refusal from None
        request.body = {**request.body, "messages": messages}
        request.size = len(to_json(request.body))
        done = request.condensed = work.result(messages)
        request.cap = work.cap(done.tokens_after)
        CONDENSED.add("cached" if done.cached else "condensed")
        TOKENS.add("before", n=done.tokens_before)
        TOKENS.add("after", n=done.tokens_after)


class _Work:
    """One conversation on its way."""

    def __init__(
        self, section: CondensationSection, cache: Cache | None, request: Request, told: Overflow, complete: Complete
    ) -> None:
        self._section = section
        self._cache = cache
        self._request = request
        self._complete = complete
        self._calls = 0
        now = asyncio.get_running_loop().time()
        self._deadline = now + (request.deadline - now) / 2  # the other half is the answer's
        self._model = request.model if section.model is None or request.local else section.model
        self._messages: list[dict[str, Any]] = request.body["messages"]
        self._beside = size_beside(request.body)
        estimated = sum(map(size_of, self._messages)) + self._beside
        self._scale = min(max(told.asked / estimated, 0.25), 4.0) if told.asked else 1.0
        self.tokens_before = told.asked or estimated
        self._window = None if told.window is None else told.window / self._scale * MARGIN
        instructions = sum(size_of(each) for each in self._messages if each.get("role") in ("system", "developer"))
        self._fixed = instructions + self._beside
        self.plan = plan(self._messages, keep=section.keep_recent, room=self._room())

    def _room(self) -> float | None:
        """Estimated tokens for what stays word for word, where the model's window is known."""
        if self._window is None:
            return None
        answer = asked(self._request) or min(USUAL, self._window * self._scale / 4)
        summary = self._section.summary_max_tokens + 32
        return self._window - (answer + summary) / self._scale - self._fixed

    def cap(self, prompt: int) -> int | None:
        """The bound that the house has put on an answer which names none, within what the prompt leaves."""
        cap = self._request.cap
        if cap is None or self._window is None:
            return cap
        return max(min(cap, int(self._window * self._scale) - prompt), 1)

    def worth_it(self, plan: Plan) -> bool:
        """Whether the conversation is long, and what is old of it longer than its summary may be."""
        old = sum(unit.size for unit in plan.old) * self._scale
        return self.tokens_before >= self._section.truncation_threshold and old > self._section.summary_max_tokens

    def result(self, messages: Sequence[dict[str, Any]]) -> Condensed:
        """What has become of it."""
        after = round((sum(map(size_of, messages)) + self._beside) * self._scale)
        return Condensed(len(self._messages), len(messages), self.tokens_before, after, not self._calls)

    async def condensed(self, plan: Plan) -> list[dict[str, Any]]:
        """The shorter conversation. Raises ``PenstockError`` if no summary can be had."""
        keys = self._keys(plan)
        done, summary = await self._known(keys)
        if not summary or not self._fits(plan, done):
            texts = [told(self._messages[n]) for unit in plan.old[done:] for n in unit.numbers]
            summary = await self._summed_up(summary, texts)
            done = len(plan.old)
            await self._keep(keys, summary)
        return plan.condensed(summary, done)

    def _keys(self, plan: Plan) -> list[str]:
        """What a summary of each beginning of the old part is found by: it belongs to the caller's key alone."""
        section, request = self._section, self._request
        about = f"{self._model} {section.summary_max_tokens}"
        key = key_of(b"summary", request.caller.key_id.encode(), about.encode())
        keys = []
        for unit in plan.old:
            key = key_of(key.encode(), *(fingerprint(self._messages[number]) for number in unit.numbers))
            keys.append(key)
        return keys

    async def _known(self, keys: Sequence[str]) -> tuple[int, str]:
        """The longest beginning, in units, that a summary is kept of, and that summary."""
        if self._cache is not None:
            for count in sorted(await self._counts(keys), reverse=True):
                if count <= len(keys) and (found := await self._cache.get(keys[count - 1])):
                    return count, found.decode()
        return 0, ""

    async def _counts(self, keys: Sequence[str]) -> list[int]:
        """Of how many units there are summaries, among conversations that begin as this one does."""
        assert self._cache is not None
        listed = await self._cache.get(key_of(b"counts", keys[0].encode()))
        return [int(count) for count in listed.split()] if listed else []

    async def _keep(self, keys: Sequence[str], summary: str) -> None:
        if self._cache is None:
            return
        ttl = min(self._section.cache_ttl, self._cache.ttl)
        counts = [count for count in await self._counts(keys) if count != len(keys)]
        listed = " ".join(map(str, [*counts, len(keys)][-LISTED:]))
        await self._cache.put(keys[-1], summary.encode(), ttl)
        await self._cache.put(key_of(b"counts", keys[0].encode()), listed.encode(), ttl)

    def _fits(self, plan: Plan, done: int) -> bool:
        """Whether there is room for what a kept summary does not tell of. Who does not know the room takes no risk."""
        rest = plan.old[done:]
        if not rest:
            return True
        room = self._room()
        kept = sum(size_of(self._messages[number]) for number in plan.kept)
        return room is not None and sum(unit.size for unit in rest) + kept <= room

    async def _summed_up(self, summary: str, texts: Sequence[str]) -> str:
        """The summary of one and of what follows it, in as many calls as it takes."""
        known = self._window is not None and self._model == self._request.model
        waiting = pieces(texts, self._piece()) if known else [list(texts)]
        while waiting:
            part = waiting.pop(0)
            try:
                summary = await self._ask(summary, part)
            except UpstreamRefused as refusal:
                if not is_overflow(refusal, self._section.error_patterns):
                    raise
                half = sum(size_of({"content": text}) for text in part) / 2
                if half < SHORTEST:
                    raise
                waiting = [*pieces(part, half), *waiting]
        return summary

    def _piece(self) -> float:
        """Estimated tokens of the conversation that the model itself can read at once to sum them up."""
        assert self._window is not None
        return max(self._window - overhead(self._section.summary_max_tokens), SHORTEST)

    def _name(self) -> str:
        """The summary's name in the ledger. A try of a job may be run twice, and each run's summaries are paid."""
        again = f"-{getrandbits(24):06x}" if self._request.admitted else ""
        return f"{self._request.id}.summary{self._calls}{again}"

    async def _ask(self, summary: str, texts: Sequence[str]) -> str:
        """One call, paid for as one of the caller's: of the operator's model, at places that the key may reach."""
        section, request = self._section, self._request
        self._calls += 1
        if self._calls > MOST:
            raise UpstreamProtocolError(f"the conversation cannot be summed up in {MOST} calls")
        body = {"model": self._model, "messages": request_for(summary, texts, section.summary_max_tokens)}
        answer = await self._complete(
            Request(
                id=self._name(),
                endpoint=CHAT,
                model=self._model,
                body=body,
                stream=False,
                caller=replace(request.caller, models=EVERY),
                deadline=self._deadline,
                address=request.address,
                size=len(to_json(body)),
                cap=section.summary_max_tokens,
                admitted=True,
                whole=True,
                local=request.local,
            )
        )
        content = parse(answer)["choices"][0].get("message", {}).get("content")
        said = _THOUGHT.sub("", content).strip() if isinstance(content, str) else ""
        if not said:
            raise UpstreamProtocolError("the summary of the conversation is empty")
        return said
