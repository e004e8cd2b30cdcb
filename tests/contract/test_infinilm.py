"""InfiniLM's router as its document tells it, over HTTP on both stores: no key, and no ``/v1``."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.contract.conftest import Serve
from tests.contract.engines import Engine, engine
from tests.contract.examples import DOCUMENTS, example
from tests.e2e.server import Server, environment, payloads, said, wait_for
from tests.ports import free_port

QWEN, THINKING = "Qwen3-32B", "9g_8b_thinking"
OPEN = """\
auth: {mode: none}
limits: {enabled: false}
"""
CONFIG = (
    OPEN
    + """\
health_check: {enabled: false}
providers:
  - {name: service_9g8b_8100, type: infinilm, base_url: ENGINE/v1, models: [Qwen3-32B, 9g_8b_thinking]}
  - {name: strict, type: groq, base_url: ENGINE/v1, api_key_env: NOBODYS_API_KEY, models: [strict]}
  - {name: known, type: sglang, base_url: ENGINE/v1, models: [known]}
  - {name: nobody, type: infinilm, base_url: "http://127.0.0.1:PORT/v1", models: [nobody]}
"""
)
EXTRAS = {"top_k": 50, "repetition_penalty": 1.1, "chat_template_kwargs": {"enable_thinking": False}}

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def worker() -> Iterator[Engine]:
    with engine("here") as running:
        yield running


@pytest.fixture(scope="module")
def router(
    store: Callable[[Path], dict[str, str]], worker: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("infinilm")
    config = CONFIG.replace("ENGINE", worker.url).replace("PORT", str(free_port()))
    with Server(folder, config, NOBODYS_API_KEY="x", **store(folder)) as running:
        yield running


@pytest.fixture
def client(router: Server) -> Iterator[httpx.Client]:
    """A caller without a key."""
    with httpx.Client(base_url=router.url, timeout=30, verify=False) as client:
        yield client


def chat(model: str = QWEN, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Hello"}], **fields}


def run(code: str, folder: Path, *program: str) -> str:
    done = subprocess.run(
        [*program, code], cwd=folder, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(answer: httpx.Response, status: int) -> str:
    """The error: one text, and nothing else."""
    assert answer.status_code == status, answer.text
    told = answer.json()
    assert told.keys() == {"error"}
    assert isinstance(told["error"], str)
    assert told["error"]
    text: str = told["error"]
    return text


@pytest.mark.row("N1", "N6")
@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not on PATH")
def test_the_documents_shell_runs_as_it_stands(router: Server, tmp_path: Path) -> None:
    code = example("infinilm", "## Quick Start").replace("http://localhost:8000", router.url)
    told = run(code.replace("curl ", "echo; curl -s "), tmp_path, "bash", "-e", "-c")
    health, models, first, second = map(json.loads, filter(str.strip, told.splitlines()))
    assert health["router"] == "running"
    assert QWEN in {model["id"] for model in models["data"]}
    assert (first["model"], second["model"]) == (QWEN, THINKING)
    assert first["choices"][0]["message"]["content"] == "from here"


@pytest.mark.row("N1", "N6")
@pytest.mark.parametrize("title", ["### Python (requests)", "### Streaming (Python)"])
def test_the_documents_python_runs_as_it_stands(router: Server, tmp_path: Path, title: str) -> None:
    code = example("infinilm", title).replace("http://{HOST}:8000", router.url)
    assert run(code, tmp_path, sys.executable, "-c").strip() == "from here"


@pytest.mark.row("N2", "N6")
def test_the_documents_openai_client_runs_with_its_own_fields_where_that_client_takes_them(
    router: Server, worker: Engine, tmp_path: Path
) -> None:
    code = example("infinilm", "### Python (OpenAI client)").replace("http://{HOST}:8000", router.url)
    # OpenAI's client has never had these two as arguments, as the document writes them: they belong beside its third.
    named = (
        '    top_k=50,\n    max_tokens=100,\n    repetition_penalty=1.0,\n    extra_body={"chat_template_kwargs": {}}\n'
    )
    assert named in code
    extra = '    max_tokens=100,\n    extra_body={"chat_template_kwargs": {}, "top_k": 50, "repetition_penalty": 1.0}\n'
    assert run(code.replace(named, extra), tmp_path, sys.executable, "-c").strip() == "from here"
    assert {"top_k": 50, "repetition_penalty": 1.0, "chat_template_kwargs": {}}.items() <= worker.seen[-1][1].items()


@pytest.mark.row("N1")
@pytest.mark.parametrize("title", ["### Chat Completions", "### Text Completions"])
@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_the_documented_bodies_are_answered_with_and_without_v1(client: httpx.Client, prefix: str, title: str) -> None:
    body = json.loads(example("infinilm", title))
    path = "/chat/completions" if "messages" in body else "/completions"
    answer = client.post(prefix + path, json=body)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    choice = told["choices"][0]
    assert choice.get("text", choice.get("message", {}).get("content")) == "from here"
    assert told["usage"] == {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}


@pytest.mark.row("N1")
def test_models_are_listed_without_v1(client: httpx.Client) -> None:
    told = client.get("/models").json()
    assert told == client.get("/v1/models").json()
    assert told["object"] == "list"
    assert {"id", "object", "created"} <= told["data"][0].keys()
    assert client.get(f"/models/{QWEN}").json()["id"] == QWEN


@pytest.mark.row("N1", "N6")
def test_a_stream_without_v1_is_the_same_stream(client: httpx.Client) -> None:
    with client.stream("POST", "/chat/completions", json=chat(stream=True)) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = list(payloads(answer.iter_lines()))
    assert said(events) == "from here"
    assert events[-1] == "[DONE]"


@pytest.mark.row("N2")
@pytest.mark.parametrize("path", ["/chat/completions", "/v1/chat/completions"])
@pytest.mark.parametrize("model", [QWEN, "known"])
def test_engines_get_the_fields_that_they_know(client: httpx.Client, worker: Engine, model: str, path: str) -> None:
    answer = client.post(path, json=chat(model, **EXTRAS))
    assert answer.status_code == 200
    assert "x-penstock-dropped" not in answer.headers
    assert EXTRAS.items() <= worker.seen[-1][1].items()


@pytest.mark.row("N2")
@pytest.mark.parametrize("stream", [False, True])
def test_fields_that_an_engine_does_not_know_are_dropped_and_named(
    client: httpx.Client, worker: Engine, stream: bool
) -> None:
    answer = client.post("/chat/completions", json=chat("strict", **EXTRAS, seed=1, stream=stream))
    assert answer.status_code == 200
    assert set(answer.headers["x-penstock-dropped"].split(",")) == EXTRAS.keys()
    assert not EXTRAS.keys() & worker.seen[-1][1].keys()
    assert worker.seen[-1][1]["seed"] == 1


@pytest.fixture
def services() -> Iterator[list[Engine]]:
    """Three services."""
    with ExitStack() as running:
        yield [running.enter_context(engine(name)) for name in ("one", "two", "three")]


def balanced(services: list[Engine], policy: str, *weights: int) -> str:
    rows = [
        f"  - {{name: {each.name}, type: infinilm, base_url: '{each.url}/v1', models: [shared], weight: {weight}}}\n"
        for each, weight in zip(services, weights or (1, 1, 1), strict=True)
    ]
    return f"{OPEN}routing: {{policy: {policy}}}\nproviders:\n{''.join(rows)}"


@pytest.mark.row("N3")
def test_services_of_one_model_are_called_by_their_weights(serve: Serve, services: list[Engine]) -> None:
    with serve(balanced(services, "weighted", 6, 2, 1)).client() as client:
        for _ in range(90):
            assert client.post("/chat/completions", json=chat("shared")).status_code == 200
    one, two, three = (len(each.seen) for each in services)
    assert one + two + three == 90
    assert one > two + three  # 60 of 90 are expected: fewer than 46 come once in ten thousand runs
    assert two
    assert three


@pytest.mark.row("N3")
def test_who_is_busy_is_spared(serve: Serve, services: list[Engine]) -> None:
    slow, *free = services
    slow.hold = threading.Event()
    gateway = serve(balanced(services, "power_of_two"))
    with gateway.client() as client, ThreadPoolExecutor(16) as pool:
        waiting = []
        while len(slow.seen) < 2:  # by chance at first: nobody has been seen to be busy
            waiting.append(pool.submit(client.post, "/chat/completions", json=chat("shared")))
            wait_for(lambda: sum(len(each.seen) for each in services) == len(waiting), "the call to arrive")
        for _ in range(20):
            assert client.post("/chat/completions", json=chat("shared")).status_code == 200
        assert len(slow.seen) <= 3
        assert all(len(each.seen) > 3 for each in free)
        slow.hold.set()
        assert all(each.result().status_code == 200 for each in waiting)


@pytest.mark.row("N3")
def test_a_model_appears_with_its_service_and_disappears_with_it(serve: Serve) -> None:
    port = free_port()
    gateway = serve(
        f"{OPEN}health_check: {{interval: 1, timeout: 0.5}}\n"
        f"providers: [{{name: late, type: infinilm, base_url: 'http://127.0.0.1:{port}/v1'}}]\n"
    )
    with gateway.client() as client:

        def models() -> set[str]:
            return {model["id"] for model in client.get("/models").json()["data"]}

        assert models() == set()
        refused(client.post("/chat/completions", json=chat("late-8b")), 404)
        with engine("late", port) as service:
            service.models = ["late-8b"]
            wait_for(lambda: models() == {"late-8b"}, "the model to appear")
            assert client.post("/chat/completions", json=chat("late-8b")).status_code == 200
            assert client.get("/services").json()["services"][0]["healthy"] is True
        wait_for(lambda: models() == set(), "the model to disappear")
        assert client.get("/services").json()["services"][0]["healthy"] is False


@pytest.mark.row("N4")
def test_services_and_what_was_asked_of_them_are_listed(serve: Serve, services: list[Engine]) -> None:
    services[0].status = 500
    gateway = serve(balanced(services, "round_robin"))
    with gateway.client() as client:
        for _ in range(6):
            assert client.post("/chat/completions", json=chat("shared")).status_code == 200
        told = client.get("/services").json()
        stats = client.get("/stats").json()
    assert told == {
        "services": [
            {"name": each.name, "url": f"{each.url}/v1", "healthy": True, "models": ["shared"]} for each in services
        ],
        "total": 3,
    }
    assert stats.keys() == {"total_services", "healthy_services", "services"}
    assert (stats["total_services"], stats["healthy_services"]) == (3, 3)
    for each, shown in zip(services, stats["services"], strict=True):
        assert shown.keys() == {"name", "healthy", "request_count", "error_count", "response_time"}
        assert (shown["name"], shown["request_count"]) == (each.name, len(each.seen))
        assert shown["error_count"] == (len(each.seen) if each is services[0] else 0)
        assert (shown["response_time"] or 1) > 0


@pytest.mark.row("N5")
def test_a_wrong_parameter_is_400_with_one_text(client: httpx.Client) -> None:
    assert refused(client.post("/chat/completions", json=chat(temperature=9)), 400).startswith("temperature:")
    assert refused(client.post("/completions", json={"model": QWEN}), 400).startswith("prompt:")
    assert refused(client.post("/chat/completions", content=b"{"), 400)
    assert refused(client.post("/chat/completions", json=chat("gpt-9")), 404)
    assert refused(client.get("/models/gpt-9"), 404)
    assert refused(client.get("/chat/completions"), 405)


@pytest.mark.row("N5")
def test_a_service_that_cannot_be_reached_or_fails_is_502(client: httpx.Client, worker: Engine) -> None:
    refused(client.post("/chat/completions", json=chat("nobody")), 502)
    worker.status = 500
    try:
        refused(client.post("/chat/completions", json=chat(THINKING)), 502)
    finally:
        worker.status = 200


@pytest.mark.row("N5")
def test_no_healthy_service_is_503_and_a_slow_one_504(serve: Serve, services: list[Engine]) -> None:
    slow, broken, other = services
    slow.hold = threading.Event()
    broken.status = other.status = 500
    gateway = serve(
        f"{OPEN}request: {{timeout: 1}}\nproviders:\n"
        f"  - {{name: slow, type: infinilm, base_url: '{slow.url}/v1', models: [slow]}}\n"
        f"  - {{name: broken, type: infinilm, base_url: '{broken.url}/v1', models: [broken]}}\n"
        f"  - {{name: other, type: infinilm, base_url: '{other.url}/v1', models: [broken]}}\n"
    )
    with gateway.client() as client:
        refused(client.post("/chat/completions", json=chat("slow")), 504)
        assert "broken" in refused(client.post("/chat/completions", json=chat("broken")), 503)


@pytest.mark.row("N5")
def test_a_request_may_take_five_minutes_unless_something_else_is_said() -> None:
    promised = re.search(r"Request timeout: (\d+) minutes", (DOCUMENTS / "infinilm.md").read_text("utf-8"))
    shown = (DOCUMENTS.parents[2] / "config.example.yaml").read_text("utf-8")
    assert promised
    assert f"timeout: {int(promised[1]) * 60} # seconds for all attempts together" in shown


@pytest.mark.row("N6")
def test_nobody_needs_a_key_and_a_wrong_one_does_no_harm(client: httpx.Client) -> None:
    for headers in ({}, {"authorization": "Bearer not-needed"}):
        assert client.post("/chat/completions", json=chat(), headers=headers).status_code == 200
