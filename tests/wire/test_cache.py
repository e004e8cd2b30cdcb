"""Kept answers on the wire: told again as they came, to those who may have them, and never a broken one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from penstock.core.cache import answers as answering
from tests.wire import gateway as gateways
from tests.wire.gateway import KEY, MODEL, Gateway, Live, Reply, serve
from tests.wire.upstream import DONE, HELLO, Call, Upstream, chunk, completion, event, pausing, streaming, usage_chunk
from tests.wire.upstream import answering as answer

OTHER = "other-key"
SECTIONS = {"caching": {}, "auth": {"api_keys": [KEY, OTHER]}}
CALLING = (
    chunk(reasoning_content="hm"),
    {**chunk(), "choices": [{"index": 0, "delta": {"role": "assistant", "reasoning_content": "I think"}}]},
    {
        **chunk(),
        "choices": [
            {
                "index": 0,
                "delta": {
                    "content": None,
                    "tool_calls": [
                        {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}
                    ],
                },
            }
        ],
    },
    {**chunk(), "choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]}}]},
    {**chunk(), "choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}}]},
    chunk(finish="tool_calls"),
    usage_chunk(),
)
EMBEDDING = {"object": "list", "model": "engine-1", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}]}


@pytest.fixture
async def caching(request: pytest.FixtureRequest, tmp_path: Path, upstream: Upstream) -> AsyncIterator[Gateway]:
    """A gateway with a cache; a mark ``cached(limits=…, request=…)`` may say more."""
    told = getattr(request, "param", {})
    async with serve(tmp_path, gateways.provider(upstream.url), **({"sections": SECTIONS} | told)) as gateway:
        yield gateway


async def asked(gateway: Gateway, path: str = "/v1/chat/completions", **fields: Any) -> Reply:
    """Ask with headers."""
    headers = {name.replace("_", "-"): value for name, value in fields.pop("headers", {}).items()}
    built = gateway.request({"temperature": 0, **fields}, path)
    built.headers.update(headers)
    response = await gateway.client.send(built)
    return Reply(response.status_code, response.headers, response.content)


def cache_of(reply: Reply) -> str:
    """What the answer says of caches."""
    told: str = reply.headers.get("x-cache", "")
    return told


async def test_the_same_question_is_answered_once(caching: Gateway, upstream: Upstream) -> None:
    upstream.script = answer(completion())
    first = await caching.plain(temperature=0)
    second = await caching.plain(temperature=0, user="another", stream=False)
    assert (cache_of(first), cache_of(second)) == ("MISS", "HIT")
    assert first.json == second.json
    assert second.headers["age"] == "0"
    assert second.headers["x-penstock-attempts"] == "0"
    assert len(upstream.calls) == 1


async def test_without_the_section_there_is_no_cache(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script = answer(completion())
    replies = [await gateway.plain(temperature=0) for _ in range(2)]
    assert [cache_of(reply) for reply in replies] == ["", ""]
    assert len(upstream.calls) == 2


@pytest.mark.parametrize("documents", [HELLO, CALLING], ids=["text", "thoughts and calls"])
async def test_a_stream_is_told_again_chunk_by_chunk(caching: Gateway, upstream: Upstream, documents: Any) -> None:
    upstream.script = streaming(*documents)
    first, second = [await caching.stream(temperature=0) for _ in range(2)]
    assert first.payloads == second.payloads
    assert second.ended_well()
    assert cache_of(second) == "HIT"
    assert len(upstream.calls) == 1
    assert not any("usage" in each for each in second.events)
    asked_for = await caching.stream(temperature=0, stream_options={"include_usage": True})
    assert cache_of(asked_for) == "HIT"
    assert asked_for.events[-1]["usage"]["total_tokens"] == 9
    assert asked_for.events[:-1] == second.events


async def test_a_stream_answers_a_plain_question_and_the_other_way_round(caching: Gateway, upstream: Upstream) -> None:
    upstream.script = streaming(*CALLING)
    await caching.stream(temperature=0)
    plain = await caching.plain(temperature=0)
    assert cache_of(plain) == "HIT"
    message = plain.json["choices"][0]["message"]
    assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a":1}'}
    assert message["reasoning_content"] == "I think"
    assert plain.json["usage"]["total_tokens"] == 9
    upstream.script = answer(completion("whole"))
    await caching.plain(temperature=0, seed=1)
    stream = await caching.stream(temperature=0, seed=1)
    assert cache_of(stream) == "HIT"
    assert stream.ended_well()
    assert stream.text == "whole"
    assert len(upstream.calls) == 2


async def test_several_answers_to_one_question_are_kept_together(caching: Gateway, upstream: Upstream) -> None:
    both = [
        {**chunk(text, finish), "choices": [{"index": index, "delta": {"content": text}, "finish_reason": finish}]}
        for text, finish in (("a", None), ("b", "stop"))
        for index in (0, 1)
    ]
    upstream.script = streaming(*both, usage_chunk())
    first, second = [await caching.stream(temperature=0, n=2) for _ in range(2)]
    assert first.payloads == second.payloads
    assert len(upstream.calls) == 1


async def test_embeddings_are_always_kept(caching: Gateway, upstream: Upstream) -> None:
    upstream.script = answer(EMBEDDING)
    replies = [await caching.plain("/v1/embeddings", input="a") for _ in range(2)]
    assert [cache_of(reply) for reply in replies] == ["MISS", "HIT"]
    assert replies[0].body == replies[1].body
    assert cache_of(await caching.plain("/v1/embeddings", input="b")) == "MISS"


async def test_what_is_left_to_chance_is_kept_if_its_caller_asks_for_that(caching: Gateway, upstream: Upstream) -> None:
    upstream.script = answer(completion())
    chancy = {"temperature": 0.7}
    assert cache_of(await caching.plain(**chancy)) == "BYPASS"
    young = {"cache_control": "max-age=60"}
    assert cache_of(await asked(caching, headers=young, **chancy)) == "MISS"
    assert cache_of(await asked(caching, headers=young, **chancy)) == "HIT"
    assert cache_of(await caching.plain(**chancy)) == "BYPASS"
    assert len(upstream.calls) == 3


async def test_a_caller_may_pass_the_cache_by(caching: Gateway, upstream: Upstream) -> None:
    upstream.script = answer(completion("old"))
    await caching.plain(temperature=0)
    upstream.script = answer(completion("never kept"))
    assert cache_of(await asked(caching, headers={"cache_control": "no-store"})) == "BYPASS"
    upstream.script = answer(completion("new"))
    for said in ("no-cache", "max-age=0", "Max-Age = 0, public", "max-age=soon"):
        assert cache_of(await asked(caching, headers={"cache_control": said})) == "BYPASS"
    kept = await caching.plain(temperature=0)
    assert cache_of(kept) == "HIT"
    assert kept.json["choices"][0]["message"]["content"] == "new"


async def test_a_caller_may_want_a_kept_answer_or_none(caching: Gateway, upstream: Upstream) -> None:
    upstream.script = answer(completion())
    none = await asked(caching, headers={"cache_control": "only-if-cached"})
    assert (none.status, none.error["code"], cache_of(none)) == (504, "not_cached", "MISS")
    assert none.headers["x-should-retry"] == "false"
    assert not upstream.calls
    await caching.plain(temperature=0)
    assert cache_of(await asked(caching, headers={"cache_control": "only-if-cached"})) == "HIT"


@pytest.mark.parametrize(
    "script",
    [
        answer({"error": {"message": "bad", "type": "x"}}, 400),
        answer({"error": {"message": "down"}}, 500),
        answer({"error": {"message": "an error that calls itself 200"}}),
        answer(completion(choices=[{"index": 0, "message": {"content": ""}, "finish_reason": "content_filter"}])),
    ],
    ids=["400", "500", "error in a 200", "filtered"],
)
async def test_a_failure_is_never_kept(caching: Gateway, upstream: Upstream, script: Any) -> None:
    upstream.script = script
    await caching.plain(temperature=0)
    upstream.script = answer(completion())
    good = await caching.plain(temperature=0)
    assert (good.status, cache_of(good)) == (200, "MISS")


@pytest.mark.parametrize("how", ["closed", "reset", "error"])
async def test_a_stream_that_was_cut_is_never_kept(caching: Gateway, upstream: Upstream, how: str) -> None:
    go = asyncio.Event()

    def then(call: Call) -> None:
        if how == "error":
            call.piece(event({"error": {"message": "it broke"}}) + DONE)
            call.finish()
        else:
            (call.close if how == "closed" else call.reset)()

    upstream.script = pausing(go, chunk("Hello"), then=then)
    async with caching.open({"stream": True, "temperature": 0}) as live:
        await live.until(lambda body: b"Hello" in body)
        go.set()
        await live.rest()
    live.failed_with()
    upstream.script = streaming(*HELLO)
    good = await caching.stream(temperature=0)
    assert cache_of(good) == "MISS"
    assert good.ended_well()


async def test_when_the_first_caller_leaves_the_next_one_is_served(caching: Gateway, upstream: Upstream) -> None:
    upstream.script = pausing(asyncio.Event(), chunk("Hello"), then=lambda _: None)
    async with caching.open({"stream": True, "temperature": 0}) as live:
        await live.until(lambda body: b"Hello" in body)
        waiting = asyncio.ensure_future(caching.stream(temperature=0))
        await asyncio.sleep(0)
        upstream.script = streaming(*HELLO)
    reply = await waiting
    assert reply.ended_well()
    assert cache_of(reply) == "MISS"
    assert cache_of(await caching.stream(temperature=0)) == "HIT"


async def test_a_crowd_that_asks_the_same_is_one_call(caching: Gateway, upstream: Upstream) -> None:
    go = asyncio.Event()
    upstream.script = pausing(go, *HELLO, then=lambda call: (call.piece(DONE), call.finish()))
    streams = [asyncio.ensure_future(caching.stream(temperature=0)) for _ in range(5)]
    plain = [asyncio.ensure_future(caching.plain(temperature=0)) for _ in range(5)]
    cache = caching.house.caches
    assert cache is not None
    await upstream.call()
    await asyncio.sleep(0.05)  # nothing is to happen: no second call
    go.set()
    replies: list[Live | Reply] = [*await asyncio.gather(*streams), *await asyncio.gather(*plain)]
    assert sorted(cache_of(reply) for reply in replies) == ["HIT"] * 9 + ["MISS"]
    assert len(upstream.calls) == 1


async def test_no_key_gets_anothers_answer(caching: Gateway, upstream: Upstream) -> None:
    upstream.script = answer(completion())
    await caching.plain(temperature=0)
    other = await asked(caching, headers={"authorization": f"Bearer {OTHER}"})
    assert cache_of(other) == "MISS"


@pytest.mark.parametrize(
    "caching", [{"sections": SECTIONS | {"caching": {"shared_between": "everyone"}}}], indirect=True
)
async def test_keys_share_answers_where_that_is_configured(caching: Gateway, upstream: Upstream) -> None:
    upstream.script = answer(completion())
    await caching.plain(temperature=0)
    assert cache_of(await asked(caching, headers={"authorization": f"Bearer {OTHER}"})) == "HIT"


@pytest.mark.parametrize("caching", [{"sections": SECTIONS | {"caching": {"answers": "all"}}}], indirect=True)
async def test_all_is_kept_where_that_is_configured(caching: Gateway, upstream: Upstream) -> None:
    upstream.script = answer(completion())
    assert [cache_of(await caching.plain()) for _ in range(2)] == ["MISS", "HIT"]


@pytest.mark.parametrize("caching", [{"proxy_info": True, "sections": SECTIONS}], indirect=True)
async def test_a_kept_answer_says_so_and_is_nobodys_work(caching: Gateway, upstream: Upstream) -> None:
    upstream.script = streaming(*HELLO)
    await caching.stream(temperature=0)
    stream, plain = await caching.stream(temperature=0), await caching.plain(temperature=0)
    for told in (stream.events[-1]["_proxy_info"], plain.json["_proxy_info"]):
        assert (told["provider"], told["attempt_number"], told["cached"]) == ("first", 0, True)
    bought, *kept = await caching.outcomes(3)
    assert (bought.cached, bought.usage.total_tokens) == (False, 9)
    for outcome in kept:
        assert (outcome.cached, outcome.ended, outcome.status, outcome.attempts) == (True, "ok", 200, 0)
        assert (outcome.usage.total_tokens, outcome.cost_nanos, outcome.model) == (0, 0, MODEL)
    assert kept[0].ttft is not None


LIMITED = {"key": {"requests_per_minute": 3, "burst": 3, "tokens_per_minute": 1000}, "max_tokens": 100}


@pytest.mark.parametrize("caching", [{"limits": LIMITED, "sections": SECTIONS}], indirect=True)
async def test_a_kept_answer_is_a_request_and_takes_no_tokens(caching: Gateway, upstream: Upstream) -> None:
    upstream.script = answer(completion())
    await caching.plain(temperature=0)
    left = (await caching.plain(temperature=0)).headers["x-ratelimit-remaining-tokens"]
    third = await caching.plain(temperature=0)
    assert cache_of(third) == "HIT"
    assert int(third.headers["x-ratelimit-remaining-tokens"]) >= int(left)
    assert (await caching.plain(temperature=0)).status == 429


SPENT = SECTIONS | {
    "budgets": {"key": {"daily": 0.0007}},
    "prices": [{"input": 1, "output": 1}],
}


@pytest.mark.parametrize("caching", [{"sections": SPENT}], indirect=True)
async def test_whose_money_is_spent_is_told_what_is_kept_and_nothing_new(caching: Gateway, upstream: Upstream) -> None:
    upstream.script = answer(completion(usage={"prompt_tokens": 600, "completion_tokens": 1, "total_tokens": 601}))
    assert cache_of(await caching.plain(temperature=0, max_tokens=5)) == "MISS"
    new = await caching.plain(temperature=0, max_tokens=6)
    assert (new.status, new.error["code"]) == (429, "insufficient_quota")
    assert cache_of(await caching.plain(temperature=0, max_tokens=5)) == "HIT"


@pytest.mark.parametrize("caching", [{"limits": LIMITED, "sections": SECTIONS}], indirect=True)
async def test_an_answer_that_a_limit_cut_short_is_not_kept(caching: Gateway, upstream: Upstream) -> None:
    cut = completion()
    cut["choices"][0]["finish_reason"] = "length"
    upstream.script = answer(cut)
    assert [cache_of(await caching.plain(temperature=0)) for _ in range(2)] == ["MISS", "MISS"]
    assert [cache_of(await caching.plain(temperature=0, max_tokens=5)) for _ in range(1)] == ["MISS"]


async def test_jobs_are_not_answered_from_the_cache(caching: Gateway, upstream: Upstream) -> None:
    upstream.script = answer(completion())
    await caching.plain(temperature=0)
    later = await asked(caching, headers={"prefer": "respond-async, wait=10"})
    assert later.status == 200
    assert cache_of(later) == ""
    assert len(upstream.calls) == 2


async def test_what_is_kept_in_the_state_is_found_after_a_restart(tmp_path: Path, upstream: Upstream) -> None:
    upstream.script = answer(completion())
    found = []
    for _ in range(2):
        async with serve(tmp_path, gateways.provider(upstream.url), sections=SECTIONS) as gateway:
            found.append(cache_of(await gateway.plain(temperature=0)))
    assert found == ["MISS", "HIT"]
    assert b"temperature" not in (tmp_path / "state.db").read_bytes()


async def test_a_stream_of_a_thousand_chunks_is_the_same_again(caching: Gateway, upstream: Upstream) -> None:
    upstream.script = streaming(*(chunk(f"{number} ") for number in range(1000)), chunk(finish="stop"), usage_chunk())
    first, second = [await caching.stream(temperature=0) for _ in range(2)]
    assert first.payloads == second.payloads
    assert len(second.payloads) == 1002


async def test_the_counters_tell_of_it(caching: Gateway, upstream: Upstream) -> None:
    before = dict(answering.REQUESTS.values)
    upstream.script = answer(completion())
    for _ in range(3):
        await caching.plain(temperature=0)
    grown = {labels: n - before.get(labels, 0) for labels, n in answering.REQUESTS.values.items()}
    assert (grown[("hit",)], grown[("miss",)]) == (2, 1)


@pytest.mark.parametrize("odd", [{"messages": 5}, {"messages": [{"content": [5]}]}, {"tools": 5}, {"tools": ["f"]}])
@pytest.mark.parametrize(
    "caching", [{"limits": {"gateway": {"tokens_per_minute": 10**6}}}, {"max_prompt_tokens": 1000}], indirect=True
)
async def test_fields_of_another_endpoint_in_any_shape_break_nothing(
    caching: Gateway, upstream: Upstream, odd: dict[str, Any]
) -> None:
    choice = {"index": 0, "text": "42", "finish_reason": "stop", "logprobs": None}
    upstream.script = answer({"id": "c", "object": "text_completion", "model": "engine-1", "choices": [choice]})
    reply = await asked(caching, "/v1/completions", prompt="6*7?", **odd)
    assert reply.status == 200, reply.body
