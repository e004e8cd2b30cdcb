"""Answers that are kept, and memory that is guarded, over HTTP on both stores."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.contract.conftest import CONFIG, Serve
from tests.e2e.server import Server, chat, wait_for
from tests.laws.caches.conftest import RedisServer, redis_server  # noqa: F401 - the same server

SECTIONS = """\
caching:
  enabled: true
  response_cache:
    max_size_mb: 512
    ttl: 300
    compression: true
  summary_cache:
    max_size_mb: 256
    ttl: 3600
    compression: true
memory:
  max_usage_percent: 99.9
  gc_threshold_percent: 75
  monitoring_interval: 30
  cache_cleanup_interval: 300
"""
"""As the proxy's document has them; but that a machine which runs tests may be full."""

ALONE = SECTIONS.replace("enabled: true\n", "enabled: true\n  backend: memory\n")
UNLIMITED = CONFIG.replace("limits: {", "limits: {enabled: false, ")

pytestmark = pytest.mark.timeout(180)


def ask(server: Server, text: str = "again", key: str = "test-key-123", **fields: Any) -> httpx.Response:
    headers = fields.pop("headers", {})
    with server.client(key) as client:
        return client.post("/v1/chat/completions", json=chat(text, temperature=0, **fields), headers=headers)


def cache_of(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    told: str = answer.headers["x-cache"]
    return told


def counted(server: Server, name: str) -> float:
    """A counter's present sum over its labels."""
    with server.client() as client:
        text = client.get("/metrics").text
    return sum(map(float, re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)))


def connected(server: Server) -> bool | None:
    with server.client("test-key-123") as client:
        told: bool | None = client.get("/health").json()["redis_connected"]
    return told


@pytest.mark.row("I11")
def test_a_repeated_question_is_answered_from_the_cache(serve: Serve) -> None:
    server = serve(CONFIG + SECTIONS)
    first, second = ask(server), ask(server)
    assert [cache_of(first), cache_of(second)] == ["MISS", "HIT"]
    assert second.json()["choices"] == first.json()["choices"]
    assert second.json()["_proxy_info"]["cached"] is True
    streams = [ask(server, stream=True, seed=1) for _ in range(2)]
    assert [cache_of(each) for each in streams] == ["MISS", "HIT"]
    chunks = [re.sub(r',"_proxy_info".*\}', "}", each.text) for each in streams]
    assert chunks[0] == chunks[1]
    assert chunks[1].endswith("data: [DONE]\n\n")
    assert cache_of(ask(server, key="demo-key-456")) == "MISS", "another key's answer is nobody else's"
    assert cache_of(ask(server, headers={"cache-control": "no-store"})) == "BYPASS"


@pytest.mark.row("I11")
def test_instances_share_what_they_keep(serve: Serve) -> None:
    one, other = serve(CONFIG + SECTIONS), serve(CONFIG + SECTIONS)
    assert cache_of(ask(one)) == "MISS"
    wait_for(lambda: counted(one, "penstock_cache_kept_total"), "the answer to be kept")
    assert cache_of(ask(other)) == "HIT"


@pytest.mark.row("I11")
def test_instances_share_it_in_redis_and_go_on_when_that_dies(serve: Serve, redis_server: RedisServer) -> None:  # noqa: F811
    section = ALONE.replace("backend: memory", "backend: redis")
    one, other = (serve(CONFIG + section, PENSTOCK_CACHE_URL=redis_server.url) for _ in range(2))
    assert cache_of(ask(one)) == "MISS"
    wait_for(lambda: counted(one, "penstock_cache_kept_total"), "the answer to be kept")
    assert cache_of(ask(other)) == "HIT"
    assert connected(other) is True
    redis_server.stop()
    try:
        assert cache_of(ask(other, "while Redis is dead")) == "MISS"
        assert cache_of(ask(other, "while Redis is dead")) == "HIT", "the process itself remembers"
        assert connected(other) is False
    finally:
        redis_server.start()


@pytest.mark.row("I11")
def test_when_the_instance_that_brings_an_answer_is_killed_another_one_does(serve: Serve) -> None:
    slow, quick = serve(CONFIG.replace("ttft: 0", "ttft: 90") + SECTIONS), serve(CONFIG + SECTIONS)
    with ThreadPoolExecutor() as pool:
        lost = pool.submit(ask, slow)
        wait_for(lambda: counted(slow, "penstock_cache_requests_total"), "the first to look for the answer")
        wait_for(lambda: counted(slow, "penstock_state_calls_total") > 3, "the first to claim it")
        began = time.monotonic()
        waiting = pool.submit(ask, quick)
        slow.process.kill()
        assert cache_of(waiting.result()) == "MISS"
        assert time.monotonic() - began < 30
        with pytest.raises(httpx.TransportError):
            lost.result()
    assert cache_of(ask(quick)) == "HIT"


@pytest.mark.row("P10")
def test_what_is_kept_is_forgotten_after_its_time(serve: Serve) -> None:
    server = serve(CONFIG + SECTIONS.replace("ttl: 300", "ttl: 1").replace("interval: 300", "interval: 1"))
    assert [cache_of(ask(server)) for _ in range(2)] == ["MISS", "HIT"]
    wait_for(lambda: counted(server, "penstock_cache_entries") == 0, "the cleaner to forget it")
    assert cache_of(ask(server)) == "MISS"


@pytest.mark.row("P10")
def test_what_is_kept_stays_within_its_size_and_is_compressed(serve: Serve) -> None:
    section = ALONE.replace("max_size_mb: 512", "max_size_mb: 0.05")
    packed = serve(UNLIMITED + section)
    plain = serve(UNLIMITED + section.replace("compression: true", "compression: false"))
    for number in range(60):
        for server in (packed, plain):
            assert cache_of(ask(server, f"{number} " + "the same words " * 100, max_tokens=400)) == "MISS"
    kept = {server: counted(server, "penstock_cache_entries") for server in (packed, plain)}
    assert all(counted(server, "penstock_cache_bytes") <= 0.05 * 1024 * 1024 for server in kept)
    assert 0 < kept[plain] < kept[packed]


@pytest.mark.row("P10")
def test_caches_shrink_before_requests_are_refused(serve: Serve) -> None:
    shrinking = SECTIONS.replace("gc_threshold_percent: 75", "gc_threshold_percent: 0.001")
    server = serve(UNLIMITED + shrinking)
    for number in range(10):
        assert cache_of(ask(server, str(number))) == "MISS"
    wait_for(lambda: ask(server, "more") and counted(server, "penstock_memory_cleanings_total"), "the guard to look")
    assert counted(server, "penstock_memory_refused_total") == 0
    full = shrinking.replace("max_usage_percent: 99.9", "max_usage_percent: 1")
    refusing = serve(UNLIMITED + full.replace("gc_threshold_percent: 0.001", "gc_threshold_percent: 1"))
    answer = ask(refusing)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "memory_short")
    assert int(answer.headers["retry-after"]) >= 1
    later = ask(refusing, headers={"prefer": "respond-async"})
    assert later.status_code == 503
    assert counted(refusing, "penstock_memory_refused_total") >= 2
    assert counted(refusing, "penstock_memory_short") == 1
    with refusing.client("test-key-123") as client:
        assert client.get("/v1/models").status_code == 200, "nothing else is refused"
