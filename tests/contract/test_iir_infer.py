"""``POST /infer`` of the Intelligent Inference Router, over HTTP on both stores: any model, whatever it does."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.contract.conftest import KEYS
from tests.contract.engines import SOUND, Engine, engine
from tests.e2e.server import Server, payloads, said, wait_for
from tests.ports import free_port

CHATTY = "local/llama-3-8b-instruct"
CONFIG = """\
limits: {gateway: {}, endpoint: {}, address: {}, key: {}}
providers:
  - {name: simulated, type: simulated, models: [local/llama-3-8b-instruct], options: {ttft: 0}}
  - {name: painter, type: blackbox, base_url: ENGINE/v1, api_key_env: NOBODYS_API_KEY, models: [dall-e-3]}
  - {name: engine, type: sglang, base_url: ENGINE/v1, models: [embedder, texter]}
  - name: music
    type: custom
    base_url: ENGINE
    models: [{name: musicgen, path: /generate}, {name: singer, path: /sound}, {name: live, path: /events}]
prices:
  - {model: dall-e-3, image: 0.04}
  - {provider: "*", input: 0, output: 0}
"""

pytestmark = [pytest.mark.timeout(180), pytest.mark.row("I10")]


@pytest.fixture(scope="module")
def worker() -> Iterator[Engine]:
    with engine() as running:
        yield running


@pytest.fixture(scope="module")
def router(
    store: Callable[[Path], dict[str, str]], worker: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("infer")
    config = CONFIG.replace("ENGINE", worker.url)
    with Server(folder, config, API_KEYS=KEYS, NOBODYS_API_KEY="x", **store(folder)) as running:
        yield running


@pytest.fixture
def client(router: Server) -> Iterator[httpx.Client]:
    with router.client("test-key-123") as client:
        yield client


def infer(client: httpx.Client, model: str, **given: Any) -> Any:
    answer = client.post("/infer", json={"model": model, "input": given})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["model"] == model
    assert told["_proxy_info"]["request_id"] == answer.headers["x-request-id"]
    return told


def test_a_models_own_endpoint_gets_the_input_and_nothing_else(client: httpx.Client, worker: Engine) -> None:
    told = infer(client, "musicgen", prompt="hello", seconds=3)
    assert told["task"] == "custom"
    assert told["output"] == {"notes": ["c", "e", "g"], "of": "hello"}
    assert worker.said("/generate")[-1] == {"prompt": "hello", "seconds": 3}
    assert told["_proxy_info"]["provider"] == "music"


def test_a_sound_comes_as_its_type_and_its_bytes(client: httpx.Client) -> None:
    output = infer(client, "singer", prompt="la")["output"]
    assert output["content_type"] == "audio/wav"
    assert base64.b64decode(output["base64"]) == SOUND


def test_a_chat_a_text_an_embedding_and_an_image_are_inferred(client: httpx.Client, worker: Engine) -> None:
    told = infer(client, CHATTY, messages=[{"role": "user", "content": "Hi"}])
    assert (told["task"], told["output"]["choices"][0]["message"]["content"]) == ("chat", "[simulated] Hi")
    told = infer(client, CHATTY, prompt="Hi")  # a bare prompt is what the user says
    assert told["output"]["choices"][0]["message"]["content"] == "[simulated] Hi"
    told = infer(client, "embedder", input="Hi")
    assert (told["task"], told["output"]["data"][0]["embedding"]) == ("embedding", [0.5])
    told = infer(client, "dall-e-3", prompt="A sunset", n=2)
    assert (told["task"], told["output"]["data"]) == ("image", [{"b64_json": "AAAA"}] * 2)
    asked = {"model": "texter", "task": "completion", "input": {"prompt": "Once"}}
    told = client.post("/infer", json=asked).json()
    assert (told["task"], told["output"]["choices"][0]["text"]) == ("completion", "from engine")


def test_an_input_may_be_streamed(client: httpx.Client) -> None:
    with client.stream("POST", "/infer", json={"model": CHATTY, "input": {"prompt": "Hi", "stream": True}}) as answer:
        events = list(payloads(answer.iter_lines()))
    assert said(events) == "[simulated] Hi"
    assert events[-1] == "[DONE]"
    with client.stream("POST", "/infer", json={"model": "live", "input": {"stream": True}}) as answer:
        assert list(payloads(answer.iter_lines())) == ['{"note": "c"}', '{"note": "e"}', '{"note": "g"}', "[DONE]"]


def test_what_is_inferred_later_is_a_job(client: httpx.Client) -> None:
    later = {"prefer": "respond-async, wait=20"}
    told = client.post("/infer", json={"model": "musicgen", "input": {"prompt": "a"}}, headers=later).json()
    assert told["output"]["of"] == "a"
    once = {"idempotency-key": f"once-{free_port()}"}
    first, again = (
        client.post("/infer", json={"model": CHATTY, "input": {"prompt": "a"}}, headers=once) for _ in range(2)
    )
    assert first.json()["output"] == again.json()["output"]
    assert again.headers["idempotent-replayed"] == "true"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": "musicgen"}, "input"),
        ({"model": "musicgen", "input": "hello"}, "input"),
        ({"model": "musicgen", "input": {}, "inputs": {}}, "inputs"),
        ({"model": CHATTY, "input": {"prompt": "x"}, "task": "dance"}, "task"),
        ({"model": CHATTY, "input": {"messages": []}}, "input.messages"),
        ({"model": CHATTY, "input": {"prompt": "x", "temperature": 9}}, "input.temperature"),
        ({"model": "dall-e-3", "input": {"prompt": "x", "n": 99}}, "input.n"),
    ],
)
def test_a_wrong_field_of_an_inference_is_named(client: httpx.Client, body: dict[str, Any], param: str) -> None:
    answer = client.post("/infer", json=body)
    assert answer.status_code == 400
    told = answer.json()
    assert (told["error"]["code"], told["error"]["param"]) == ("invalid_request", param)
    assert told["detail"].startswith(f"{param}:")


def test_a_model_with_an_endpoint_of_its_own_takes_no_chat(client: httpx.Client) -> None:
    chat = {"model": "musicgen", "messages": [{"role": "user", "content": "Hi"}]}
    told = client.post("/v1/chat/completions", json=chat)
    assert told.status_code == 400
    assert "POST /infer" in told.json()["detail"]


def test_an_inference_is_written_down_and_paid_for(client: httpx.Client) -> None:
    key = client.post("/api/v1/apikeys", json={"description": "pays"}).json()
    with httpx.Client(base_url=client.base_url, headers={"x-api-key": key["api_key"]}, verify=False) as payer:
        infer(payer, "musicgen", prompt="hello")
        infer(payer, "dall-e-3", prompt="A sunset", n=3)
        asked = {"group_by": "model", "key_id": key["id"]}
        lines = wait_for(
            lambda: t if len(t := payer.get("/v1/usage", params=asked).json()["data"]) == 2 else None, "the ledger"
        )
    assert {line["model"]: line["cost"] for line in lines} == {"musicgen": 0, "dall-e-3": pytest.approx(0.12)}
