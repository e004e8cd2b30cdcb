"""Faults on purpose: a connection that fails now and then, as one to a provider would."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from fnmatch import fnmatchcase
from random import Random, SystemRandom

from penstock.core.counters import Counter
from penstock.core.json import to_json
from penstock.core.ports import Answer, Call, Connection
from penstock.errors import UpstreamError, UpstreamProtocolError, UpstreamTimeout
from penstock.providers._faults import fault
from penstock.providers._profiles import PROFILES
from penstock.schema.chaos_section import ChaosSection, Fault
from penstock.schema.model import Deployment, ModelCard

LONGEST = 3
"""Batches of a stream that pass at most before it breaks."""
BREAKS = ("cut_stream", "malformed_frame")

INJECTED = Counter("penstock_chaos_faults_total", "Faults put into calls.", ("type", "severity", "provider"))


class Chaos:
    """Draws the faults of each call: of the n-th call to a deployment, with one seed, always the same."""

    def __init__(self, section: ChaosSection) -> None:
        self._faults = section.faults
        self._seed = SystemRandom().getrandbits(64) if section.seed is None else section.seed
        self._calls: defaultdict[str, int] = defaultdict(int)

    def around(self, deployment: Deployment, connection: Connection) -> Connection:
        """The connection with what may go wrong on it."""
        faults = [each for each in self._faults if _fits(deployment.provider, each.providers)]
        return Unsteady(self, deployment, connection, faults) if faults else connection

    def drawn(self, deployment: Deployment, faults: Sequence[Fault], call: Call) -> Fate:
        """What is to befall this call; it is counted, and marked in the call."""
        self._calls[deployment.id] += 1
        dice = Random(f"{self._seed} {deployment.id} {self._calls[deployment.id]}")
        found = [each for each in faults if (dice.random() < each.probability) & _fits(call.key_id, each.keys)]
        fate = Fate(found, dice.randint(0, LONGEST))
        for each in fate.faults:
            INJECTED.add(each.type, each.severity, deployment.provider)
            call.injected.append(f"{each.type};severity={each.severity}")
        return fate


class Fate:
    """Every delay that was drawn, then the first failure; a stream breaks ``after`` so many batches."""

    def __init__(self, drawn: Sequence[Fault], after: int) -> None:
        delays = [each for each in drawn if each.type == "delay"]
        self.seconds = sum(each.duration_ms for each in delays) / 1000
        self.error = next((each for each in drawn if each.type == "error"), None)
        self.broken = next((each for each in drawn if each.type in BREAKS), None) if self.error is None else None
        self.faults = [*delays, *(each for each in (self.error, self.broken) if each is not None)]
        self.after = after


class Unsteady:
    """A connection on which faults happen. What is no call, looking whether it is there, is left alone."""

    def __init__(self, chaos: Chaos, deployment: Deployment, inner: Connection, faults: Sequence[Fault]) -> None:
        self._chaos = chaos
        self._deployment = deployment
        self._inner = inner
        self._faults = faults

    async def complete(self, call: Call) -> Answer:
        """The whole answer, if nothing befalls it."""
        fate = await self._begun(call)
        answer = await self._inner.complete(call)
        if fate.broken is not None:
            raise self._break(fate.broken)
        return answer

    async def stream(self, call: Call) -> AsyncGenerator[list[bytes], None]:
        """The batches, if nothing befalls them."""
        fate = await self._begun(call)
        broken, left = fate.broken, fate.after
        async with aclosing(self._inner.stream(call)) as batches:
            async for batch in batches:
                if broken is not None and left == 0:
                    if broken.type == "malformed_frame":
                        yield [*batch[:-1], batch[-1][: len(batch[-1]) // 2]]  # who reads it finds it out
                    raise self._break(broken)
                left -= 1
                yield batch
        if broken is not None:
            raise self._break(broken)

    async def models(self, deadline: float) -> list[ModelCard]:
        """What the provider lists."""
        return await self._inner.models(deadline)

    async def probe(self, deadline: float) -> None:
        """Whether the provider is there."""
        await self._inner.probe(deadline)

    async def _begun(self, call: Call) -> Fate:
        """What befalls the call once it has been delayed. Raises ``UpstreamError`` if it does not come further."""
        fate = self._chaos.drawn(self._deployment, self._faults, call)
        if fate.seconds:
            await self._wait(fate.seconds, call)
        if fate.error is not None:
            profile = PROFILES.get(self._deployment.kind, PROFILES["openai"])
            body = to_json({"error": {"message": fate.error.error_message, "code": None}})
            raise _injected(fault(fate.error.error_code, {}, body, self._deployment, profile))
        return fate

    async def _wait(self, seconds: float, call: Call) -> None:
        """Wait as a slow provider has one wait: until it answers, or one has lost patience."""
        now, place = asyncio.get_running_loop().time(), self._deployment
        patience = min(call.deadline - now, place.timeout, place.first_token_timeout or place.timeout)
        await asyncio.sleep(min(seconds, max(patience, 0.0)))
        if seconds >= patience:
            raise _injected(UpstreamTimeout(f"{place.provider} did not answer in time", provider=place.provider))

    def _break(self, broken: Fault) -> UpstreamError:
        name = self._deployment.provider
        words = "was cut" if broken.type == "cut_stream" else "is not valid JSON"
        return _injected(UpstreamProtocolError(f"the answer of {name} {words}", provider=name))


def _injected(error: UpstreamError) -> UpstreamError:
    error.injected = True
    return error


def _fits(name: str, globs: Sequence[str]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)
