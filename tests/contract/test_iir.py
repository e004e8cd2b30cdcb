"""The Intelligent Inference Router as its two documents tell it, over HTTP on both stores."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.contract.conftest import KEYS, Serve
from tests.contract.engines import Engine, engine
from tests.contract.examples import DOCUMENTS, example
from tests.e2e.server import ROOT, Server, environment, penstock, wait_for
from tests.node.packages import installed
from tests.ports import free_port

LLAMA = "meta-llama/Meta-Llama-3-8B-Instruct"
UNLIMITED = "limits: {gateway: {}, endpoint: {}, address: {}, key: {}}\n"
CONFIG = (
    UNLIMITED
    + """\
request: {max_body_bytes: 65536, max_prompt_tokens: 2000}
jobs: {concurrency: 1}
providers:
  - name: simulated
    type: simulated
    models: [meta-llama/Meta-Llama-3-8B-Instruct, local/llama-3-8b-instruct]
    options: {ttft: 0}
  - {name: engine, type: sglang, base_url: ENGINE/v1, models: [texter], pass_priority: true}
  - name: music
    type: custom
    base_url: ENGINE
    models: [{name: musicgen, path: /generate}]
  - {name: nobody, type: vllm, base_url: "http://127.0.0.1:PORT/v1", models: [nobody]}
"""
)
UNFORESEEN = """\
class Unforeseen:
    async def complete(self, call):
        raise RuntimeError("a bug that nobody foresaw")

    async def models(self, deadline):
        raise RuntimeError("a bug that nobody foresaw")


def connect(deployment, client):
    return Unforeseen()
"""
KEY = "test-key-123"

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def worker() -> Iterator[Engine]:
    with engine() as running:
        running.models = ["texter"]
        yield running


@pytest.fixture(scope="module")
def router(
    store: Callable[[Path], dict[str, str]], worker: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A gateway to an engine and to nobody."""
    folder = tmp_path_factory.mktemp("router")
    config = CONFIG.replace("ENGINE", worker.url).replace("PORT", str(free_port()))
    with Server(folder, config, API_KEYS=KEYS, **store(folder)) as running:
        yield running


@pytest.fixture
def client(router: Server) -> Iterator[httpx.Client]:
    with router.client(KEY) as client:
        yield client


def chat(text: str = "Hello!", model: str = LLAMA, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}


def ask(client: httpx.Client, **fields: Any) -> httpx.Response:
    return client.post("/v1/chat/completions", json=chat(**fields))


def refused(answer: httpx.Response, status: int, code: str) -> Any:
    """The error, whose ``detail`` the document promises."""
    assert answer.status_code == status, answer.text
    told = answer.json()
    assert told["error"]["code"] == code
    assert isinstance(told["detail"], str)
    assert told["detail"]
    return told


def iir(title: str, gateway: Server) -> str:
    """An example of the document, with nothing changed but the host."""
    return example("iir", title).replace("http://localhost:8000", gateway.url)


def run(*command: str, folder: Path) -> str:
    """What a program prints."""
    done = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.row("I1")
def test_the_documented_call_is_answered_in_the_documented_form(client: httpx.Client) -> None:
    told = ask(client).json()
    assert told["object"] == "chat.completion"
    assert told["model"] == LLAMA
    assert told["choices"][0]["message"] == {"role": "assistant", "content": "[simulated] Hello!"}
    assert told["choices"][0]["finish_reason"] == "stop"
    assert told["usage"]["total_tokens"] == told["usage"]["prompt_tokens"] + told["usage"]["completion_tokens"]


@pytest.mark.row("I1")
def test_models_health_and_the_pages_about_the_api_are_there(client: httpx.Client) -> None:
    assert {LLAMA, "musicgen"} <= {model["id"] for model in client.get("/v1/models").json()["data"]}
    assert client.get("/health", headers={"authorization": ""}).json()["status"]
    assert "<title>Penstock" in client.get("/docs").text
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/v1/models", "/v1/chat/completions", "/infer"} <= paths.keys()


@pytest.mark.row("I1", "I9", "I10")
def test_the_documents_python_runs_as_it_stands(router: Server, tmp_path: Path) -> None:
    def python(title: str, begin: str = f"import requests\napi_key = {KEY!r}\n") -> str:
        return run(sys.executable, "-c", begin + iir(title, router), folder=tmp_path)

    assert re.search(r"'api_key': 'psk-\w+'.*'priority': 10", python("#### Example (Python)", ""))
    assert "'output': {'notes': ['c', 'e', 'g'], 'of': 'hello'}" in python("Include your API key in the")
    assert LLAMA in python("Get all available models:")
    held = f"import requests\nheaders = {{'Authorization': 'Bearer {KEY}'}}\n"
    assert "'hardware': [" in python("Trigger hardware/model discovery", held)
    assert "[simulated] Hello!" in python("### Python Example: Chat Completion")


@pytest.mark.row("I1", "I10")
def test_the_documents_javascript_runs_as_it_stands(router: Server) -> None:
    music = iir("#### Example (JavaScript/TypeScript)", router).replace("YOUR_API_KEY", KEY)
    assert "of: 'hello'" in run("node", "-e", music, folder=installed())
    listing = iir("### JavaScript/TypeScript Example: Model Listing", router).replace("YOUR_API_KEY", KEY)
    assert "object: 'list'" in run("node", "-e", listing, folder=installed())


@pytest.mark.row("I1", "I7")
@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not on PATH")
def test_the_documents_shell_runs_as_it_stands(router: Server, tmp_path: Path) -> None:
    made = run("bash", "-e", "-c", iir("#### Example (curl)", router), folder=tmp_path)
    assert json.loads(made)["priority"] == 10
    listed = re.findall(r"curl -X GET.*\n.*YOUR_API_KEY\"", (DOCUMENTS / "iir.md").read_text("utf-8"))[0]
    listed = listed.replace("http://localhost:8000", router.url).replace("YOUR_API_KEY", KEY)
    assert json.loads(run("bash", "-e", "-c", listed, folder=tmp_path))["object"] == "list"


@pytest.mark.row("I2")
def test_a_key_is_generated_and_printed_once_and_let_in_by_the_environment(serve: Serve, tmp_path: Path) -> None:
    words = ["keys", "generate", "--length", "40", "--prefix", "myservice"]
    first, second = (penstock(*words, folder=tmp_path).stdout.strip() for _ in range(2))
    assert re.fullmatch(r"myservice[-_]\S{40}", first)
    assert first != second
    for variable in ("ROUTER_API_KEY", "ROUTER_ALLOWED_API_KEYS"):
        gateway = serve("providers: []\n", **{"API_KEYS": "", variable: f"{first},{second}"})
        with gateway.client(second) as client:
            assert client.get("/v1/models").status_code == 200
        with gateway.client("myservice-other") as client:
            assert client.get("/v1/models").status_code == 401
        assert first not in gateway.out + gateway.err


@pytest.mark.row("I3")
def test_a_bad_request_is_400(client: httpx.Client) -> None:
    told = refused(client.post("/v1/chat/completions", json={"model": LLAMA}), 400, "invalid_request")
    assert told["error"]["param"] == "messages"


@pytest.mark.row("I3")
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/infer", "/v1/images/generations", "/v1/models"])
def test_no_key_or_a_wrong_one_is_401(router: Server, path: str) -> None:
    for headers in ({}, {"authorization": "Bearer nope"}):
        answer = (httpx.get if path == "/v1/models" else httpx.post)(router.url + path, headers=headers)
        refused(answer, 401, "invalid_api_key")


@pytest.mark.row("I3")
def test_a_model_that_the_key_may_not_use_is_403(client: httpx.Client, router: Server) -> None:
    made = client.post("/api/v1/apikeys", json={"models": ["musicgen"]}).json()
    with router.client(made["api_key"]) as pinned:
        refused(ask(pinned), 403, "insufficient_permissions")
        refused(pinned.post("/infer", json={"model": LLAMA, "input": {"prompt": "x"}}), 403, "insufficient_permissions")
        assert pinned.post("/infer", json={"model": "musicgen", "input": {}}).status_code == 200


@pytest.mark.row("I3")
def test_a_model_that_nobody_serves_is_404(client: httpx.Client) -> None:
    refused(ask(client, model="gpt-9"), 404, "model_not_found")
    refused(client.post("/infer", json={"model": "gpt-9", "input": {"prompt": "x"}}), 404, "model_not_found")


@pytest.mark.row("I3")
def test_a_body_with_too_many_bytes_is_413(client: httpx.Client) -> None:
    told = refused(ask(client, text="x" * 70_000), 413, "request_too_large")
    assert told["detail"] == "Request body exceeds the limit of 65536 bytes."


@pytest.mark.row("I3")
def test_a_prompt_with_too_many_tokens_is_413(client: httpx.Client) -> None:
    told = refused(ask(client, text="word " * 2_000), 413, "request_too_large")
    assert told["detail"] == "Request exceeds max token limit"
    assert "2000 are allowed" in told["error"]["message"]


@pytest.mark.row("I3", "I4")
def test_an_address_that_asks_too_often_gets_429(serve: Serve) -> None:
    config = "limits: {key: {}, address: {requests_per_minute: 2, burst: 2}}\nproviders: [{name: s, type: simulated}]\n"
    with serve(config).client(KEY) as one, serve(config).client("demo-key-456") as other:
        for client in (one, other):  # each with a key of its own, at two gateways of one state
            assert ask(client, model="simulated/echo").status_code == 200
        answer = ask(one, model="simulated/echo")
    told = refused(answer, 429, "rate_limited")
    assert told["detail"] == "Rate limit exceeded"
    assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.row("I3")
def test_what_nobody_foresaw_is_500_and_tells_nothing_of_its_inside(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "unforeseen.py").write_text(UNFORESEEN, encoding="utf-8")
    (named := tmp_path / "unforeseen-1.dist-info").mkdir()
    (named / "METADATA").write_text("Metadata-Version: 2.1\nName: unforeseen\nVersion: 1\n", encoding="utf-8")
    (named / "entry_points.txt").write_text("[penstock.providers]\nunforeseen = unforeseen\n", encoding="utf-8")
    config = "health_check: {enabled: false}\nproviders: [{name: unforeseen, type: unforeseen, models: [unforeseen]}]\n"
    gateway = serve(config, PYTHONPATH=f"{ROOT / 'functions'}:{tmp_path}")
    with gateway.client(KEY) as client:
        for answer in (ask(client, model="unforeseen"), client.post("/v1/registry/refresh")):
            told = refused(answer, 500, "internal_error")
            assert told["detail"] == "An internal error occurred; the log tells more."
    assert "a bug that nobody foresaw" in gateway.err


@pytest.mark.row("I3")
def test_a_route_that_is_not_configured_is_501(client: httpx.Client) -> None:
    signed = {"x-penstock-signature": "t=1,v1=0"}
    told = refused(client.post("/v1/workers/w/heartbeat", json={}, headers=signed), 501, "not_configured")
    assert "PENSTOCK_FLEET_SECRET" in told["detail"]


@pytest.mark.row("I3")
def test_an_engine_that_fails_is_502(client: httpx.Client, worker: Engine) -> None:
    refused(ask(client, model="nobody"), 502, "upstream_unavailable")
    worker.status = 500
    try:
        refused(client.post("/infer", json={"model": "musicgen", "input": {}}), 502, "upstream_unavailable")
    finally:
        worker.status = 200


@pytest.mark.row("I7")
def test_a_key_is_made_from_a_trusted_network_and_good_at_once(client: httpx.Client, router: Server) -> None:
    made = client.post("/api/v1/apikeys", json={"description": "dev test key", "priority": 10})
    assert made.status_code == 201
    told = made.json()
    assert told["priority"] == 10
    with router.client(told["api_key"]) as holder:
        assert holder.get("/v1/models").status_code == 200
        assert client.patch(f"/api/v1/apikeys/{told['id']}", json={"description": "other"}).status_code == 200
        assert told["id"] in {key["id"] for key in client.get("/api/v1/apikeys").json()["data"]}
        rotated = client.post(f"/api/v1/apikeys/{told['id']}/rotate", json={"grace_seconds": 60}).json()
        assert holder.get("/v1/models").status_code == 200  # within its grace
        with router.client(rotated["api_key"]) as next_one:
            assert next_one.get("/v1/models").status_code == 200
            assert client.delete(f"/api/v1/apikeys/{told['id']}").status_code in (200, 204)
            wait_for(lambda: next_one.get("/v1/models").status_code == 401, "the key to be revoked")


@pytest.mark.row("I7")
def test_nobody_makes_keys_from_elsewhere(serve: Serve, router: Server) -> None:
    forwarded = {"x-forwarded-for": "127.0.0.1"}
    refused(httpx.post(f"{router.url}/api/v1/apikeys", json={}, headers=forwarded), 403, "insufficient_permissions")
    elsewhere = serve("auth: {trusted_networks: [10.0.0.0/8]}\nproviders: []\n")
    refused(httpx.post(f"{elsewhere.url}/api/v1/apikeys", json={}), 403, "insufficient_permissions")


@pytest.mark.row("I8")
def test_a_key_of_higher_priority_is_served_first(client: httpx.Client, router: Server) -> None:
    slow = chat(simulate={"tokens": 20, "tokens_per_second": 20})
    later = {"prefer": "respond-async"}

    def queued(priority: int) -> tuple[httpx.Client, str]:
        key = client.post("/api/v1/apikeys", json={"priority": priority}).json()["api_key"]
        holder = router.client(key)
        return holder, holder.post("/v1/chat/completions", json=slow, headers=later).json()["id"]

    first = queued(0)
    wait_for(lambda: first[0].get(f"/v1/jobs/{first[1]}").json().get("status") == "processing", "the first to begin")
    low, high = queued(-5), queued(5)
    wait_for(lambda: "choices" in high[0].get(f"/v1/jobs/{high[1]}").json(), "the answer of the high one")
    assert low[0].get(f"/v1/jobs/{low[1]}").json().get("status") in ("queued", "processing")
    wait_for(lambda: "choices" in low[0].get(f"/v1/jobs/{low[1]}").json(), "the answer of the low one")
    for holder in (first[0], low[0], high[0]):
        holder.close()


@pytest.mark.row("I8")
def test_an_engine_is_told_the_priority_of_the_key_whatever_the_body_says(
    client: httpx.Client, router: Server, worker: Engine
) -> None:
    key = client.post("/api/v1/apikeys", json={"priority": 7}).json()["api_key"]
    with router.client(key) as holder:
        assert ask(holder, model="texter", priority=1000).status_code == 200
    assert worker.said("/v1/chat/completions")[-1]["priority"] == 7


@pytest.mark.row("I9")
def test_a_refresh_finds_models_and_hardware_and_says_what_changed(serve: Serve) -> None:
    with engine() as found:
        found.models = ["one"]
        gateway = serve(
            f"providers:\n  - {{name: found, type: vllm, base_url: '{found.url}/v1'}}\n"
            "  - {name: simulated, type: simulated}\n"
        )
        with gateway.client(KEY) as client:
            assert {"one", "simulated/echo"} == {model["id"] for model in client.get("/v1/models").json()["data"]}
            found.models = ["two"]
            told = client.post("/v1/registry/refresh").json()
            assert (told["added"], told["removed"], told["status"]) == (["two"], ["one"], "refreshed")
            assert isinstance(told["hardware"], list)
            assert {"two", "simulated/echo"} == {model["id"] for model in client.get("/v1/models").json()["data"]}
