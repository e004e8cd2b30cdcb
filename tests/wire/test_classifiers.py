"""Classifiers that ask models: what a judge is asked, what examples are compared with, and what if they fail."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.core.jobs import runner
from tests.wire.classified import EASY, SECRET, Serve, asked, choosing
from tests.wire.gateway import eventually
from tests.wire.upstream import Call, Upstream, completion


@pytest.fixture
def serve(tmp_path: Path, upstream: Upstream, second: Upstream) -> Serve:
    return choosing(tmp_path, upstream, second)


def judging(verdict: Any) -> Callable[[Call], Any]:
    """An upstream whose judge says something, and whose other models answer."""

    async def script(call: Call) -> None:
        call.answer(completion(verdict if call.json["model"] == "judge" else "Hello"))

    return script


@pytest.mark.parametrize("verdict", ['{"tier": "large"}', "large", "Large."])
async def test_a_judge_is_asked_for_one_tier_and_what_it_costs_is_the_callers(
    serve: Serve, second: Upstream, verdict: str
) -> None:
    async with serve(classifier="judge", judge={"model": "judge"}) as gateway:
        second.script = judging(verdict)
        answer = await gateway.plain(**asked(EASY))
        kept = await gateway.outcomes(2)
    assert answer.json["model"] == "big"
    assert [outcome.model for outcome in kept] == ["big", "judge"]
    assert kept[1].request_id == f"{kept[0].request_id}.judge"
    assert kept[0].key_id == kept[1].key_id
    asked_for = second.calls[0].json
    assert asked_for["response_format"]["json_schema"]["schema"]["properties"]["tier"]["enum"] == ["small", "large"]
    assert asked_for["temperature"] == 0


async def test_a_sensitive_prompt_is_shown_to_local_judges_alone(
    serve: Serve, upstream: Upstream, second: Upstream
) -> None:
    async with serve(classifier="judge", judge={"model": "judge"}) as gateway:
        upstream.script = judging("small")
        assert (await gateway.plain(**asked(SECRET))).status == 200
    assert len(upstream.calls) == 2
    assert not second.calls


@pytest.mark.parametrize("verdict", ["I cannot tell", "small or large", ""])
async def test_a_judge_that_names_no_tier_or_two_has_failed(serve: Serve, second: Upstream, verdict: str) -> None:
    async with serve(classifier="judge", judge={"model": "judge"}) as gateway:
        second.script = judging(verdict)
        answer = await gateway.plain(**asked(EASY))
    assert (answer.status, answer.error["code"]) == (503, "classifier_error")


async def test_what_a_failing_judge_says_is_in_no_log_line(
    serve: Serve, second: Upstream, capfd: pytest.CaptureFixture[str]
) -> None:
    async with serve(classifier="judge", judge={"model": "judge"}, default="large") as gateway:
        second.script = judging("canary-9c1f is neither")
        await gateway.plain(**asked("canary-7f3a, how are you?"))
        counted = (await gateway.client.get("/metrics")).text
    logged = capfd.readouterr().err
    assert "the classifier of auto failed: classifier_error" in logged
    assert "canary" not in logged + counted


async def test_a_classifier_that_fails_takes_the_default_where_there_is_one(serve: Serve, second: Upstream) -> None:
    async with serve(classifier="judge", judge={"model": "judge"}, default="large") as gateway:
        second.script = judging("no idea")
        answer = await gateway.plain(**asked(EASY))
        counted = await gateway.client.get("/metrics")
    assert answer.json["model"] == "big"
    assert answer.json["_proxy_info"]["classification"]["failed"] == "classifier_error"
    assert 'penstock_classifier_failures_total{alias="auto",classifier="judge",result="default"}' in counted.text


async def test_a_judge_that_is_too_slow_has_failed_in_time(serve: Serve, upstream: Upstream, second: Upstream) -> None:
    async def silent(call: Call) -> None:
        if call.json["model"] == "judge":
            await call.gone.wait()
        else:
            call.answer(completion())

    async with serve(classifier="judge", judge={"model": "judge", "timeout": 0.2}, default="small") as gateway:
        upstream.script = second.script = silent
        began = asyncio.get_running_loop().time()
        answer = await gateway.plain(**asked(EASY))
        assert asyncio.get_running_loop().time() - began < 5
    assert answer.json["model"] == "little"


async def test_a_judge_counts_as_a_request_of_its_caller(serve: Serve, second: Upstream) -> None:
    limits = {"gateway": {}, "endpoint": {}, "address": {}, "key": {"requests_per_minute": 1, "burst": 1}}
    async with serve(classifier="judge", judge={"model": "judge"}, default="large", limits=limits) as gateway:
        second.script = judging("small")
        answer = await gateway.plain(**asked(EASY))
    assert answer.status == 429
    assert len(second.calls) == 1


def embedding(vectors: dict[str, list[float]]) -> Callable[[Call], Any]:
    """An upstream whose vectors are told by a word of each text."""

    async def script(call: Call) -> None:
        if "input" not in call.json:
            call.answer(completion())
            return
        found = [next(v for word, v in vectors.items() if word in text) for text in call.json["input"]]
        rows = [{"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(found)]
        call.answer({"object": "list", "data": rows, "usage": {"prompt_tokens": 3, "total_tokens": 3}})

    return script


async def test_examples_send_a_prompt_where_its_nearest_ones_are_and_are_embedded_once(
    serve: Serve, second: Upstream
) -> None:
    examples = {"model": "vectors", "prompts": {"small": ["weather today"], "large": ["prove it"]}, "nearest": 1}
    async with serve(classifier="examples", examples=examples) as gateway:
        second.script = embedding({"weather": [1.0, 0.1], "prove": [0.0, 1.0], "sunny": [0.9, 0.2]})
        answers = await asyncio.gather(
            gateway.plain(**asked("is it sunny?")), gateway.plain(**asked("prove the lemma"))
        )
        kept = await gateway.outcomes(5)
    assert [answer.json["model"] for answer in answers] == ["little", "big"]
    assert sum(len(call.json.get("input", ())) == 2 for call in second.calls) == 1
    assert sorted(outcome.key_id == "classification" for outcome in kept) == [False] * 4 + [True]


async def test_explaining_a_judge_asks_it_only_if_that_is_wanted(serve: Serve, second: Upstream) -> None:
    async with serve(classifier="judge", judge={"model": "judge"}) as gateway:
        second.script = judging("large")
        unasked = await gateway.client.post("/v1/classify", json=asked(EASY))
        assert not second.calls
        told = await gateway.client.post("/v1/classify", json={**asked(EASY), "ask": True})
    assert (unasked.status_code, unasked.json()["error"]["code"]) == (503, "classifier_error")
    assert told.json()["tier"] == "large"


@pytest.mark.parametrize("data", [[5], ["0.5"], [{"embedding": [1e200, 10**400]}], [{"embedding": None}], {"0": 1}])
async def test_vectors_of_another_shape_are_a_failure_of_the_classifier(
    serve: Serve, upstream: Upstream, second: Upstream, data: Any
) -> None:
    async def script(call: Call) -> None:
        call.answer({"object": "list", "data": data} if "input" in call.json else completion())

    examples = {"model": "vectors", "prompts": {"small": ["weather today"]}}
    async with serve(classifier="examples", examples=examples, tiers={"small": ["little"]}, default="small") as gateway:
        upstream.script = second.script = script
        answer = await gateway.plain(**asked(EASY))
    assert answer.status == 200, answer.body


@pytest.mark.parametrize("odd", [{"functions": 5}, {"functions": True}])
async def test_fields_of_another_shape_break_no_choice(serve: Serve, second: Upstream, odd: dict[str, Any]) -> None:
    async with serve() as gateway:
        second.script = judging("")
        answer = await gateway.plain(**asked(EASY), **odd)
        told = await gateway.client.post("/v1/classify", json={**asked(EASY), **odd, "tools": 7})
    assert (answer.status, told.status_code) == (200, 200)


async def test_of_many_who_wait_for_slow_examples_none_waits_for_the_others(
    serve: Serve, upstream: Upstream, second: Upstream
) -> None:
    async def silent(call: Call) -> None:
        if "input" in call.json:
            await call.gone.wait()
        else:
            call.answer(completion())

    prompts = {"small": ["weather today"], "large": ["prove it"]}
    examples = {"model": "vectors", "prompts": prompts, "timeout": 0.3}
    async with serve(classifier="examples", examples=examples, default="small") as gateway:
        upstream.script = second.script = silent
        began = asyncio.get_running_loop().time()
        answers = await asyncio.gather(*(gateway.plain(**asked(EASY)) for _ in range(20)))
        assert asyncio.get_running_loop().time() - began < 3, "twenty times 0.3 s are 6"
    assert {answer.json["model"] for answer in answers} == {"little"}


async def test_every_call_for_many_examples_is_recorded(serve: Serve, second: Upstream) -> None:
    texts = [f"weather {number}" for number in range(70)]
    examples = {"model": "vectors", "prompts": {"small": texts, "large": ["prove it"]}}
    async with serve(classifier="examples", examples=examples) as gateway:
        second.script = embedding({"weather": [1.0, 0.1], "prove": [0.0, 1.0]})
        await gateway.plain(**asked("weather?"))
        kept = await gateway.outcomes(4)
    assert sum(outcome.key_id == "classification" for outcome in kept) == 2


async def test_a_line_of_a_batch_whose_judge_fails_is_tried_again_and_each_judgement_is_paid(
    serve: Serve, upstream: Upstream, second: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "BACKOFF", 0.01)
    said = iter(["I cannot tell", "large"])

    async def script(call: Call) -> None:
        call.answer(completion(next(said) if call.json["model"] == "judge" else "Hello"))

    async with serve(classifier="judge", judge={"model": "judge"}) as gateway:
        second.script = script
        line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": asked(EASY)}
        file = ("in.jsonl", json.dumps(line))
        sent = await gateway.client.post("/v1/files", data={"purpose": "batch"}, files={"file": file})
        terms = {"endpoint": "/v1/chat/completions", "completion_window": "24h", "input_file_id": sent.json()["id"]}
        batch = (await gateway.client.post("/v1/batches", json=terms)).json()

        async def done() -> bool:
            nonlocal batch
            batch = (await gateway.client.get(f"/v1/batches/{batch['id']}")).json()
            return bool(batch["status"] == "completed")

        await eventually(done)
        kept = [outcome.model for outcome in await gateway.outcomes(3)]
    assert batch["request_counts"] == {"total": 1, "completed": 1, "failed": 0}
    assert kept.count("judge") == 2
