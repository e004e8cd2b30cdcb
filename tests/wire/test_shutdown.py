"""``penstock serve`` when it is told to stop: open answers are finished, or ended by an error, and all is settled."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import httpx
import pytest

from tests.ports import free_port
from tests.wire.gateway import CHAT, KEY, MODEL, Live, eventually, provider
from tests.wire.upstream import DONE, Call, Upstream, answering, chunk, completion, event, pausing

PATIENCE = 30.0
"""Seconds for a process to start or to end on a machine that is busy with other tests."""


class Server:
    """A running ``penstock serve``."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, state: Path) -> None:
        self.process = process
        self.port = port
        self.state = state

    def stop(self) -> None:
        """Tell it to stop, as container runtimes do."""
        self.process.send_signal(signal.SIGTERM)

    async def ended(self) -> int:
        """Its exit status, once it has one."""
        async with asyncio.timeout(PATIENCE):
            return await self.process.wait()

    async def refuses(self) -> bool:
        """Whether it takes no new connections."""
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except ConnectionError:  # refused, or reset where it was still in the queue
            return True
        writer.close()
        return False

    def outcomes(self) -> list[tuple[str, str]]:
        """How each request ended, and its code, as the store holds it."""
        with closing(sqlite3.connect(self.state)) as sql:
            return sql.execute("SELECT ended, code FROM outcomes ORDER BY started_at").fetchall()


@asynccontextmanager
async def serving(folder: Path, upstream: Upstream, *, grace: int) -> AsyncIterator[tuple[Server, httpx.AsyncClient]]:
    """Run the server in a process of its own, and a client of it."""
    port = free_port()
    config, state = folder / "config.yaml", folder / "state.db"
    limits = {"enabled": False}
    document = {
        "auth": {"api_keys": [KEY]},
        "limits": limits,
        "server": {"grace": grace},
        "providers": [provider(upstream.url)],
    }
    config.write_text(json.dumps(document), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "penstock", "serve", "--port", str(port)),
        *("--config", str(config), "--state", f"sqlite:///{state}"),
        env=os.environ | {"PYTHONPATH": "functions"},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    server = Server(process, port, state)
    headers = {"authorization": f"Bearer {KEY}"}
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=PATIENCE, verify=False) as client:
            await eventually(lambda: _answers(client), PATIENCE)
            yield server, client
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _answers(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/health")).status_code == 200
    except httpx.TransportError:
        return False


@asynccontextmanager
async def streaming(client: httpx.AsyncClient) -> AsyncIterator[Live]:
    """An open stream."""
    body = {"model": MODEL, "stream": True, **CHAT}
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        yield Live(response.status_code, response.headers, pieces=response.aiter_raw())


async def test_an_open_stream_is_finished(tmp_path: Path, upstream: Upstream) -> None:
    go = asyncio.Event()
    upstream.script = pausing(go, chunk("Hello"), then=lambda call: call.piece(event(chunk(" there", "stop")) + DONE))
    async with serving(tmp_path, upstream, grace=30) as (server, client):
        async with streaming(client) as live:
            await live.until(lambda body: b"Hello" in body)
            server.stop()
            await eventually(server.refuses)
            go.set()
            await live.rest()
        assert live.ended_well()
        assert live.text == "Hello there"
        await server.ended()
        assert server.outcomes() == [("ok", "")]


async def test_an_open_plain_call_is_finished(tmp_path: Path, upstream: Upstream) -> None:
    async def script(call: Call) -> None:
        await go.wait()
        call.answer(completion())

    go = asyncio.Event()
    upstream.script = script
    async with serving(tmp_path, upstream, grace=30) as (server, client):
        asked = asyncio.ensure_future(client.post("/v1/chat/completions", json={"model": MODEL, **CHAT}))
        await upstream.call()
        server.stop()
        await eventually(server.refuses)
        go.set()
        assert (await asked).json()["choices"][0]["message"]["content"] == "Hello there"
        await server.ended()
        assert server.outcomes() == [("ok", "")]


async def test_beyond_the_grace_a_stream_ends_with_an_error_event(tmp_path: Path, upstream: Upstream) -> None:
    upstream.script = pausing(asyncio.Event(), chunk("Hello"), then=Call.finish)
    async with serving(tmp_path, upstream, grace=1) as (server, client):
        async with streaming(client) as live:
            await live.until(lambda body: b"Hello" in body)
            server.stop()
            await live.rest()
        assert live.text == "Hello"
        assert live.frames
        assert "restarted" in live.events[-1]["error"]["message"]
        assert b"[DONE]" not in live.body
        await server.ended()
        assert server.outcomes() == [("cancelled", "client_closed_request")]


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
async def test_beyond_the_grace_a_call_without_an_answer_yet_gets_an_error(
    tmp_path: Path, upstream: Upstream, stream: bool
) -> None:
    async def script(call: Call) -> None:
        await call.gone.wait()

    upstream.script = script
    async with serving(tmp_path, upstream, grace=1) as (server, client):
        body = {"model": MODEL, "stream": stream, **CHAT}
        asked = asyncio.ensure_future(client.post("/v1/chat/completions", json=body))
        await upstream.call()
        server.stop()
        answer = await asked
        assert answer.status_code == 503
        assert "restarted" in answer.json()["error"]["message"]
        await server.ended()


async def test_what_was_answered_just_before_is_in_the_ledger(tmp_path: Path, upstream: Upstream) -> None:
    upstream.script = answering(completion())
    async with serving(tmp_path, upstream, grace=30) as (server, client):
        body = {"model": MODEL, **CHAT}
        answers = await asyncio.gather(*(client.post("/v1/chat/completions", json=body) for _ in range(20)))
        server.stop()
        assert [answer.status_code for answer in answers] == [200] * 20
        await server.ended()
        assert server.outcomes() == [("ok", "")] * 20
