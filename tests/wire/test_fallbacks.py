"""When an upstream fails: who is tried next, what the caller is told, and that one deadline holds for all attempts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.wire import gateway as gateways
from tests.wire.gateway import MODEL, Gateway, Reply, bounded
from tests.wire.outage.connections import not_resolved, refused
from tests.wire.upstream import HELLO, Call, Script, Upstream, answering, chunk, completion, pausing, streaming

BROKEN = {"error": {"message": "out of order", "type": "server_error", "code": None}}
WRONG = {"error": {"message": "unknown field", "type": "invalid_request_error", "param": "top_q", "code": "bad_field"}}


async def reset(call: Call) -> None:
    """An upstream that resets the connection instead of answering."""
    call.reset()


async def hang_up(call: Call) -> None:
    """An upstream that closes the connection instead of answering."""
    call.close()


async def babble(call: Call) -> None:
    """An upstream that does not speak HTTP."""
    call.write(b"SSH-2.0-OpenSSH_9.6\r\n")


async def cut_head(call: Call) -> None:
    """An upstream that goes away within its head."""
    call.write(b"HTTP/1.1 200 OK\r\nContent-Ty")
    call.close()


async def cut_body(call: Call) -> None:
    """An upstream that goes away within its body."""
    call.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
    call.close()


async def switch(call: Call) -> None:
    """An upstream that wants to speak something else."""
    call.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")


FAILURES: dict[str, tuple[Script, str]] = {
    "500": (answering(BROKEN, 500), "upstream_unavailable"),
    "502 with a page": (answering(b"<html>Bad Gateway</html>", 502, "text/html"), "upstream_unavailable"),
    "404": (answering({"detail": "Not Found"}, 404), "upstream_unavailable"),
    "401": (answering({"error": "Unauthorized"}, 401), "upstream_unavailable"),
    "429": (answering(BROKEN, 429), "upstream_busy"),
    "504": (answering(BROKEN, 504), "upstream_timeout"),
    "302": (answering(b"", 302, "text/html", Location="http://127.0.0.1:9/"), "upstream_unavailable"),
    "reset": (reset, "upstream_unavailable"),
    "hang-up": (hang_up, "upstream_unavailable"),
    "not HTTP": (babble, "upstream_protocol_error"),
    "cut head": (cut_head, "upstream_protocol_error"),
    "cut body": (cut_body, "upstream_protocol_error"),
    "upgrade": (switch, "upstream_protocol_error"),
}

BAD_ANSWERS = {
    "broken JSON": answering(b'{"choices": [{"mess'),
    "no JSON": answering(b"<html></html>", 200, "text/html"),
    "a list": answering([]),
    "nothing": answering(b""),
    "no choices": answering({"id": "1", "object": "chat.completion", "model": "engine-1"}),
    "empty choices": answering({**completion(), "choices": []}),
    "an error in a 200": answering(BROKEN),
}


async def ask(gateway: Gateway, stream: bool) -> Reply:
    return await (gateway.stream() if stream else gateway.plain())


def whole(reply: Reply, stream: bool) -> bool:
    text = reply.text if stream else reply.json["choices"][0]["message"]["content"]
    return bool(text == "Hello there")


async def good(call: Call) -> None:
    """An upstream that answers as it is asked to."""
    if call.json.get("stream"):
        call.stream(*HELLO)
    else:
        call.answer(completion())


both = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])


@both
@pytest.mark.parametrize("failure", FAILURES)
async def test_a_failing_deployment_is_followed_by_the_next(
    pair: Gateway, upstream: Upstream, second: Upstream, failure: str, stream: bool
) -> None:
    upstream.script, code = FAILURES[failure]
    second.script = good
    reply = await ask(pair, stream)
    assert reply.status == 200
    assert whole(reply, stream)
    assert reply.headers["x-penstock-attempts"] == "2"
    outcome = await pair.outcome()
    assert (outcome.ended, outcome.attempts, outcome.deployment) == ("ok", 2, f"second/{MODEL}")

    second.script = upstream.script
    told = await ask(pair, stream)
    assert (told.status, told.error["code"]) == (503, "provider_unavailable")
    assert [attempt["code"] for attempt in told.error["attempts"]] == [code, code]


@pytest.mark.parametrize("kind", BAD_ANSWERS)
async def test_a_bad_plain_answer_is_a_failed_attempt(
    pair: Gateway, upstream: Upstream, second: Upstream, kind: str
) -> None:
    upstream.script = BAD_ANSWERS[kind]
    second.script = good
    assert whole(await pair.plain(), False)


@both
@pytest.mark.parametrize("kind", BAD_ANSWERS)
async def test_a_bad_plain_answer_is_an_error_where_nobody_else_answers(
    gateway: Gateway, upstream: Upstream, kind: str, stream: bool
) -> None:
    upstream.script = BAD_ANSWERS[kind]
    assert (await ask(gateway, stream)).status == 502


@both
async def test_each_deployment_is_tried_once(pair: Gateway, upstream: Upstream, second: Upstream, stream: bool) -> None:
    upstream.script = second.script = answering(BROKEN, 500)
    await ask(pair, stream)
    assert (len(upstream.calls), len(second.calls)) == (1, 1)


@both
async def test_what_is_the_callers_fault_is_passed_on_and_not_tried_elsewhere(
    pair: Gateway, upstream: Upstream, second: Upstream, stream: bool
) -> None:
    upstream.script = answering(WRONG, 400)
    reply = await ask(pair, stream)
    assert reply.status == 400
    assert reply.error["message"] == "unknown field"
    assert (reply.error["param"], reply.error["code"]) == ("top_q", "bad_field")
    assert not second.calls


async def test_a_stream_that_has_begun_is_not_tried_elsewhere(
    pair: Gateway, upstream: Upstream, second: Upstream
) -> None:
    go = asyncio.Event()
    upstream.script = pausing(go, chunk("Hel"), then=Call.reset)
    async with pair.open({"stream": True}) as live:
        await live.until(lambda body: b"Hel" in body)
        go.set()
        await live.rest()
    assert live.failed_with()
    assert not second.calls
    outcome = await pair.outcome()
    assert (outcome.ended, outcome.attempts) == ("failed", 1)


@both
async def test_a_busy_upstream_says_when_to_come_again(gateway: Gateway, upstream: Upstream, stream: bool) -> None:
    upstream.script = answering({"error": {"message": "slow down"}}, 429, Retry_After="7")
    reply = await ask(gateway, stream)
    assert (reply.status, reply.error["code"]) == (503, "upstream_busy")
    assert reply.headers["retry-after"] == "7"
    assert reply.error["retry_after"] == 7


@both
async def test_when_all_are_busy_the_caller_is_told_when_to_come_again(
    pair: Gateway, upstream: Upstream, second: Upstream, stream: bool
) -> None:
    upstream.script = second.script = answering({"error": {"message": "slow down"}}, 429, Retry_After="7")
    reply = await ask(pair, stream)
    assert reply.status == 503
    assert reply.headers["retry-after"] == "7"


# The deadline


@both
@bounded("gateway", timeout=0.3)
async def test_an_upstream_without_an_answer_runs_into_the_deadline(
    gateway: Gateway, upstream: Upstream, stream: bool
) -> None:
    async def script(call: Call) -> None:
        await call.gone.wait()

    upstream.script = script
    reply = await ask(gateway, stream)
    assert (reply.status, reply.error["code"]) == (504, "upstream_timeout")
    assert reply.error["type"] == "timeout_error"


@both
async def test_one_deadline_is_shared_by_all_attempts(
    tmp_path: Path, upstream: Upstream, second: Upstream, stream: bool
) -> None:
    async def script(call: Call) -> None:
        await call.gone.wait()

    upstream.script = second.script = script
    providers = [
        gateways.provider(upstream.url, timeout=0.4),
        gateways.provider(second.url, name="second", priority=2),
    ]
    async with gateways.serve(tmp_path, *providers, timeout=0.8) as gateway:
        reply = await ask(gateway, stream)
        outcome = await gateway.outcome()
    assert reply.status == 504
    assert outcome.attempts == 2
    assert 0.7 < outcome.duration < 1.2, "the second attempt had a deadline of its own"


@bounded("gateway", timeout=0.3)
async def test_the_deadline_ends_a_stream_in_its_middle(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script = pausing(asyncio.Event(), chunk("Hello"), then=Call.finish)
    reply = await gateway.stream()
    assert reply.text == "Hello"
    assert reply.failed_with()["code"] == "upstream_timeout"


# Nobody there


NOWHERE = {"be reached": refused, "be resolved": not_resolved}


@both
@pytest.mark.parametrize("why", NOWHERE)
async def test_an_upstream_that_cannot_be_connected_to_is_a_failed_attempt(
    tmp_path: Path, second: Upstream, why: str, stream: bool
) -> None:
    second.script = good
    async with NOWHERE[why]() as url:
        first, then = gateways.provider(url), gateways.provider(second.url, name="second", priority=2)
        async with gateways.serve(tmp_path, first, then) as gateway:
            assert whole(await ask(gateway, stream), stream)
        async with gateways.serve(tmp_path, first) as gateway:
            reply = await ask(gateway, stream)
    assert (reply.status, reply.error["code"]) == (502, "upstream_unavailable")
    assert why in reply.error["message"]


# Connections


@both
async def test_a_good_connection_is_used_again(gateway: Gateway, upstream: Upstream, stream: bool) -> None:
    upstream.script = good
    for _ in range(3):
        assert whole(await ask(gateway, stream), stream)
    assert [call.connection for call in upstream.calls] == [1, 1, 1]


@both
async def test_a_connection_that_went_stale_is_replaced(gateway: Gateway, upstream: Upstream, stream: bool) -> None:
    async def script(call: Call) -> None:
        if len(upstream.calls) == 2:
            call.reset()
        else:
            await good(call)

    upstream.script = script
    assert whole(await ask(gateway, stream), stream)
    assert whole(await ask(gateway, stream), stream)
    assert [call.connection for call in upstream.calls] == [1, 1, 2]
    assert [outcome.attempts for outcome in await gateway.outcomes(2)] == [1, 1]


async def test_a_connection_on_which_an_upstream_answers_twice_is_not_used_again(
    gateway: Gateway, upstream: Upstream
) -> None:
    async def script(call: Call) -> None:
        call.answer(completion())
        call.answer(completion("Somebody else's answer"))

    upstream.script = script
    for _ in range(3):
        assert whole(await gateway.plain(), False)
    assert [call.connection for call in upstream.calls] == [1, 2, 3]


async def test_a_connection_that_asks_to_be_closed_is_not_used_again(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script = answering(completion(), Connection="close")
    for _ in range(2):
        assert whole(await gateway.plain(), False)
    assert [call.connection for call in upstream.calls] == [1, 2]


async def test_early_hints_are_passed_over(gateway: Gateway, upstream: Upstream) -> None:
    async def script(call: Call) -> None:
        call.write(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nContent-Length: 7\r\n\r\n")
        call.answer(completion())

    upstream.script = script
    assert whole(await gateway.plain(), False)


# SGLang


def sglang(script: Script) -> Script:
    """The script of an engine that says that it generates text."""

    async def engine(call: Call) -> None:
        if call.method == "GET":
            call.answer({"is_generation": True})
        else:
            await script(call)

    return engine


ABORTED = chunk(None, "abort")


async def test_an_engine_that_gives_up_at_once_is_followed_by_the_next(
    tmp_path: Path, upstream: Upstream, second: Upstream
) -> None:
    upstream.script = sglang(streaming(chunk(""), ABORTED))
    second.script = good
    providers = [
        gateways.provider(upstream.url, type="sglang"),
        gateways.provider(second.url, name="second", priority=2),
    ]
    async with gateways.serve(tmp_path, *providers) as gateway:
        assert whole(await gateway.stream(), True)
        assert whole(await gateway.plain(), False)


async def test_an_engine_that_gives_up_in_mid_answer_is_no_success(tmp_path: Path, upstream: Upstream) -> None:
    go = asyncio.Event()
    upstream.script = sglang(pausing(go, chunk("Hello"), then=lambda call: call.event(ABORTED)))
    async with gateways.serve(tmp_path, gateways.provider(upstream.url, type="sglang")) as gateway:
        async with gateway.open({"stream": True}) as live:
            await live.until(lambda body: b"Hello" in body)
            go.set()
            await live.rest()
        assert "gave up" in live.failed_with()["message"]
        assert b"abort" not in live.body
        reply = await gateway.plain()
    assert (reply.status, reply.error["code"]) == (502, "upstream_protocol_error")


async def test_an_engine_whose_queue_is_full_is_busy(tmp_path: Path, upstream: Upstream) -> None:
    flat = {"object": "error", "message": "The request queue is full.", "type": "503", "param": None, "code": 503}
    async with gateways.serve(tmp_path, gateways.provider(upstream.url, type="sglang")) as gateway:
        for script in (answering(flat, 503), streaming({"error": flat})):
            upstream.script = sglang(script)
            for reply in (await gateway.stream(), await gateway.plain()):
                assert (reply.status, reply.error["code"]) == (503, "upstream_busy")
                assert reply.error["message"] == "first: The request queue is full."
