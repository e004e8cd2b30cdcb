"""Requests that name an alias: who is chosen for them, what is told of it, and that what is sensitive stays local."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.wire import gateway as gateways
from tests.wire.classified import EASY, HARD, SAID, SECRET, TIERS, Serve, asked, choosing
from tests.wire.gateway import Gateway, eventually
from tests.wire.upstream import HELLO, Upstream, answering, streaming


@pytest.fixture
def serve(tmp_path: Path, upstream: Upstream, second: Upstream) -> Serve:
    return choosing(tmp_path, upstream, second)


async def test_an_easy_prompt_goes_to_the_small_model_and_a_hard_one_to_the_large(
    serve: Serve, second: Upstream
) -> None:
    async with serve() as gateway:
        second.script = SAID
        easy, hard = await gateway.plain(**asked(EASY)), await gateway.plain(**asked(HARD))
    assert easy.json["model"] == "little"
    assert hard.json["model"] == "big"
    assert [call.json["model"] for call in second.calls] == ["little", "big"]


async def test_an_answer_says_who_was_chosen_and_why_in_its_body_and_its_headers(
    serve: Serve, second: Upstream
) -> None:
    async with serve() as gateway:
        second.script = SAID
        answer = await gateway.plain(**asked(EASY))
        counted = await gateway.client.get("/metrics")
    told = answer.json["_proxy_info"]["classification"]
    assert told["alias"] == "auto"
    assert told["tier"] == "small"
    assert told["classifier"] == "rules"
    assert {"greeting", "base"} <= {reason["feature"] for reason in told["reasons"]}
    assert (
        sum(reason["points"] for reason in told["reasons"]) == pytest.approx(told["score"], abs=0.01)
        or not told["score"]
    )
    assert 0 < told["seconds"] < 1
    assert answer.headers["x-penstock-classified"].startswith('"little";alias="auto";tier="small";classifier="rules"')
    assert '"greeting";points=' in answer.headers["x-penstock-classified-by"]
    assert 'penstock_classified_total{alias="auto",classifier="rules",local="false",tier="small"}' in counted.text


async def test_a_stream_through_an_alias_names_the_chosen_model_in_every_chunk(serve: Serve, second: Upstream) -> None:
    async with serve() as gateway:
        second.script = streaming(*HELLO)
        live = await gateway.stream(**asked(HARD))
    assert live.ended_well()
    assert {event["model"] for event in live.events} == {"big"}
    assert '"big";alias="auto"' in live.headers["x-penstock-classified"]
    assert any(event.get("_proxy_info", {}).get("classification") for event in live.events)


@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_sensitive_goes_to_no_remote_place_even_when_the_local_ones_fail(
    serve: Serve, upstream: Upstream, second: Upstream, stream: bool
) -> None:
    async with serve() as gateway:
        upstream.script = answering({"error": {"message": "out of memory"}}, 500)
        second.script = SAID
        answer = await gateway.plain(**asked(SECRET), stream=stream)
    assert answer.status == 502
    assert len(upstream.calls) >= 1
    assert not second.calls
    assert answer.headers["x-penstock-sensitive"] == "card"
    assert "local=?1" in answer.headers["x-penstock-classified"]


async def test_what_is_sensitive_and_has_no_local_place_is_refused(serve: Serve, second: Upstream) -> None:
    async with serve({"local": ["nobody"]}) as gateway:
        answer = await gateway.plain(**asked(SECRET))
    assert answer.status == 503
    assert answer.error["code"] == "provider_unavailable"
    assert "(card)" in answer.error["message"]
    assert not second.calls


async def test_a_local_tier_stays_local_whatever_its_prompts_hold(serve: Serve, upstream: Upstream) -> None:
    async with serve(local_tiers=["small"]) as gateway:
        upstream.script = SAID
        assert (await gateway.plain(**asked(EASY))).json["model"] == "little"
    assert len(upstream.calls) == 1


async def test_a_sensitive_prompt_moves_to_another_tier_that_has_a_local_place(
    tmp_path: Path, upstream: Upstream, second: Upstream
) -> None:
    providers = [
        {"name": "far", "type": "openai", "base_url": second.url, "models": ["big"]},
        {"name": "near", "type": "openai", "base_url": upstream.url, "models": ["little"]},
    ]
    section = {"classification": {"local": ["near"], "aliases": {"auto": {"tiers": TIERS}}}}
    upstream.script = SAID
    async with gateways.serve(tmp_path, *providers, sections=section) as gateway:
        answer = await gateway.plain(**asked(f"{HARD} Send it to anna.berg@web.de"))
    assert answer.json["model"] == "little"
    assert not second.calls


async def test_a_job_of_an_alias_is_for_the_chosen_model_and_a_sensitive_one_stays_local(
    serve: Serve, upstream: Upstream, second: Upstream
) -> None:
    async with serve() as gateway:
        upstream.script, second.script = SAID, SAID
        later = {"prefer": "respond-async, wait=20"}
        for prompt in (HARD, SECRET):
            answer = await gateway.client.post("/v1/chat/completions", json=asked(prompt), headers=later)
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-penstock-classified"]
        kept = [outcome.model for outcome in await gateway.outcomes(2)]
    assert kept == ["big", "little"]
    assert len(second.calls) == 1
    assert len(upstream.calls) == 1


async def test_a_job_of_a_model_of_two_tiers_stays_local_if_one_of_them_does(
    serve: Serve, upstream: Upstream, second: Upstream
) -> None:
    async with serve(tiers={"small": ["big"], "large": ["big"]}, local_tiers=["large"]) as gateway:
        upstream.script, second.script = SAID, SAID
        later = {"prefer": "respond-async, wait=20"}
        answer = await gateway.client.post("/v1/chat/completions", json=asked(HARD), headers=later)
    assert answer.status_code == 200, answer.text
    assert (len(upstream.calls), len(second.calls)) == (1, 0)


async def test_a_task_may_be_for_an_alias(serve: Serve, second: Upstream) -> None:
    async with serve() as gateway:
        second.script = streaming(*HELLO)
        accepted = await gateway.client.post("/generate", json={"prompt": HARD, "model": "auto"})
        path = f"/result/{accepted.json()['task_id']}"

        async def done() -> bool:
            return bool((await gateway.client.get(path)).json()["status"] == "completed")

        await eventually(done)
    assert second.calls[0].json["model"] == "big"


async def test_a_resumable_stream_of_an_alias_goes_where_a_plain_one_goes(serve: Serve, second: Upstream) -> None:
    async with serve() as gateway:
        second.script = streaming(*HELLO)
        body = {**asked(HARD), "stream": True}
        answer = await gateway.client.post("/v1/chat/completions", json=body, headers={"prefer": "resumable"})
    assert '"model":"big"' in answer.text


async def test_a_repeat_under_an_idempotency_key_gets_the_first_ones_answer(serve: Serve, second: Upstream) -> None:
    async with serve() as gateway:
        second.script = SAID
        told = [
            await gateway.client.post("/v1/chat/completions", json=asked(HARD), headers={"idempotency-key": "one"})
            for _ in range(2)
        ]
    assert {answer.json()["model"] for answer in told} == {"big"}
    assert len(second.calls) == 1


async def test_a_prompt_may_be_explained_without_calling_a_model(serve: Serve, second: Upstream) -> None:
    async with serve() as gateway:
        told = await gateway.client.post("/v1/classify", json=asked(SECRET))
        short = await gateway.client.post("/v1/classify", json={"prompt": HARD})
    assert told.status_code == 200
    assert told.json()["sensitive"] == ["card"]
    assert told.json()["local"] is True
    assert short.json()["model"] == "big"
    assert {"feature": "proof", "points": 0.45} in short.json()["reasons"]
    assert not second.calls


async def test_without_aliases_there_is_nothing_to_explain_and_auto_is_no_model(gateway: Gateway) -> None:
    told = await gateway.client.post("/v1/classify", json=asked(EASY))
    assert (told.status_code, told.json()["error"]["code"]) == (501, "not_configured")
    assert (await gateway.plain(**asked(EASY))).status == 404


async def test_an_alias_is_listed_among_the_models(serve: Serve) -> None:
    async with serve() as gateway:
        listed = (await gateway.client.get("/v1/models")).json()["data"]
        one = (await gateway.client.get("/v1/models/auto")).json()
    assert listed[0]["id"] == "auto"
    assert listed[0]["tiers"] == TIERS
    assert one == listed[0]


async def test_a_key_must_be_allowed_the_alias_and_the_model_that_it_stands_for(serve: Serve, second: Upstream) -> None:
    async with serve() as gateway:
        second.script = SAID
        replies = {}
        for models in (["auto"], ["auto", "little"], ["little"]):
            made = await gateway.client.post("/api/v1/apikeys", json={"models": models})
            headers = {"authorization": f"Bearer {made.json()['api_key']}"}
            reply = await gateway.client.post("/v1/chat/completions", json=asked(EASY), headers=headers)
            replies["+".join(models)] = reply
        listed = await gateway.client.get("/v1/models", headers=headers)
    assert {name: reply.status_code for name, reply in replies.items()} == {
        "auto": 403,
        "auto+little": 200,
        "little": 403,
    }
    assert "'little'" in replies["auto"].json()["error"]["message"]
    assert [entry["id"] for entry in listed.json()["data"]] == ["little"]


async def test_the_limits_of_the_chosen_model_hold(serve: Serve, second: Upstream) -> None:
    limits = {"gateway": {}, "endpoint": {}, "address": {}, "key": {}}
    limits["models"] = {"little": {"requests_per_minute": 1, "burst": 1}}
    async with serve(limits=limits) as gateway:
        second.script = SAID
        replies = [await gateway.plain(**asked(prompt)) for prompt in (EASY, EASY, HARD)]
    assert [reply.status for reply in replies] == [200, 429, 200]


async def test_the_limits_of_the_alias_hold_as_well(serve: Serve, second: Upstream) -> None:
    limits = {"gateway": {}, "endpoint": {}, "address": {}, "key": {}}
    limits["models"] = {"auto": {"requests_per_minute": 1, "burst": 1}}
    async with serve(limits=limits) as gateway:
        second.script = SAID
        replies = [await gateway.plain(**asked(prompt)) for prompt in (EASY, HARD)]
        replies.append(await gateway.plain(model="little"))
    assert [reply.status for reply in replies] == [200, 429, 200]


async def test_an_alias_makes_no_embeddings_and_reads_no_tokens(serve: Serve) -> None:
    async with serve() as gateway:
        vectors = await gateway.plain("/v1/embeddings", model="auto", input="hello")
        tokens = await gateway.plain("/v1/completions", model="auto", prompt=[1, 2, 3])
    assert (vectors.status, vectors.error["param"]) == (400, "model")
    assert (tokens.status, tokens.error["param"]) == (400, "prompt")


async def test_a_text_completion_may_be_for_an_alias(serve: Serve, second: Upstream) -> None:
    async with serve() as gateway:
        choice = {"index": 0, "text": "42", "finish_reason": "stop", "logprobs": None}
        second.script = answering({"id": "c", "object": "text_completion", "model": "big", "choices": [choice]})
        answer = await gateway.plain("/v1/completions", model="auto", prompt=HARD)
    assert answer.json["model"] == "big"


async def test_a_batch_may_name_an_alias_in_its_lines(serve: Serve, upstream: Upstream, second: Upstream) -> None:
    async with serve() as gateway:
        upstream.script, second.script = SAID, SAID
        prompts = (EASY, HARD, SECRET)
        lines = [
            {"custom_id": str(at), "method": "POST", "url": "/v1/chat/completions", "body": asked(prompt)}
            for at, prompt in enumerate(prompts)
        ]
        file = ("in.jsonl", "\n".join(map(json.dumps, lines)))
        sent = await gateway.client.post("/v1/files", data={"purpose": "batch"}, files={"file": file})
        terms = {"endpoint": "/v1/chat/completions", "completion_window": "24h", "input_file_id": sent.json()["id"]}
        batch = (await gateway.client.post("/v1/batches", json=terms)).json()

        async def done() -> bool:
            nonlocal batch
            batch = (await gateway.client.get(f"/v1/batches/{batch['id']}")).json()
            return bool(batch["status"] == "completed")

        await eventually(done)
        told = (await gateway.client.get(f"/v1/files/{batch['output_file_id']}/content")).text
    models = [json.loads(line)["response"]["body"]["model"] for line in told.splitlines()]
    assert models == ["little", "big", "little"]
    assert len(upstream.calls) == 1
