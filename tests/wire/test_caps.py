"""An answer that names no bound gets one where its tokens are counted, in the field that its engine knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.wire.gateway import CHAT, provider, serve
from tests.wire.upstream import HELLO, Call, Upstream, answering, completion, streaming

COUNTED = {"key": {"tokens_per_minute": 100_000}, "max_tokens": 3000}


def listing(window: int) -> Any:
    """An engine that lists its model with its context, and streams."""

    async def script(call: Call) -> None:
        if call.method == "GET":
            models = [{"id": "engine-1", "object": "model", "created": 1, "owned_by": "me", "max_model_len": window}]
            call.answer({"object": "list", "data": models} if "models" in call.target else {"is_generation": True})
        else:
            call.stream(*HELLO)

    return script


@pytest.mark.parametrize(("kind", "field"), [("openai", "max_completion_tokens"), ("groq", "max_tokens")])
async def test_the_bound_stands_in_the_vendors_own_field(
    tmp_path: Path, upstream: Upstream, kind: str, field: str
) -> None:
    upstream.script = answering(completion())
    async with serve(tmp_path, provider(upstream.url, type=kind), limits=COUNTED) as gateway:
        assert (await gateway.plain()).status == 200
        assert upstream.calls[-1].json == {"model": "engine-1", **CHAT, field: 3000}
        assert (await gateway.plain(max_tokens=7)).status == 200
        assert upstream.calls[-1].json == {"model": "engine-1", **CHAT, "max_tokens": 7}, "the caller's own bound stays"


async def test_where_nobody_counts_nothing_is_added(tmp_path: Path, upstream: Upstream) -> None:
    upstream.script = answering(completion())
    async with serve(tmp_path, provider(upstream.url)) as gateway:
        assert (await gateway.plain()).status == 200
    assert upstream.calls[0].json == {"model": "engine-1", **CHAT}


async def test_the_bound_keeps_within_the_context_of_an_engine(tmp_path: Path, upstream: Upstream) -> None:
    upstream.script = listing(1024)
    async with serve(tmp_path, provider(upstream.url, type="vllm"), limits=COUNTED) as gateway:
        assert (await gateway.plain()).status == 200
        cap = upstream.calls[-1].json["max_tokens"]
        assert 512 < cap < 1024 - len(str(CHAT))
        assert (await gateway.plain(messages=[{"role": "user", "content": "x" * 3000}])).status == 200
        assert upstream.calls[-1].json["max_tokens"] == 128, "an eighth is left for an answer to a prompt of any size"
    assert [call.method for call in upstream.calls] == ["GET", "POST", "POST"], "the context is asked for once"


async def test_an_engine_that_does_not_tell_its_context_gets_the_bound_as_it_is(
    tmp_path: Path, upstream: Upstream
) -> None:
    upstream.script = streaming(*HELLO)
    async with serve(tmp_path, provider(upstream.url, type="vllm"), limits=COUNTED) as gateway:
        assert (await gateway.plain()).status == 200
    assert upstream.calls[-1].json["max_tokens"] == 3000
