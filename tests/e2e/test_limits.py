"""Limits and budgets as callers meet them: what is refused, with which words and headers, and when it is admitted."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from penstock.config import document_of, read
from penstock.errors import SettingsError
from tests.e2e.server import PATIENCE, Server, chat, wait_for

pytestmark = pytest.mark.timeout(120)

PROVIDERS = """\
auth: {api_keys: [test-key]}
providers:
  - {name: simulated, type: simulated, models: [echo, slow], options: {ttft: 0, tokens_per_second: 0}}
  - {name: crawling, type: simulated, models: [crawl, narrow], options: {ttft: 0, tokens_per_second: 2}}
  - {name: vendor, type: openai, models: [unpriced], base_url: "http://127.0.0.1:9/v1"}
prices:
  - {provider: crawling, input: 1000, output: 1000}
  - {provider: simulated, input: 1, output: 2}
"""
LONG = "la " * 60
"""Half a minute's song at two words a second: nobody waits for its end."""
FREE = PROVIDERS + "limits: {gateway: {}, endpoint: {}, address: {}, models: {narrow: {concurrency: 1}}}\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("limits"), FREE) as started:
        yield started


def a_key(server: Server, **fields: Any) -> str:
    """A new key with these fields."""
    with server.client() as client:
        made = client.post("/api/v1/apikeys", json=fields)
    assert made.status_code == 201, made.text
    key: str = made.json()["api_key"]
    return key


def ask(server: Server, key: str, **fields: Any) -> httpx.Response:
    """The answer to a chat request, whatever it is."""
    headers = fields.pop("headers", {})
    with server.client(key) as client:
        return client.post("/v1/chat/completions", json=chat(**fields), headers=headers)


def spending(server: Server, key: str) -> dict[str, Any]:
    """The one window of the budget of a key."""
    with server.client() as client:
        [found] = [each for each in client.get("/api/v1/apikeys").json()["data"] if key.endswith(each["hint"][1:])]
        [window] = client.get(f"/api/v1/apikeys/{found['id']}").json()["spending"]
    shown: dict[str, Any] = window
    return shown


# requests


def test_the_documents_defaults_hold_without_configuration(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        fields = {"model": "simulated/echo"}
        answers = [ask(server, server.first_key, **fields) for _ in range(11)]
        statuses = [answer.status_code for answer in answers]
        assert statuses == [200] * 10 + [429], "60 a minute for a key, 10 of them at once"
        assert answers[0].headers["x-ratelimit-limit"] == "60"
        assert answers[0].headers["x-ratelimit-remaining"] == "9"
        refused = answers[10]
        assert refused.headers["x-ratelimit-remaining"] == "0"
        assert int(refused.headers["x-ratelimit-reset"]) >= time.time()
        body = refused.json()
        assert body["detail"] == "Rate limit exceeded"
        assert body["error"]["code"] == "rate_limited"
        assert body["error"]["message"].startswith("Rate limit exceeded: 60 requests a minute, 10 of them at once,")
        assert 0 < body["error"]["retry_after"] <= 1
        assert refused.headers["retry-after"] == str(math.ceil(body["error"]["retry_after"]))


def test_a_request_is_admitted_when_the_refusal_said_so_and_not_before(server: Server) -> None:
    key = a_key(server, limits={"requests_per_minute": 12, "burst": 1})
    assert ask(server, key).status_code == 200
    refused = ask(server, key)
    said = time.monotonic() + refused.json()["error"]["retry_after"]
    while time.monotonic() < said - 0.3:
        assert ask(server, key).status_code == 429
    wait_for(lambda: time.monotonic() >= said, "the time that the refusal named")
    admitted = ask(server, key)
    assert admitted.status_code == 200, admitted.text


def test_two_processes_share_one_limit(tmp_path: Path) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(Server(tmp_path, FREE)) for _ in range(2)]
        key = a_key(servers[0], limits={"requests_per_minute": 1, "burst": 7})
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda n: ask(servers[n % 2], key).status_code, range(24)))
        assert answers.count(200) == 7
        assert answers.count(429) == 17


def test_a_change_of_a_keys_limits_is_obeyed_within_five_seconds(server: Server) -> None:
    key = a_key(server, limits={"requests_per_minute": 1, "burst": 1})
    assert [ask(server, key).status_code for _ in range(2)] == [200, 429]
    with server.client() as client:
        [found] = [each for each in client.get("/api/v1/apikeys").json()["data"] if key.endswith(each["hint"][1:])]
        changed = client.patch(f"/api/v1/apikeys/{found['id']}", json={"limits": {"concurrency": 9}})
    assert changed.json()["limits"] == {"concurrency": 9}
    wait_for(lambda: ask(server, key).status_code == 200, "the change to be obeyed", 6)


def test_every_address_behind_a_declared_proxy_has_its_own_limit(tmp_path: Path) -> None:
    config = (
        PROVIDERS + "server: {trusted_proxies: [127.0.0.1/32]}\nlimits: {address: {requests_per_minute: 1, burst: 1}}\n"
    )
    with Server(tmp_path, config) as server:

        def seen(address: str) -> int:
            return ask(server, "test-key", headers={"x-forwarded-for": address}).status_code

        assert [seen("203.0.113.1"), seen("203.0.113.2"), seen("203.0.113.1")] == [200, 200, 429]
        assert seen("198.51.100.7, 203.0.113.1") == 429, "only the proxy's own word counts"
        assert [seen("2001:db8::1"), seen("2001:db8::2"), seen("[2001:db8:0:1::1]:4711")] == [200, 429, 200]


def test_a_forged_address_gets_no_limit_of_its_own(tmp_path: Path) -> None:
    config = PROVIDERS + "limits: {address: {requests_per_minute: 1, burst: 1}}\n"
    with Server(tmp_path, config) as server:
        forged = [ask(server, "test-key", headers={"x-forwarded-for": f"203.0.113.{n}"}) for n in range(3)]
        assert [answer.status_code for answer in forged] == [200, 429, 429]
        assert "your address" in forged[1].json()["error"]["message"]


def test_an_endpoint_has_a_limit_of_all_its_callers(tmp_path: Path) -> None:
    config = PROVIDERS + "limits: {endpoints: {chat/completions: {requests_per_minute: 1, burst: 2}}}\n"
    with Server(tmp_path, config) as server, server.client() as client:
        assert [ask(server, "test-key").status_code for _ in range(3)] == [200, 200, 429]
        assert client.post("/v1/completions", json={"model": "echo", "prompt": "hello"}).status_code == 200


def test_listing_models_counts_too(server: Server) -> None:
    with server.client(a_key(server, limits={"requests_per_minute": 1, "burst": 2})) as client:
        answers = [client.get("/v1/models") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == ["1", "0", "0"]


# tokens


def test_tokens_are_reserved_by_the_most_and_settled_by_what_was_used(server: Server) -> None:
    key = a_key(server, limits={"tokens_per_minute": 2000})
    for _ in range(3):
        answer = ask(server, key, max_tokens=1000)
        assert answer.status_code == 200, "of three requests that may take 1,300 tokens each took 3"
        assert answer.headers["x-ratelimit-limit-tokens"] == "2000"


def test_a_request_of_more_tokens_than_a_limit_admits_is_too_large(server: Server) -> None:
    answer = ask(server, a_key(server, limits={"tokens_per_minute": 1000}), max_tokens=1000)
    assert (answer.status_code, answer.json()["detail"]) == (413, "Request exceeds max token limit")
    assert answer.json()["error"]["param"] == "max_tokens"


# concurrency


def test_a_slot_is_free_as_soon_as_its_request_has_ended(server: Server) -> None:
    key = a_key(server, limits={"concurrency": 1})
    for _ in range(20):
        assert ask(server, key).status_code == 200
        assert ask(server, key, stream=True).status_code == 200


def test_a_second_request_at_a_time_is_refused_and_an_abandoned_one_frees_its_slot(server: Server) -> None:
    key = a_key(server, limits={"concurrency": 1})
    with server.client(key) as client:
        with client.stream("POST", "/v1/chat/completions", json=chat(LONG, model="crawl", stream=True)) as one:
            assert one.status_code == 200
            next(one.iter_lines())
            refused = ask(server, key)
            assert refused.status_code == 429
            assert "1 requests at a time" in refused.json()["error"]["message"]
        wait_for(lambda: ask(server, key).status_code == 200, "the slot to be free", 5)


def test_a_full_model_refuses_a_request_at_once_and_lets_a_job_wait(server: Server) -> None:
    key = a_key(server)
    with server.client(key) as client:
        with client.stream("POST", "/v1/chat/completions", json=chat(LONG, model="narrow", stream=True)) as one:
            lines = one.iter_lines()
            next(lines)
            refused = ask(server, a_key(server), model="narrow")
            assert refused.status_code == 429, refused.text
            assert refused.headers["retry-after"] == "1"
            assert "1 requests at a time are allowed for this model" in refused.json()["error"]["message"]
            assert ask(server, key, model="crawl", text="hi").status_code == 200, "others have room"
            waiting = ask(server, key, model="narrow", text="hi", headers={"prefer": "respond-async"})
            assert waiting.status_code == 202
            assert client.get(waiting.headers["location"]).status_code == 202
        wait_for(lambda: client.get(waiting.headers["location"]).status_code == 200, "the job to have its turn", 15)


# money


def test_a_spent_budget_is_openais_insufficient_quota_and_nobody_tries_again(server: Server) -> None:
    key = a_key(server, budget={"daily": 0.001})
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=3, timeout=PATIENCE) as client:
        client.chat.completions.create(model="echo", messages=[{"role": "user", "content": "hi"}], max_tokens=10)
        before = time.monotonic()
        with pytest.raises(openai.RateLimitError) as refused:
            client.chat.completions.create(model="echo", messages=[{"role": "user", "content": "hi"}], max_tokens=900)
        assert time.monotonic() - before < 5
    assert refused.value.code == "insufficient_quota"
    assert refused.value.type == "insufficient_quota"
    assert "daily budget of this API key" in refused.value.message


def test_what_was_spent_is_told_to_the_nano_dollar(server: Server) -> None:
    key = a_key(server, budget={"monthly": 1})
    usage = ask(server, key, text="one two three").json()["usage"]
    cost = (usage["prompt_tokens"] * 1 + usage["completion_tokens"] * 2) / 1e6
    wait_for(lambda: spending(server, key)["spent"] == cost, "the request to be settled")
    shown = spending(server, key)
    assert (shown["budget"], shown["remaining"]) == (1, 1 - cost)


def test_keys_of_one_owner_share_the_owners_budget(tmp_path: Path) -> None:
    with Server(tmp_path, FREE + "budgets: {owners: {ada: {total: 0.003}}}\n") as server:
        one, two = (a_key(server, owner="ada") for _ in range(2))
        stranger = a_key(server, owner="bob")
        assert ask(server, one, max_tokens=900).status_code == 200
        assert ask(server, two, max_tokens=1400).status_code == 429
        assert ask(server, stranger, max_tokens=1400).status_code == 200


def test_an_abandoned_stream_is_paid_for_as_far_as_it_came(server: Server) -> None:
    key = a_key(server, budget={"total": 100})
    with server.client(key) as client:
        words = chat(LONG, model="crawl", stream=True, max_tokens=50)
        with client.stream("POST", "/v1/chat/completions", json=words) as stream:
            lines = stream.iter_lines()
            for _ in range(4):
                next(lines)
            held = spending(server, key)["spent"]
    assert held > 0.05, "all that it may cost is held while it runs"
    wait_for(lambda: spending(server, key)["spent"] < held, "the stream to be settled")
    assert spending(server, key)["spent"] > 0


def test_a_budget_pays_for_nothing_whose_price_is_not_known(server: Server) -> None:
    refused = ask(server, a_key(server, budget={"total": 100}), model="unpriced")
    assert refused.status_code == 403
    assert "name its price under 'prices'" in refused.json()["error"]["message"]
    assert ask(server, a_key(server), model="unpriced").status_code == 502, "without a budget it is called"


def test_a_configuration_of_limits_is_checked_with_its_line(tmp_path: Path) -> None:
    for wrong, words in {
        "limits: {key: {requests_per_minute: 0}}": "key.requests_per_minute: must be from 1 to 1000000000",
        "limits: {key: {burst: 3}}": "key.burst: must stand beside requests_per_minute",
        "limits: {endpoints: {chat: {}}}": "endpoints: must be named chat/completions, completions, embeddings, "
        "images/generations, infer or models",
        "budgets: {key: {daily: -1}}": "key.daily: must be from 0 to 1000000000 dollars",
        "limits: {keys: {}}": "keys: nothing reads this key; did you mean 'key'?",
    }.items():
        path = tmp_path / "config.yaml"
        path.write_text(f"auth: {{}}\n{wrong}\n", encoding="utf-8")
        with pytest.raises(SettingsError) as error:
            document_of(read(str(path)))
        assert str(error.value) == f"{path}:2: {wrong.partition(':')[0]}.{words}"


def test_the_text_of_a_stream_says_nothing_of_limits_but_its_head_does(server: Server) -> None:
    key = a_key(server, limits={"requests_per_minute": 600})
    with server.client(key) as client, client.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as stream:
        assert stream.headers["x-ratelimit-limit"] == "600"
        payloads = [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: {")]
    assert all(payload["object"] == "chat.completion.chunk" for payload in payloads)
