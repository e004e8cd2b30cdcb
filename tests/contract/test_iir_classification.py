"""Prompt classification as the inference router promises it, over HTTP on both stores, with the real openai client."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.contract.conftest import KEYS
from tests.e2e.server import Server, wait_for

CONFIG = """\
limits: {enabled: false}
circuit_breaker: {failure_threshold: 1000}
providers:
  - {name: local, type: simulated, models: [local/llama-3-8b-instruct, both], priority: 2, options: {ttft: 0}}
  - {name: remote, type: simulated, models: [remote/gpt-large, both], options: {ttft: 0}}
  - {name: broken, type: simulated, models: [frail], options: {error: 500}}
  - {name: remote2, type: simulated, models: [frail], priority: 2, options: {ttft: 0}}
classification:
  local: [local, broken]
  aliases:
    auto:
      tiers: {small: [local/llama-3-8b-instruct], large: [remote/gpt-large]}
    router: # nearest by vectors of this gateway's own
      classifier: examples
      tiers: {small: [local/llama-3-8b-instruct], large: [remote/gpt-large]}
      examples: {model: both, nearest: 1, prompts: {small: [hello there], large: [prove the theorem]}}
    frail-alias: {tiers: {small: [frail]}}
    unjudged: # its judge is nowhere
      classifier: judge
      judge: {model: nowhere}
      tiers: {small: [local/llama-3-8b-instruct], large: [remote/gpt-large]}
    careful:
      classifier: judge
      judge: {model: nowhere}
      default: large
      tiers: {small: [local/llama-3-8b-instruct], large: [remote/gpt-large]}
"""
KEY = {"authorization": "Bearer test-key-123"}
EASY = "hey, how's it going?"
HARD = "Prove step by step that there are infinitely many primes congruent to 3 modulo 4."
SECRET = f"{HARD} Charge it to 4539 1488 0343 6467."
SMALL, LARGE = "local/llama-3-8b-instruct", "remote/gpt-large"

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def client(store: Callable[[Path], dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A caller of a gateway with aliases, on each store in turn."""
    folder = tmp_path_factory.mktemp("classified")
    with (
        Server(folder, CONFIG, API_KEYS=KEYS, **store(folder)) as server,
        httpx.Client(base_url=server.url, headers=KEY, timeout=30, verify=False) as client,
    ):
        yield client


def asked(prompt: str, model: str = "auto", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": prompt}], **more}


def ask(client: httpx.Client, prompt: str, model: str = "auto", **more: Any) -> httpx.Response:
    return client.post("/v1/chat/completions", json=asked(prompt, model, **more))


@pytest.mark.row("I6")
def test_auto_chooses_local_or_remote_and_a_tier_from_the_prompt(client: httpx.Client) -> None:
    easy, hard = ask(client, EASY), ask(client, HARD)
    assert (easy.json()["model"], easy.headers["x-penstock-provider"]) == (SMALL, "local")
    assert (hard.json()["model"], hard.headers["x-penstock-provider"]) == (LARGE, "remote")
    assert easy.json()["_proxy_info"]["classification"]["tier"] == "small"
    assert "proof" in hard.headers["x-penstock-classified-by"]
    assert 'penstock_classified_total{alias="auto"' in client.get("/metrics").text


@pytest.mark.row("I6")
def test_the_openai_client_streams_through_auto_and_finds_it_among_the_models(client: httpx.Client) -> None:
    plain = httpx.Client(verify=False)
    official = openai.OpenAI(base_url=f"{client.base_url}/v1", api_key="test-key-123", http_client=plain, max_retries=0)
    with plain:
        assert "auto" in [model.id for model in official.models.list()]
        chunks = list(official.chat.completions.create(**asked(HARD, stream=True)))
        whole = official.chat.completions.create(**asked(EASY))
    assert {chunk.model for chunk in chunks} == {LARGE}
    assert whole.model == SMALL


@pytest.mark.row("I6")
def test_what_is_sensitive_stays_local_in_every_way_of_asking(client: httpx.Client) -> None:
    told = [ask(client, SECRET), ask(client, SECRET, model="router")]
    assert {answer.headers["x-penstock-provider"] for answer in told} == {"local"}
    job = client.post("/v1/chat/completions", json=asked(SECRET), headers={"prefer": "respond-async, wait=20"})
    assert job.json()["model"] == SMALL
    task = client.post("/generate", json={"prompt": SECRET, "model": "auto"}).json()["task_id"]
    done = wait_for(lambda: (r := client.get(f"/result/{task}").json())["status"] == "completed" and r, "the task")
    assert done["status"] == "completed"
    resumable = client.post(
        "/v1/chat/completions", json=asked(SECRET, stream=True), headers={"prefer": "resumable"}
    ).text
    assert f'"model":"{SMALL}"' in resumable
    infer = client.post("/infer", json={"model": "auto", "input": {"messages": asked(SECRET)["messages"]}})
    assert infer.json()["model"] == SMALL
    assert 'penstock_sensitive_prompts_total{kind="card"}' in client.get("/metrics").text


@pytest.mark.row("I6")
@pytest.mark.parametrize("stream", [False, True])
def test_a_local_only_request_never_falls_back_to_a_remote_provider(client: httpx.Client, stream: bool) -> None:
    secret = ask(client, SECRET, model="frail-alias", stream=stream)
    harmless = ask(client, HARD, model="frail-alias", stream=stream)
    assert secret.status_code == 502
    assert secret.headers["x-penstock-sensitive"] == "card"
    assert "remote2" not in secret.text
    assert harmless.status_code == 200
    assert harmless.headers["x-penstock-provider"] == "remote2"


@pytest.mark.row("I6")
def test_lines_of_a_batch_are_placed_one_by_one(client: httpx.Client) -> None:
    lines = [
        {"custom_id": str(at), "method": "POST", "url": "/v1/chat/completions", "body": asked(prompt)}
        for at, prompt in enumerate((EASY, HARD, SECRET))
    ]
    file = ("in.jsonl", "\n".join(map(json.dumps, lines)))
    sent = client.post("/v1/files", data={"purpose": "batch"}, files={"file": file}).json()
    terms = {"endpoint": "/v1/chat/completions", "completion_window": "24h", "input_file_id": sent["id"]}
    batch = client.post("/v1/batches", json=terms).json()
    path = f"/v1/batches/{batch['id']}"
    batch = wait_for(lambda: (b := client.get(path).json())["status"] == "completed" and b, "the batch")
    told = client.get(f"/v1/files/{batch['output_file_id']}/content").text.splitlines()
    assert [json.loads(line)["response"]["body"]["model"] for line in told] == [SMALL, LARGE, SMALL]


@pytest.mark.row("I3")
@pytest.mark.row("I6")
def test_a_failing_classifier_is_503_classifier_error_or_the_configured_default(client: httpx.Client) -> None:
    failed = ask(client, EASY, model="unjudged")
    assert failed.status_code == 503
    assert failed.json()["error"]["code"] == "classifier_error"
    assert failed.json()["detail"] == failed.json()["error"]["message"]
    taken = ask(client, EASY, model="careful")
    assert taken.status_code == 200
    assert taken.json()["model"] == LARGE
    assert taken.json()["_proxy_info"]["classification"]["failed"] == "model_not_found"


@pytest.mark.row("I6")
def test_a_prompt_is_explained_without_being_sent_anywhere(client: httpx.Client) -> None:
    told = client.post("/v1/classify", json=asked(SECRET))
    assert told.status_code == 200
    assert told.json()["model"] == SMALL
    assert told.json()["local"] is True
    assert told.json()["sensitive"] == ["card"]
    assert {"feature": "proof", "points": 0.45} in told.json()["reasons"]
    assert client.post("/v1/classify", json=asked(EASY, model="nothing")).status_code == 404
    assert httpx.post(f"{client.base_url}/v1/classify", json=asked(EASY), verify=False).status_code == 401
