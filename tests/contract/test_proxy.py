"""The proxy's API as its document tells it, over HTTP on both stores, before providers that note what reaches them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.contract.conftest import Serve
from tests.e2e.server import Server, payloads, said
from tests.sdk.upstream import Upstream, upstream

CONFIG = """\
limits: {gateway: {}, endpoint: {}, address: {}, key: {}}
circuit_breaker: {failure_threshold: 3, recovery_timeout: 600, half_open_max_calls: 3}
providers:
  - name: openai
    type: openai
    base_url: FIRST
    api_key_env: OPENAI_API_KEY
    models: [{name: gpt-4, upstream: good}, {name: broken, upstream: breaks}, {name: wrong, upstream: refuses}]
    enabled: true
    forced: false
    priority: 1
    timeout: 30
    max_retries: 3
    retry_delay: 0.01
    max_connections: 100
    max_keepalive_connections: 20
    keepalive_expiry: 30.0
    custom_headers: {X-Team: search}
  - name: grok
    type: grok
    base_url: SECOND
    api_key_env: XAI_API_KEY
    priority: 2
    models: [{name: broken, upstream: good}, {name: grok-4, upstream: busy-once}, {name: wrong, upstream: good}]
    max_retries: 1
    retry_delay: 0.01
  - {name: anthropic, type: anthropic, base_url: SECOND, api_key_env: ANTHROPIC_API_KEY, models: [claude-3]}
  - {name: blackbox, type: blackbox, base_url: SECOND, api_key_env: BLACKBOX_API_KEY, models: [org/image]}
  - {name: simulated, type: simulated, models: [echo], options: {ttft: 0}}
"""
HELD = {"OPENAI_API_KEY": "sk-openai", "XAI_API_KEY": "sk-xai", "ANTHROPIC_API_KEY": "sk-a", "BLACKBOX_API_KEY": "sk-b"}
KEY = {"authorization": "Bearer test-key-123"}
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello!"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
EVERY_FIELD: dict[str, Any] = {
    "messages": MESSAGES,
    "max_tokens": 100,
    "temperature": 0.7,
    "top_p": 0.9,
    "n": 1,
    "stop": ["END"],
    "presence_penalty": 0.5,
    "frequency_penalty": -0.5,
    "logit_bias": {"50256": -100},
    "user": "someone",
    "tools": [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}],
    "tool_choice": {"type": "function", "function": {"name": "weather"}},
    "parallel_tool_calls": False,
    "response_format": {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA}},
    "seed": 7,
    "reasoning_effort": "low",
    "a_field_of_tomorrow": {"deep": [1, None, "x"]},
}

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def providers() -> Iterator[tuple[Upstream, Upstream]]:
    """Two providers that play scripts."""
    with upstream() as first, upstream() as second:
        yield first, second


@pytest.fixture
def server(serve: Serve, providers: tuple[Upstream, Upstream]) -> Server:
    first, second = providers
    return serve(CONFIG.replace("FIRST", first.url).replace("SECOND", second.url), **HELD)


def ask(server: Server, model: str, **fields: Any) -> httpx.Response:
    body = {"model": model, "messages": MESSAGES, **fields}
    return httpx.post(f"{server.url}/v1/chat/completions", json=body, headers=KEY, timeout=60, verify=False)


def get(server: Server, path: str) -> Any:
    answer = httpx.get(server.url + path, headers=KEY, verify=False)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.row("P2")
def test_every_field_reaches_the_provider_as_it_is(server: Server, providers: tuple[Upstream, Upstream]) -> None:
    assert ask(server, "gpt-4", **EVERY_FIELD).status_code == 200
    seen = providers[0].seen[-1]
    assert {name: seen.get(name) for name in EVERY_FIELD} == EVERY_FIELD
    assert seen["model"] == "good"


@pytest.mark.row("P2")
def test_every_answer_says_who_gave_it(server: Server) -> None:
    answer = ask(server, "gpt-4")
    told = answer.json()
    info = told["_proxy_info"]
    assert {
        "provider": "openai",
        "attempt_number": 1,
        "request_id": answer.headers["x-request-id"],
    }.items() <= info.items()
    assert 0 < info["response_time"] < 60
    assert answer.headers["x-penstock-provider"] == "openai"
    assert told["model"] == "gpt-4"
    assert told["choices"][0]["message"] == {"role": "assistant", "content": "Hello"}
    assert told["usage"]["total_tokens"] == 12

    streamed = ask(server, "gpt-4", stream=True)
    *chunks, done = list(payloads(iter(streamed.text.splitlines())))
    assert done == "[DONE]"
    assert said(chunks) == "Hello"
    infos = [json.loads(chunk).get("_proxy_info") for chunk in chunks]
    assert [info["provider"] for info in infos if info] == ["openai"]


@pytest.mark.row("P2")
def test_who_answered_can_be_left_out(serve: Serve) -> None:
    server = serve("request: {proxy_info: false}\nproviders: [{name: simulated, type: simulated, models: [echo]}]\n")
    assert "_proxy_info" not in ask(server, "echo").json()
    assert "_proxy_info" not in ask(server, "echo", stream=True).text


@pytest.mark.row("P3")
def test_completions_and_embeddings(server: Server) -> None:
    body = {"model": "echo", "prompt": "Once upon a time", "max_tokens": 100, "temperature": 0.8}
    told = httpx.post(f"{server.url}/v1/completions", json=body, headers=KEY, verify=False).json()
    assert (told["object"], told["choices"][0]["text"]) == ("text_completion", "[simulated] Once upon a time")
    body = {"model": "echo", "input": "The quick brown fox jumps over the lazy dog", "user": "optional-user-id"}
    told = httpx.post(f"{server.url}/v1/embeddings", json=body, headers=KEY, verify=False).json()
    assert (told["object"], len(told["data"]), told["data"][0]["object"]) == ("list", 1, "embedding")
    assert all(isinstance(number, float) for number in told["data"][0]["embedding"])


@pytest.mark.row("P4", "P1")
def test_models_tell_whose_they_are_and_how_they_are(server: Server) -> None:
    listed = get(server, "/v1/models")
    assert listed["object"] == "list"
    models = {model["id"]: model for model in listed["data"]}
    assert {"gpt-4", "grok-4", "broken", "echo", "claude-3"} <= models.keys()
    told = models["gpt-4"]
    assert (told["object"], told["owned_by"], told["provider_type"]) == ("model", "openai", "openai")
    assert (told["status"], told["enabled"], told["forced"]) == ("healthy", True, False)
    assert models["grok-4"]["provider_type"] in ("grok", "xai")
    assert models["claude-3"]["provider_type"] == "anthropic"
    of_one = get(server, "/v1/providers/openai/models")
    assert (of_one["object"], of_one["provider"], of_one["total"]) == ("list", "openai", 3)
    assert {"cached", "last_refresh"} <= of_one.keys()
    assert get(server, "/v1/providers/openai/models/gpt-4")["id"] == "gpt-4"
    names = {provider["name"] for provider in get(server, "/providers")["data"]}
    assert {"openai", "grok", "anthropic", "blackbox", "simulated"} <= names


@pytest.mark.row("P4")
def test_a_selection_of_models_is_kept_and_a_list_refreshed(server: Server) -> None:
    chosen = {"selected_model": "gpt-4", "editable": True, "priority": 5, "max_tokens": 2000, "temperature": 0.7}
    path = f"{server.url}/v1/providers/openai/model_selection"
    assert httpx.put(path, json=chosen, headers=KEY, verify=False).status_code == 200
    assert get(server, "/v1/providers/openai/model_selection")["selected_model"] == "gpt-4"
    refreshed = httpx.post(f"{server.url}/v1/providers/simulated/models/refresh", headers=KEY, verify=False)
    assert refreshed.status_code == 200


@pytest.mark.row("P5")
def test_what_looks_like_an_attack_is_data(server: Server, providers: tuple[Upstream, Upstream]) -> None:
    prompt = "<script>alert('x')</script> '; DROP TABLE users; -- \" OR 1=1 \u202e &lt; ${jndi:x} \U0001f600\n\t"
    messages = [{"role": "user", "content": prompt}]
    assert ask(server, "gpt-4", messages=messages).status_code == 200
    assert providers[0].seen[-1]["messages"] == messages
    for content in (b'{"model": "gpt-4", "messages": [{"role": "user", "content": "a\\u0000b"}]}', b"{", b'"' * 99):
        answer = httpx.post(f"{server.url}/v1/chat/completions", content=content, headers=KEY, verify=False)
        assert answer.status_code == 400
    assert providers[0].seen[-1]["messages"] == messages


@pytest.mark.row("P5")
def test_keys_are_in_no_log_line_and_no_answer(server: Server) -> None:
    ask(server, "gpt-4")
    ask(server, "broken")
    for key in ("test-key-12", "wrong-canary-key"):
        refused = httpx.get(f"{server.url}/v1/models", headers={"x-api-key": key}, verify=False)
        assert refused.status_code == 401
        assert key not in refused.text
    for secret in ("test-key-123", "wrong-canary-key", *HELD.values()):
        assert f'{secret}"' not in server.err + server.out
        assert f"{secret} " not in server.err + server.out


@pytest.mark.row("C5")
def test_names_of_models_are_those_of_all_documents(serve: Serve) -> None:
    names = ["meta-llama/Llama-3.1-8B", "local/llama-3-8b-instruct", "llama3:8b", "a@b+c_d.e-f"]
    models = ", ".join(f"{{name: '{name}', upstream: echo}}" for name in names)
    server = serve(f"providers: [{{name: simulated, type: simulated, models: [{models}]}}]\n")
    for name in names:
        assert ask(server, name).status_code == 200
        assert get(server, f"/v1/models/{name}")["id"] == name
    for wrong in ("", "-a", "a b", "a" * 201, "é", "a\nb", "a?b"):
        answer = ask(server, wrong)
        error = answer.json()["error"]
        assert (answer.status_code, error["param"], error["code"]) == (400, "model", "invalid_request"), wrong
    assert ask(server, "a" * 200).status_code == 404


@pytest.mark.row("P8")
def test_the_next_provider_answers_and_a_broken_one_is_left_alone(
    server: Server, providers: tuple[Upstream, Upstream]
) -> None:
    for number in range(5):
        answer = ask(server, "broken", stream=number % 2 == 1)
        assert answer.status_code == 200
        assert answer.headers["x-penstock-provider"] == "grok"
    assert sum(body["model"] == "breaks" for body in providers[0].seen) == 3
    assert ask(server, "broken").json()["_proxy_info"]["attempt_number"] == 1


@pytest.mark.row("P8")
def test_a_retry_waits_as_long_as_it_is_told(server: Server, providers: tuple[Upstream, Upstream]) -> None:
    began = time.monotonic()
    answer = ask(server, "grok-4")
    assert answer.status_code == 200
    assert answer.json()["_proxy_info"]["attempt_number"] == 2
    assert time.monotonic() - began >= 1, "the provider said Retry-After: 1"
    assert len(providers[1].seen) == 2


@pytest.mark.row("P8")
def test_a_request_that_is_wrong_is_tried_nowhere_else(server: Server, providers: tuple[Upstream, Upstream]) -> None:
    answer = ask(server, "wrong")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_n")
    assert not providers[1].seen


@pytest.mark.row("P8")
def test_one_deadline_holds_for_all_attempts(serve: Serve) -> None:
    slow = "\n".join(
        f"  - {{name: slow{number}, type: simulated, models: [echo], options: {{ttft: 600}}, priority: {number}}}"
        for number in (1, 2, 3)
    )
    server = serve(f"request: {{timeout: 1.5}}\nproviders:\n{slow}\n")
    began = time.monotonic()
    answer = ask(server, "echo")
    assert answer.status_code == 504
    assert time.monotonic() - began < 10
    assert answer.json()["error"]["code"] == "upstream_timeout"


@pytest.mark.row("P1")
def test_a_provider_gets_its_own_key_and_headers_and_none_of_ours(
    server: Server, providers: tuple[Upstream, Upstream]
) -> None:
    assert ask(server, "gpt-4").status_code == 200
    head = providers[0].heads[-1]
    assert (head["authorization"], head["x-team"]) == ("Bearer sk-openai", "search")
    assert "test-key-123" not in str(head)
    ask(server, "broken")
    assert providers[1].heads[-1]["authorization"] == "Bearer sk-xai"
    assert "x-team" not in providers[1].heads[-1]


@pytest.mark.row("P1")
def test_a_provider_that_is_forced_goes_before_all_and_one_that_is_disabled_is_not_asked(
    serve: Serve, providers: tuple[Upstream, Upstream]
) -> None:
    def provider(name: str, at: Upstream, more: str) -> str:
        return f"  - {{name: {name}, type: openai, base_url: '{at.url}', api_key_env: K, models: [good], {more}}}\n"

    first, second = providers
    named = provider("usual", first, "priority: 1") + provider("forced", second, "priority: 9, forced: true")
    server = serve("providers:\n" + named + provider("spare", first, "priority: 0, enabled: false"), K="sk-x")
    assert ask(server, "good").headers["x-penstock-provider"] == "forced"
    assert not first.seen
    shown = {each["name"]: each for each in get(server, "/providers")["data"]}
    assert (shown["spare"]["enabled"], shown["forced"]["forced"]) == (False, True)
