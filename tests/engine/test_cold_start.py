"""A real engine that is scaled to zero: two gateways, many callers, one start."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from openai import AsyncOpenAI

from tests.e2e.server import KEY, Server
from tests.engine.engine import KEY as ENGINE_KEY
from tests.engine.engine import SECONDS_TO_START, Engine
from tests.engine.speech import HELLO, say
from tests.ports import free_port

CALLERS = 8
CONFIG = """
auth: {{api_keys: [{key}]}}
limits: {{enabled: false}}
request: {{timeout: {patience}}}
providers:
  - name: zero
    type: sglang
    base_url: http://127.0.0.1:{port}/v1
    api_key_env: PENSTOCK_ENGINE_API_KEY
    models: [tiny]
    cold_start: {{seconds: 30, budget: {patience}, idle: 300, wake_url: "http://127.0.0.1:{scaler}/up"}}
"""


class Scaler:
    """What starts the engine when it is told to, as an autoscaler does."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.told = 0
        self.engine: Engine | None = None
        scaler = self

        class Door(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                """Start the engine, and answer at once."""
                scaler.told += 1
                if scaler.engine is None:
                    scaler.engine = Engine(folder, "zero", port=scaler.port)
                self.send_response(202)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Keep silent."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self.address = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Start nothing any more, and end what was started."""
        self.server.shutdown()
        self.server.server_close()
        if self.engine is not None:
            self.engine.kill()


@pytest.fixture
def scaler(tmp_path: Path) -> Iterator[Scaler]:
    scaler = Scaler(tmp_path)
    yield scaler
    scaler.close()


@pytest.mark.timeout(300, func_only=True)  # the engine starts within it
async def test_all_wait_for_one_start_and_are_told_so(scaler: Scaler, tmp_path: Path) -> None:
    config = CONFIG.format(key=KEY, port=scaler.port, scaler=scaler.address, patience=int(SECONDS_TO_START))
    with ExitStack() as running:
        gateways = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            state = f"sqlite:///{tmp_path}/state.db"
            server = Server(tmp_path / name, config, "--state", state, PENSTOCK_ENGINE_API_KEY=ENGINE_KEY)
            gateways.append(running.enter_context(server))
        callers = [_ask(gateways[number % 2]) for number in range(CALLERS)]
        told, *answers = await asyncio.gather(_watch(gateways[0]), *callers)
        assert all(answers), "each has an answer"
        assert scaler.told == 1, "one waker, no herd"
        comments = [line for line in told if line.startswith(": warming tiny, ")]
        assert comments, told
        seconds = [int(comment.split()[3].removesuffix("s")) for comment in comments]
        assert seconds == sorted(seconds)
        assert comments[-1].endswith("s of about 30s")
        assert told[-1] == "data: [DONE]"
        counted = "".join(map(_counted, gateways))
        assert counted.count('penstock_cold_starts_total{provider="zero",result="warm"} 1.0') == 1
        assert 'penstock_cold_waits_total{provider="zero",result="warm"}' in counted


def _counted(gateway: Server) -> str:
    with gateway.client() as client:
        return client.get("/metrics").text


async def _ask(gateway: Server) -> str:
    async with AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0, timeout=SECONDS_TO_START
    ) as openai:
        answer = await openai.chat.completions.create(model="tiny", messages=say(HELLO), max_tokens=5)
    return answer.choices[0].message.content or ""


async def _watch(gateway: Server) -> list[str]:
    """The lines of a stream, comments included."""
    body = {"model": "tiny", "messages": say(HELLO), "max_tokens": 5, "stream": True}
    headers = {"authorization": f"Bearer {KEY}"}
    async with (
        httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=SECONDS_TO_START) as client,
        client.stream("POST", "/v1/chat/completions", json=body) as response,
    ):
        assert response.status_code == 200
        return [line async for line in response.aiter_lines() if line]
