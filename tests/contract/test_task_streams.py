"""``GET /stream/{task_id}``, read by Python, the clients and a real browser over a line that is cut 20 times."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock.client import AsyncLLMClient, LLMClient, TaskFailed
from penstock.client import _script as steps
from tests.contract.conftest import CONFIG
from tests.contract.cutting import cutting
from tests.contract.test_tasks import BROKEN, SLOW, refused, tasks_example
from tests.e2e.server import Server, wait_for
from tests.node.chromium import browsing

KEY = "test-key-123"
WORDS = [f"word-{number}" for number in range(400)]
PROMPT = " ".join(WORDS)
TOKENS = ["[simulated]", *(f" {word}" for word in WORDS)]
TALKING = {"max_tokens": 1000, "simulate": {"tokens_per_second": 200}}
CUTS = 20

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def client(gateway: Server) -> LLMClient:
    return LLMClient(gateway.url, KEY)


def submitted(gateway: Server, prompt: str = PROMPT, **fields: Any) -> str:
    """A new task."""
    task_id: str = LLMClient(gateway.url, KEY).generate(prompt, wait=False, **fields)["task_id"]
    return task_id


def read(url: str, task_id: str, last_id: str = "") -> tuple[httpx.Response, list[tuple[str, Any]]]:
    """The stream to its end: its response, and its events with their ids."""
    headers = {"last-event-id": last_id} if last_id else {}
    answer = httpx.get(f"{url}/stream/{task_id}?api_key={KEY}", headers=headers, timeout=60)
    found = re.findall(r"id: (.*)\ndata: (.*)\n\n", answer.text)
    return answer, [(name, json.loads(text)) for name, text in found]


@pytest.mark.row("T4", "D2")
def test_a_task_is_told_from_its_queue_to_its_end(gateway: Server) -> None:
    answer, events = read(gateway.url, submitted(gateway, "one two"))
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["access-control-allow-origin"] == "*"
    told = [event for _, event in events if event["status"] != "queued"]
    assert [event["status"] for event in told] == ["processing"] * 4 + ["completed"]
    assert [event.get("token") for event in told] == [None, "[simulated]", " one", " two", None]
    assert all(event["message"] for event in told)
    assert told[-1]["result"] == "[simulated] one two"
    assert told[-1]["metrics"]["completion_tokens"] == 3
    assert len(dict(events)) == len(events), "two events have one id"


@pytest.mark.row("T4")
def test_a_reader_goes_on_after_any_event_that_it_has_read(gateway: Server) -> None:
    task_id = submitted(gateway, "one two three")
    _, events = read(gateway.url, task_id)
    _, whole = read(gateway.url, task_id)  # of what is over the queue is not told
    for number, (last_id, _) in enumerate(whole[:-1]):
        assert read(gateway.url, task_id, last_id)[1] == whole[number + 1 :]
    assert events[-5:] == whole[-5:]
    answer, _ = read(gateway.url, task_id, whole[-1][0])
    assert (answer.status_code, answer.text) == (204, "")
    assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("last_id", ["9-1", "nonsense", "1", "-1-1"])
def test_an_id_of_no_event_is_refused(gateway: Server, last_id: str) -> None:
    refused(read(gateway.url, submitted(gateway, "x"), last_id)[0], 400)


def test_a_failure_is_the_end(gateway: Server) -> None:
    task_id = submitted(gateway, "x", **BROKEN)
    wait_for(lambda: LLMClient(gateway.url, KEY).result(task_id)["status"] == "error", "its failure")
    _, events = read(gateway.url, task_id)
    last = events[-1][1]
    assert (last["status"], last["error_type"]) == ("error", "UpstreamRefused")
    assert last["error_message"] in last["message"]


def test_a_task_that_is_cancelled_ends_its_stream(gateway: Server, client: LLMClient) -> None:
    task_id = submitted(gateway, "x", **SLOW)
    events = client.stream(task_id)
    assert any(event["status"] == "processing" for event in events)
    assert client.cancel(task_id)["status"] == "cancelled"
    with pytest.raises(TaskFailed) as failed:
        list(events)
    assert failed.value.error_type == "JobCancelled"


@pytest.mark.row("T4", "T7", "C1")
def test_a_stream_is_its_keys_own(gateway: Server) -> None:
    task_id = submitted(gateway, "x")
    refused(httpx.get(f"{gateway.url}/stream/{task_id}"), 401)
    refused(httpx.get(f"{gateway.url}/stream/{task_id}?api_key=nope"), 401)
    refused(httpx.get(f"{gateway.url}/stream/{task_id}?api_key=demo-key-456"), 404)
    assert httpx.get(f"{gateway.url}/stream/{task_id}", headers={"x-api-key": KEY}).status_code == 200


@pytest.mark.row("T4", "C1")
def test_a_key_in_an_address_is_in_no_log_line_and_can_be_refused(tmp_path: Path) -> None:
    secret = "canary-5f1e9b7c"
    closed = CONFIG + "logging: {level: DEBUG}\ntasks: {key_in_url: false, allowed_origins: ['https://app.example']}\n"
    with Server(tmp_path, closed, API_KEYS=secret) as server:
        for path in ("/stream/x", "/stream/", "/nowhere", "/status/x", "/stream/x?a=b"):
            separator = "&" if "?" in path else "?"
            answer = httpx.get(f"{server.url}{path}{separator}api_key={secret}")
            assert answer.status_code in (401, 404)
            assert secret not in answer.text
        headers = {"x-api-key": secret, "last-event-id": "end", "origin": "https://app.example"}
        task_id = LLMClient(server.url, secret).generate("Hi", wait=False)["task_id"]
        told = httpx.get(f"{server.url}/stream/{task_id}", headers=headers).headers
        assert (told["access-control-allow-origin"], told["vary"]) == ("https://app.example", "origin")
        other = httpx.get(f"{server.url}/stream/{task_id}", headers={**headers, "origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers
    assert secret not in server.err + server.out


@pytest.mark.row("T4", "T6")
def test_a_line_that_is_cut_20_times_loses_and_repeats_no_token(
    gateway: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "BACKOFF", 0.01)
    task_id = submitted(gateway, **TALKING)
    with cutting(gateway.port, CUTS) as line:
        events = list(LLMClient(line.url, KEY).stream(task_id, timeout=120))
        assert line.done == CUTS
    assert [event["token"] for event in events if "token" in event] == TOKENS
    assert events[-1]["result"] == "".join(TOKENS)


@pytest.mark.row("T6")
def test_the_client_without_an_event_loop_and_the_one_with_say_the_same(
    gateway: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "BACKOFF", 0.01)

    async def asked(url: str) -> tuple[Any, list[Any], Any]:
        heard: list[Any] = []
        async with AsyncLLMClient(url, KEY) as client:
            told = await client.generate(PROMPT, 1000, 0.8, on_progress=heard.append, timeout=120, **TALKING_ONLY)
            later = await client.generate("Hi", wait=False)
            waited = await client.wait(later["task_id"], 60)
            assert (await client.status(later["task_id"]))["status"] == "completed"
            with pytest.raises(TaskFailed, match="418"):
                await client.generate("Hi", **BROKEN)
            slow = await client.generate("Hi", wait=False, **SLOW)
            assert (await client.cancel(slow["task_id"]))["status"] == "cancelled"
            return told, heard, waited

    with cutting(gateway.port, 5) as line:
        told, heard, waited = asyncio.run(asked(line.url))
    assert [event["token"] for event in heard if "token" in event] == TOKENS
    plain: list[Any] = []
    assert LLMClient(gateway.url, KEY).generate("Hi", on_progress=plain.append)["result"] == waited["result"]
    assert told["result"] == "".join(TOKENS)
    assert plain[-1]["status"] == "completed"


TALKING_ONLY = {"simulate": TALKING["simulate"]}

PAGE = """<!doctype html><title>A page of another origin</title><script>
const found = [];
const log = console.log;
console.log = (...words) => { found.push(words.slice(0, 2).join(' ')); log(...words); };
const told = [];
let reconnects = 0;
EXAMPLE
eventSource.addEventListener('message', (event) => told.push([event.lastEventId, JSON.parse(event.data)]));
const own = new EventSource(eventSource.url);
const seen = [];
own.onmessage = (event) => seen.push([event.lastEventId, JSON.parse(event.data)]);
own.onerror = () => {
  if (own.readyState !== EventSource.CLOSED) { reconnects += 1; return; }
  const report = {found, told, seen, reconnects, closed: eventSource.readyState === EventSource.CLOSED};
  fetch('/report', {method: 'POST', body: JSON.stringify(report)});
};
</script>"""


@contextmanager
def page(html: str) -> Iterator[tuple[str, list[Any]]]:
    """A page at an address of its own, and what it reports."""
    reports: list[Any] = []

    class Place(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(html.encode())

        def do_POST(self) -> None:
            reports.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Be quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Place) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", reports
        server.shutdown()


@pytest.mark.row("T4")
@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_a_browser_that_is_cut_20_times_reads_every_token_once(gateway: Server, tmp_path: Path) -> None:
    """The document's own page reads one stream and closes it; another one is left to find that there is no more."""
    task_id = submitted(gateway, **TALKING)
    with cutting(gateway.port, 2 * CUTS) as line:
        script = tasks_example("Example (JavaScript)", line.url).replace("abc123-def456-ghi789", task_id)
        with page(PAGE.replace("EXAMPLE", script)) as (url, reports), browsing(url, tmp_path) as browser:
            wait_for(lambda: reports or browser.poll() is not None, "the page's report")
            assert reports, (tmp_path / "chromium.txt").read_text(errors="replace")
        assert line.done == 2 * CUTS
    report = reports[0]
    for told in (report["told"], report["seen"]):
        assert [event["token"] for _, event in told if "token" in event] == TOKENS
        assert told[-1][1]["status"] == "completed"
        assert len({name for name, _ in told}) == len(told)
    assert report["reconnects"] >= CUTS // 2
    assert report["closed"], "the document's page closes its stream"
    assert report["found"][-1] == f"Result: {''.join(TOKENS)}"
