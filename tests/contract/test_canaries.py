"""A key and a prompt are looked for in every place after every route was driven with them, on both stores: in log
lines, metrics, errors and all that is stored. They are nowhere but where keeping them is what was asked for.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.contract.canaries import KEY, PROMPT, WRONG, files, found_in, kept
from tests.contract.engines import Engine, engine
from tests.e2e.server import Server, wait_for
from tests.ports import free_port

CONFIG = """\
limits: {gateway: {}, endpoint: {}, address: {}, key: {}}
logging: {level: DEBUG, file: logs/gateway.log}
webhooks: {allow_networks: [127.0.0.0/8], allow_http: true}
caching: {response_cache: {compression: false}}
templates: {directory: TEMPLATES}
classification:
  aliases: {auto: {tiers: {small: [echo], large: [echo]}}}
  sensitive: {keywords: [sings]}
alerts:
  interval: 1
  rules: [{name: failing, metric_path: providers.engine.error_rate, condition: ">", threshold: 0}]
providers:
  - {name: simulated, type: simulated, models: [echo], options: {ttft: 0}}
  - {name: engine, type: vllm, base_url: ENGINE/v1, models: [talker]}
  - {name: music, type: custom, base_url: ENGINE, models: [{name: musicgen, path: /generate}]}
  - {name: nobody, type: vllm, base_url: "http://127.0.0.1:PORT/v1", models: [nobody]}
"""
FEATURES = {
    "jobs.body": "what a job asks",
    "jobs.result": "what it was answered, or what a failing provider said to it",
    "chunks.payloads": "what a stream that can be resumed has said",
    "cached.value": "an answer that is kept to be told again",
    "cached.stored": "the same in DynamoDB",
}
"""Where a prompt, or an answer that repeats it, may be: keeping it there is what its caller asked for."""

pytestmark = [pytest.mark.timeout(240), pytest.mark.row("P5", "I5")]

Messages = list[dict[str, str]]
MESSAGES: Messages = [{"role": "user", "content": PROMPT}]


class Driven:
    """A gateway that was asked everything, and what came of it: the answers, and the key that it made."""

    def __init__(self, gateway: Server, state: dict[str, str], lines: list[bytes]) -> None:
        self.gateway = gateway
        self.state = state["PENSTOCK_STATE_URL"]
        self.lines = lines
        self.answers: list[httpx.Response] = []
        self.last = ""
        with self.client() as client:
            self.made: str = client.post("/api/v1/apikeys", json={"description": "canary"}).json()["api_key"]

    def client(self, **headers: str) -> httpx.Client:
        """A caller who shows these headers."""
        return httpx.Client(base_url=self.gateway.url, headers=headers, timeout=60, verify=False)

    def ask(self, client: httpx.Client, method: str, path: str, **sent: Any) -> httpx.Response:
        """Ask, and keep the answer to be looked at."""
        answer = client.request(method, path, **sent)
        self.answers.append(answer)
        return answer


@contextmanager
def listening() -> Iterator[tuple[str, list[bytes]]]:
    """A listener for log lines, and what it has heard."""
    heard: list[bytes] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))

        def listen() -> None:
            while (line := listener.recv(65_535)) != b"end":
                heard.append(line)

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}", heard
        finally:
            listener.sendto(b"end", listener.getsockname())
            thread.join()


def inference(driven: Driven, client: httpx.Client, worker: Engine) -> None:
    """Every route that a prompt can take, well and badly."""
    chat = {"model": "echo", "messages": MESSAGES}
    for path, body in (
        ("/v1/chat/completions", chat),
        ("/chat/completions", chat),
        ("/v1/completions", {"model": "echo", "prompt": PROMPT}),
        ("/completions", {"model": "echo", "prompt": PROMPT}),
        ("/v1/embeddings", {"model": "echo", "input": PROMPT}),
        ("/v1/images/generations", {"model": "echo", "prompt": PROMPT}),
        ("/infer", {"model": "musicgen", "input": {"prompt": PROMPT}}),
        ("/infer", {"model": "echo", "input": {"prompt": PROMPT}}),
        ("/v1/classify", {"model": "echo", "messages": MESSAGES}),
    ):
        driven.ask(client, "POST", path, json=body)
        driven.ask(client, "POST", path, json={**body, "model": "nobody"})
        driven.ask(client, "POST", path, json={**body, "model": 5})
        driven.ask(client, "POST", path, json={**body, "temperature": PROMPT, "n": PROMPT, "stop": {"a": PROMPT}})
        driven.ask(client, "POST", path, content=json.dumps(body)[:-3], headers={"content-type": "application/json"})
    for body in (
        {**chat, "temperature": 0},
        {**chat, "temperature": 0},  # and now it is kept
        {**chat, "model": "auto"},
        {"model": "echo", "template": "canary", "template_variables": {"word": PROMPT}},
        {"model": "echo", "template": "canary", "template_variables": {PROMPT: "word"}},
    ):
        driven.ask(client, "POST", "/v1/chat/completions", json=body)
    driven.ask(client, "POST", "/v1/classify", json={"prompt": PROMPT})
    driven.ask(client, "POST", "/v1/chat/completions", json={**chat, "stream": True})
    driven.ask(client, "POST", "/v1/chat/completions", json={**chat, "stream": True, "simulate": {"cut_after": 1}})
    for status in (400, 429, 500, 503):  # a failing provider's words are told whoever asked, and nobody else
        worker.status = status
        for stream in (True, False):
            client.post("/v1/chat/completions", json={**chat, "model": "talker", "stream": stream})
        client.post("/infer", json={"model": "musicgen", "input": {"prompt": PROMPT}})
        client.post("/v1/chat/completions", json={**chat, "model": "talker"}, headers={"prefer": "respond-async"})
    worker.status = 200


def kept_things(driven: Driven, client: httpx.Client) -> None:
    """What is answered later: jobs, streams that can be resumed, repeats, tasks, batches; a webhook hears of them."""
    chat = {"model": "echo", "messages": MESSAGES}
    driven.ask(client, "POST", "/v1/webhooks", json={"url": f"http://127.0.0.1:{free_port()}/hook", "events": ["*"]})
    jobs = [
        driven.ask(client, "POST", "/v1/chat/completions", json=body, headers={"prefer": "respond-async"}).json()["id"]
        for body in (chat, {**chat, "simulate": {"error": 418}}, {**chat, "model": "nobody"})
    ]
    for headers in ({"prefer": "resumable"}, {"idempotency-key": "once"}, {"idempotency-key": "once"}):
        driven.ask(client, "POST", "/v1/chat/completions", json={**chat, "stream": True}, headers=headers)
    task = driven.ask(client, "POST", "/generate", json={"prompt": PROMPT}).json()["task_id"]
    for job in (*jobs[:2], task):
        wait_for(lambda job=job: driven.ask(client, "GET", f"/v1/jobs/{job}").status_code != 202, "the job")
        for path in (f"/status/{job}", f"/result/{job}", f"/stream/{job}"):
            driven.ask(client, "GET", path)
    with driven.client() as unknown:
        driven.ask(unknown, "GET", f"/stream/{task}?api_key={driven.made}")
    line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": chat}
    form = {"file": ("lines.jsonl", json.dumps(line).encode()), "purpose": (None, "batch")}
    file = driven.ask(client, "POST", "/v1/files", files=form).json()["id"]
    batch = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    made = driven.ask(client, "POST", "/v1/batches", json=batch).json()["id"]
    wait_for(
        lambda: driven.ask(client, "GET", f"/v1/batches/{made}").json()["status"] == "completed", "the batch to end"
    )


def strangers(driven: Driven) -> None:
    """Keys that are wrong, or shown where none belongs."""
    for held in (KEY, WRONG):
        for path in ("/v1/models", "/v1/chat/completions", "/nowhere", "/health", "/result/x", "/models"):
            with driven.client() as client:
                driven.ask(client, "GET", f"{path}?api_key={held}")
                driven.ask(client, "POST", f"{path}?api_key={held}", json={})
    for headers in ({"authorization": f"Bearer {WRONG}"}, {"x-api-key": WRONG}, {"authorization": f"Basic {WRONG}"}):
        with driven.client(**headers) as client:
            driven.ask(client, "GET", "/v1/models")
            driven.ask(client, "POST", "/generate", json={"prompt": PROMPT})
            driven.ask(client, "POST", "/infer", json={"model": "echo", "input": {"prompt": PROMPT}})


@pytest.fixture(scope="module")
def driven(store: Callable[[Path], dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driven]:
    """A gateway after everything was asked of it; its log is whole."""
    folder = tmp_path_factory.mktemp("canaries")
    state = store(folder)
    with engine() as worker, listening() as (sink, lines):
        worker.echoes = True
        (folder / "canary.j2").write_text("Say {{ word }}.", encoding="utf-8")
        config = (
            CONFIG.replace("ENGINE", worker.url).replace("PORT", str(free_port())).replace("TEMPLATES", str(folder))
        )
        given = {"API_KEYS": KEY, "REMOTE_LOG_SINK": sink, "PENSTOCK_OBJECTS_URL": f"file://{folder}/objects", **state}
        with Server(folder, config, **given) as gateway:
            driven = Driven(gateway, state, lines)
            for key in (KEY, driven.made):
                with driven.client(authorization=f"Bearer {key}") as client:
                    inference(driven, client, worker)
                    kept_things(driven, client)
            strangers(driven)
            with driven.client(authorization=f"Bearer {KEY}") as client:
                body = {"model": "echo", "messages": MESSAGES}
                driven.last = client.post("/v1/chat/completions", json=body).headers["x-request-id"]
            yield driven


def test_no_canary_is_in_a_line_of_the_log_wherever_it_goes(driven: Driven) -> None:
    gateway = driven.gateway
    wait_for(lambda: driven.last in gateway.err, "the last line")
    wait_for(lambda: driven.last in str(driven.lines), "the last line to arrive")
    assert not found_in(gateway.err, made=driven.made)
    assert not found_in(gateway.out, made=driven.made)
    assert not found_in(b"".join(driven.lines), made=driven.made)
    assert not files(gateway.folder / "logs", made=driven.made)


def test_no_canary_is_in_an_alert(driven: Driven) -> None:
    with driven.client(authorization=f"Bearer {KEY}") as client:
        told = wait_for(lambda: client.get("/v1/alerts").json()["data"], "an alert of the failing provider")
        assert {alert["rule"] for alert in told} == {"failing"}
        assert not found_in(client.get("/v1/rules").content + json.dumps(told).encode(), made=driven.made)


def test_no_canary_is_in_a_metric_or_in_what_is_told_of_the_gateway(driven: Driven) -> None:
    with driven.client(authorization=f"Bearer {KEY}") as client:
        for path in (
            *("/metrics", "/metrics/prometheus", "/stats", "/services", "/providers", "/health", "/v1/models"),
            *(
                "/v1/usage",
                "/api/v1/apikeys",
                "/api/v1/audit",
                "/v1/webhooks",
                "/v1/files",
                "/v1/batches",
                "/v1/alerts",
            ),
        ):
            for accept in ("text/plain", "application/json"):
                told = client.get(path, headers={"accept": accept})
                assert not found_in(told.content, made=driven.made), path
                assert not found_in(str(told.headers), made=driven.made), path


def test_no_canary_is_in_an_error(driven: Driven) -> None:
    errors = [answer for answer in driven.answers if answer.status_code >= 400]
    assert {answer.status_code for answer in errors} >= {400, 401, 404, 502}
    for answer in errors:
        assert not found_in(answer.content, made=driven.made), f"{answer.request.method} {answer.request.url}"
    for answer in driven.answers:
        assert not found_in(str(answer.headers), made=driven.made), f"{answer.request.method} {answer.request.url}"


def test_no_key_is_stored_and_a_prompt_only_where_that_is_the_feature(driven: Driven) -> None:
    found = kept(driven.state, made=driven.made)
    assert {place for place, singing in found.items() if singing - {"prompt"}} == set()
    assert set(found) - FEATURES.keys() == set()
    assert {"jobs.body", "jobs.result"} <= set(found), "the search finds nothing at all"
    assert {"cached.value", "cached.stored"} & set(found), "no answer was kept"


def test_no_file_beside_the_state_holds_a_key_and_the_queue_not_even_a_prompt(driven: Driven) -> None:
    folder = driven.gateway.folder
    found = files(folder, made=driven.made)
    assert {name: singing for name, singing in found.items() if singing - {"prompt"}} == {}
    assert not [name for name in found if not name.startswith(("objects/", ".penstock/state.db"))]
    assert [name for name in found if name.startswith("objects/")], "the batch's file is not where it is kept"
