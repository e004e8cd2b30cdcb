"""Conversations that are too long for their model: what it gets instead, who pays for the summary, what callers see."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from penstock.core.json import to_json
from penstock.core.limits.estimate import TEMPLATE
from penstock.schema.key import VirtualKey
from penstock.schema.outcome import CANCELLED, FAILED, OK
from penstock.schema.secret import Secret
from tests.wire import gateway as gateways
from tests.wire.gateway import MODEL, Gateway, Reply, eventually
from tests.wire.narrow import conversation, narrow, refusal, tokens
from tests.wire.upstream import Call, Upstream, answering, completion

WINDOW = 2000
Start = Callable[..., AbstractAsyncContextManager[Gateway]]
PAID = {"prices": [{"input": 1, "output": 10}]}


@pytest.fixture
def start(tmp_path: Path, upstream: Upstream, second: Upstream) -> Start:
    """Starts a gateway that condenses; its model is narrow, and ``cheap``, at the second upstream, sums up."""
    upstream.script, second.script = narrow(WINDOW), narrow(100_000)

    @asynccontextmanager
    async def start(
        sections: dict[str, Any] | None = None, limits: Any = None, timeout: float = 20, **section: Any
    ) -> AsyncIterator[Gateway]:
        usual = {"model": "cheap", "truncation_threshold": 500, "summary_max_tokens": 200, **section}
        cheap = {**gateways.provider(second.url, name="summer"), "models": [{"name": "cheap", "upstream": "small"}]}
        async with gateways.serve(
            tmp_path,
            gateways.provider(upstream.url),
            cheap,
            sections={"condensation": usual, **(sections or {})},
            limits=limits or {"enabled": False},
            proxy_info=True,
            timeout=timeout,
        ) as gateway:
            yield gateway

    return start


async def ask(gateway: Gateway, stream: bool = False, turns: int = 40, **fields: Any) -> Reply:
    messages = fields.pop("messages", None) or conversation(turns)
    return await (gateway.stream if stream else gateway.plain)(messages=messages, **fields)


def said(reply: Reply) -> str:
    assert reply.status == 200, reply.body
    return reply.text if reply.body.startswith(b"data") else str(reply.json["choices"][0]["message"]["content"])


def info(reply: Reply) -> Any:
    document = (
        next(event for event in reply.events if "_proxy_info" in event) if b"data: " in reply.body else reply.json
    )
    return document["_proxy_info"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_conversation_that_is_too_long_is_answered_from_its_summary(
    start: Start, upstream: Upstream, second: Upstream, stream: bool
) -> None:
    async with start() as gateway:
        reply = await ask(gateway, stream)
    assert said(reply) == "c0", "what was said first of all is known"
    first, again = (call.json["messages"] for call in upstream.calls)
    assert again[0] == first[0], "instructions stay"
    assert again[-6:] == first[-6:], "what was said last stays"
    assert len(second.calls) == 1
    told = info(reply)["condensed"]
    assert (told["messages_before"], told["messages_after"]) == (len(first), len(again))
    assert told["tokens_before"] == tokens(first), "as the engine counted"
    assert told["tokens_after"] < WINDOW
    assert told["cached"] is False
    assert f"tokens_before={tokens(first)}" in reply.headers["x-penstock-condensed"]
    assert info(reply)["attempt_number"] == 2


async def test_the_same_and_a_longer_conversation_use_the_summary_again(
    start: Start, upstream: Upstream, second: Upstream
) -> None:
    async with start() as gateway:
        await ask(gateway)
        reply = await ask(gateway)
        assert (said(reply), info(reply)["condensed"]["cached"]) == ("c0", True)
        longer = [*conversation(40), {"role": "assistant", "content": "c0"}, {"role": "user", "content": "Thank you."}]
        longer += [{"role": "assistant", "content": "Welcome."}, {"role": "user", "content": "What is the code of n3?"}]
        reply = await ask(gateway, messages=longer)
    assert (said(reply), info(reply)["condensed"]["cached"]) == ("c3", True)
    assert len(second.calls) == 1


async def test_a_summary_grows_with_its_conversation_and_reads_only_what_is_new(start: Start, second: Upstream) -> None:
    async with start() as gateway:
        await ask(gateway, turns=40)
        reply = await ask(gateway, turns=60)
    assert (said(reply), info(reply)["condensed"]["cached"]) == ("c0", False)
    first, then = (call.json["messages"][1]["content"] for call in second.calls)
    assert "<summary>" in then
    assert "user: The code of n0 " not in then
    assert len(then) < len(first)


async def test_a_summary_is_never_anothers(start: Start, second: Upstream) -> None:
    async with start({"auth": {"api_keys": [gateways.KEY, "other-key"]}}) as gateway:
        await ask(gateway)
        gateway.client.headers["authorization"] = "Bearer other-key"
        assert said(await ask(gateway)) == "c0"
    assert len(second.calls) == 2


async def test_without_a_model_of_its_own_the_narrow_one_sums_up_in_pieces(start: Start, upstream: Upstream) -> None:
    async with start(model=None) as gateway:
        reply = await ask(gateway)
    assert said(reply) == "c0"
    inner = upstream.calls[1:-1]
    assert len(inner) > 1
    assert all("<conversation>" in call.json["messages"][1]["content"] for call in inner)
    assert all(tokens(call.json["messages"]) <= WINDOW for call in inner), "none was refused: the window is known"


async def test_where_nobody_tells_the_window_pieces_are_halved_until_they_fit(start: Start, upstream: Upstream) -> None:
    words = {"error": {"message": "Input is too long for requested model.", "code": None}}
    upstream.script = narrow(WINDOW, lambda *_: words)
    async with start(model=None) as gateway:
        reply = await ask(gateway)
    assert said(reply) == "c0"


@pytest.mark.parametrize("pattern", ["token_limit_exceeded", "far too chatty"])
async def test_patterns_of_the_configuration_are_looked_for(start: Start, upstream: Upstream, pattern: str) -> None:
    error = {"error": {"message": "You are far too chatty", "code": "token_limit_exceeded"}}
    upstream.script = narrow(WINDOW, lambda *_: error)
    async with start(error_patterns=[pattern]) as gateway:
        assert said(await ask(gateway)) == "c0"


async def test_other_refusals_are_told_as_they_are(start: Start, upstream: Upstream, second: Upstream) -> None:
    upstream.script = answering({"error": {"message": "temperature is wrong", "code": "bad"}}, 400)
    async with start() as gateway:
        reply = await ask(gateway)
    assert (reply.status, reply.error["message"]) == (400, "temperature is wrong")
    assert len(upstream.calls) == 1
    assert not second.calls


async def test_it_is_tried_again_once(start: Start, upstream: Upstream) -> None:
    upstream.script = answering(refusal(9000, WINDOW), 400)
    async with start() as gateway:
        reply = await ask(gateway)
    assert (reply.status, reply.error["code"]) == (400, "context_length_exceeded")
    assert len(upstream.calls) == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_where_the_summary_fails_the_first_refusal_is_told(
    start: Start, upstream: Upstream, second: Upstream, stream: bool
) -> None:
    second.script = answering({"error": {"message": "down"}}, 500)
    async with start() as gateway:
        reply = await ask(gateway, stream)
    assert (reply.status, reply.error["code"]) == (400, "context_length_exceeded")
    assert "is longer than the model's context length" in reply.error["message"]
    assert len(upstream.calls) == 1


async def test_a_short_conversation_is_left_alone(start: Start, upstream: Upstream, second: Upstream) -> None:
    upstream.script = narrow(100)
    async with start(truncation_threshold=2000) as gateway:
        reply = await ask(gateway, turns=5)
    assert reply.error["code"] == "context_length_exceeded"
    assert (len(upstream.calls), len(second.calls)) == (1, 0)


async def test_one_long_message_cannot_be_condensed(start: Start, upstream: Upstream, second: Upstream) -> None:
    messages = [*conversation(40)[:-1], {"role": "user", "content": "word " * 3000}]
    async with start() as gateway:
        reply = await ask(gateway, messages=messages)
    assert reply.error["code"] == "context_length_exceeded"
    assert not second.calls


async def test_calls_of_tools_reach_the_model_with_all_their_results(start: Start, upstream: Upstream) -> None:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "What is the code of n0?"}]
    for number in range(40):
        function = {"name": "look", "arguments": "{}"}
        calls = [{"id": f"c{number}.{each}", "type": "function", "function": function} for each in (0, 1)]
        messages.append({"role": "assistant", "content": None, "tool_calls": calls})
        text = f"The code of n{number} is c{number}. " + "more " * 20
        messages += [{"role": "tool", "tool_call_id": call["id"], "content": text} for call in calls]
    async with start() as gateway:
        reply = await ask(gateway, messages=messages)
    assert said(reply) == "c0"
    sent = upstream.calls[-1].json["messages"]
    assert messages[0] in sent, "the question stays word for word"
    for at, message in enumerate(sent):
        if calls := message.get("tool_calls"):
            assert [each["tool_call_id"] for each in sent[at + 1 : at + 3]] == [call["id"] for call in calls]
    assert sum(message["role"] == "tool" for message in sent) == 2 * sum("tool_calls" in message for message in sent)


async def test_a_job_is_condensed_as_well(start: Start, upstream: Upstream) -> None:
    async with start() as gateway:
        request = gateway.request({"messages": conversation(40)})
        request.headers["prefer"] = "respond-async, wait=10"
        answer = await gateway.client.send(request)
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == "c0"


async def test_the_summary_has_an_outcome_of_its_own_under_the_callers_key(start: Start) -> None:
    async with start(PAID) as gateway:
        reply = await ask(gateway)
        outcomes = {outcome.request_id: outcome for outcome in await gateway.outcomes(2)}
    name = reply.headers["x-request-id"]
    main, summary = outcomes[name], outcomes[f"{name}.summary1"]
    assert (main.ended, main.marks, main.model) == (OK, ("condensed",), MODEL)
    assert (summary.ended, summary.model, summary.key_id) == (OK, "cheap", main.key_id)
    assert main.usage.prompt_tokens < WINDOW < summary.usage.prompt_tokens
    assert summary.cost_nanos == summary.usage.prompt_tokens * 1000 + summary.usage.completion_tokens * 10_000


async def test_a_key_for_one_model_alone_has_its_conversations_summed_up_all_the_same(start: Start) -> None:
    key = VirtualKey("key_1", Secret("psk-narrow-0123456789").sha256(), "…", models=(MODEL,))
    async with start() as gateway:
        await gateway.house.store.create_key(key)
        gateway.client.headers["authorization"] = "Bearer psk-narrow-0123456789"
        assert said(await ask(gateway)) == "c0"
        assert (await ask(gateway, model="cheap", messages=conversation(1))).status == 403


async def test_a_key_that_is_pinned_sends_its_conversations_nowhere_else(start: Start, second: Upstream) -> None:
    key = VirtualKey("key_1", Secret("psk-pinned-0123456789").sha256(), "…", providers=("first",))
    async with start() as gateway:
        await gateway.house.store.create_key(key)
        gateway.client.headers["authorization"] = "Bearer psk-pinned-0123456789"
        reply = await ask(gateway)
    assert reply.error["code"] == "context_length_exceeded"
    assert not second.calls


async def test_what_must_stay_local_is_summed_up_by_the_local_model_that_it_was_meant_for(
    start: Start, upstream: Upstream, second: Upstream
) -> None:
    section = {"local": ["first"], "aliases": {"auto": {"tiers": {"small": [MODEL], "large": [MODEL]}}}}
    messages = conversation(40)
    messages[-1]["content"] += " My card is 4539 1488 0343 6467."
    async with start({"classification": section}) as gateway:
        reply = await ask(gateway, model="auto", messages=messages)
    assert said(reply) == "c0"
    assert reply.json["_proxy_info"]["classification"]["local"] is True
    assert not second.calls


async def test_one_slot_and_one_request_a_minute_are_enough(start: Start) -> None:
    limits = {"key": {"concurrency": 1, "requests_per_minute": 1, "burst": 1}}
    async with start(limits=limits) as gateway:
        assert said(await ask(gateway)) == "c0"
        assert (await ask(gateway, turns=1)).status == 429, "and one request it was"


@pytest.mark.parametrize(("spare", "status"), [(2000, 429), (9000, 200)])
async def test_tokens_of_the_summary_count_against_the_callers_limit(start: Start, spare: int, status: int) -> None:
    size = len(to_json({"model": MODEL, "messages": conversation(40)}))
    limits = {"key": {"tokens_per_minute": size + TEMPLATE + 100 + spare}, "max_tokens": 100}
    async with start(limits=limits) as gateway:
        assert said(await ask(gateway)) == "c0"
        main, summary = (outcome.usage.total_tokens for outcome in await gateway.outcomes(2))
        assert min(main, summary) < 2000 < main + summary < 9000
        await gateway.house.limiter.settled()
        assert (await ask(gateway)).status == status


async def test_a_budget_that_cannot_pay_for_the_summary_has_the_refusal_told(start: Start, second: Upstream) -> None:
    prices = {"prices": [{"model": "cheap", "input": 1000, "output": 1000}, {"input": 0, "output": 0}]}
    async with start({**prices, "budgets": {"key": {"daily": 0.5}}}, limits={"key": {}}) as gateway:
        reply = await ask(gateway)
        (outcome,) = await gateway.outcomes()
    assert reply.error["code"] == "context_length_exceeded"
    assert (outcome.ended, outcome.cost_nanos) == (FAILED, 0)
    assert not second.calls


async def test_of_many_at_once_no_more_is_spent_than_the_budget(start: Start) -> None:
    prices = {"prices": [{"input": 100, "output": 100}]}
    async with start({**prices, "budgets": {"key": {"daily": 9}}}, limits={"key": {}}, cache_size=0) as gateway:
        replies = await asyncio.gather(*(ask(gateway, turns=40 + number % 3) for number in range(24)))
        await gateway.house.limiter.settled()
        outcomes = await gateway.outcomes(len([reply for reply in replies if reply.status != 429]))
    spent = sum(outcome.cost_nanos or 0 for outcome in outcomes)
    assert 0 < spent <= 9 * 10**9
    assert {reply.status for reply in replies} <= {200, 400, 429}
    assert any(reply.status == 200 for reply in replies)


async def test_thoughts_of_the_model_that_sums_up_are_no_summary(
    start: Start, upstream: Upstream, second: Upstream
) -> None:
    second.script = answering(completion("<think>hm, hm</think>\nThe code of n0 is c0."))
    async with start() as gateway:
        assert said(await ask(gateway)) == "c0"
    assert "hm, hm" not in upstream.calls[-1].body.decode()


async def test_a_client_that_leaves_meanwhile_ends_the_summary(start: Start, second: Upstream) -> None:
    async def never(call: Call) -> None:
        await call.gone.wait()

    second.script = never
    async with start() as gateway:
        asking = asyncio.ensure_future(ask(gateway))
        call = await second.call()
        asking.cancel()
        await eventually(call.gone.is_set)
        ends = {outcome.ended for outcome in await gateway.outcomes(2)}
    assert ends == {CANCELLED}


async def test_a_summary_that_never_comes_leaves_the_caller_half_of_the_time(start: Start, second: Upstream) -> None:
    async def never(call: Call) -> None:
        await call.gone.wait()

    second.script = never
    began = asyncio.get_running_loop().time()
    async with start(timeout=4) as gateway:
        reply = await ask(gateway)
    assert (reply.status, reply.error["code"]) == (400, "context_length_exceeded")
    assert asyncio.get_running_loop().time() - began < 3.5
