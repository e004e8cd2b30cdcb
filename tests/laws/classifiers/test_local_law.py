"""The law of what stays local: whatever fails, no remote place is sent a prompt that holds something sensitive."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock import plugs
from penstock.core.classification.chooser import Alias, Classification
from penstock.core.classification.sensitive import Sensitive
from penstock.core.gateway import Gateway
from penstock.core.limits.limiter import Limiter
from penstock.core.limits.terms import Plan
from penstock.core.metering import Ledger
from penstock.core.ports import Answer, Call
from penstock.core.prices import Catalog
from penstock.core.registry import ModelRegistry
from penstock.core.routing.router import POLICIES, Router
from penstock.errors import (
    PenstockError,
    UpstreamBusy,
    UpstreamProtocolError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from penstock.schema.classification_section import AliasSection, ExampleSection, JudgeSection, SensitiveSection
from penstock.schema.key import Caller
from penstock.schema.model import Deployment
from penstock.schema.request import CHAT, Request
from tests.unit.memory import MemoryStore

CARD = "4539 1488 0343 6467"
FAILURES = (
    UpstreamBusy("full"),
    UpstreamUnavailable("down"),
    UpstreamTimeout("slow"),
    UpstreamProtocolError("cut"),
    UpstreamRefused("too long", status=400),
)
MODELS = ("one", "two", "judge")
Place = tuple[str, bool, int, bool, int]

PLACES = st.lists(
    st.tuples(st.sampled_from(MODELS), st.booleans(), st.integers(0, 3), st.booleans(), st.integers(0, len(FAILURES))),
    min_size=1,
    max_size=7,
)


class Witness:
    """A connection that answers or fails, and remembers what it was shown."""

    def __init__(self, failure: PenstockError | None) -> None:
        self.failure = failure
        self.shown: list[str] = []

    async def complete(self, call: Call) -> Answer:
        self.shown.append(json.dumps(call.body))
        if self.failure is not None:
            raise self.failure
        vectors = [{"index": at, "embedding": [1.0, float(at)]} for at in range(len(call.body.get("input", ())))]
        message = {"content": "large"}
        document: dict[str, Any] = {"model": "up", "choices": [{"index": 0, "message": message}], "data": vectors}
        return Answer(json.dumps(document).encode(), document)

    async def stream(self, call: Call) -> AsyncGenerator[list[bytes], None]:
        self.shown.append(json.dumps(call.body))
        if self.failure is not None:
            raise self.failure
        yield [b'{"model":"up","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":"stop"}]}']


async def _asked(places: list[Place], classifier: str, policy: str, *, stream: bool, default: bool) -> list[str]:
    """What remote places were shown when a sensitive request was served."""
    connections: dict[str, Witness] = {}
    deployments = []
    for number, (model, local, priority, forced, failure) in enumerate(places):
        name = f"{'near' if local else 'far'}{number}"
        connections[f"{name}/{model}"] = Witness(FAILURES[failure] if failure < len(FAILURES) else None)
        deployments.append(
            Deployment(f"{name}/{model}", model, name, "openai", "up", "http://x", priority=priority, forced=forced)
        )
    registry = ModelRegistry(MemoryStore(), deployments, [], lambda place: connections[place.id])  # type: ignore[arg-type,return-value]
    section = AliasSection(
        tiers={"small": ["one"], "large": ["two", "one"]},
        classifier=classifier,
        default="large" if default else None,
        judge=JudgeSection(model="judge"),
        examples=ExampleSection(model="judge", prompts={"small": ["hello"], "large": ["prove"]}),
    )
    alias = Alias(section, plugs.load("classifiers", classifier).connect(section))
    chooser = Classification({"auto": alias}, Sensitive(SensitiveSection()), registry, ["near*"])
    ledger = Ledger(MemoryStore(), tell=lambda told: None)  # type: ignore[arg-type]
    limiter = Limiter(MemoryStore(), Plan())  # type: ignore[arg-type]
    gateway = Gateway(registry, Router(policy), ledger, limiter, Catalog(), attempts=9, classification=chooser)
    body = {"model": "auto", "messages": [{"role": "user", "content": f"Prove it. {CARD}"}], "stream": stream}
    deadline = asyncio.get_running_loop().time() + 20
    request = Request("req", CHAT, "auto", body, stream, Caller("key_1"), deadline)
    with suppress(PenstockError):
        if stream:
            async for _ in gateway.stream(request):
                pass
        else:
            await gateway.complete(request)
    await ledger.close()
    return [shown for name, place in connections.items() if name.startswith("far") for shown in place.shown]


@settings(max_examples=150, deadline=None)
@given(
    places=PLACES,
    classifier=st.sampled_from(["rules", "judge", "examples"]),
    policy=st.sampled_from(POLICIES),
    stream=st.booleans(),
    default=st.booleans(),
)
def test_no_remote_place_is_shown_a_sensitive_prompt_whatever_fails(
    places: list[Place], classifier: str, policy: str, stream: bool, default: bool
) -> None:
    shown = asyncio.run(_asked(places, classifier, policy, stream=stream, default=default))
    assert not [each for each in shown if CARD in each]
