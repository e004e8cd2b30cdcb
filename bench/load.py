"""The load: keeps connections busy, or sends at a fixed rate, and says what came back.

``python -m bench.load`` takes one ``Job`` as a line of JSON on standard input, and answers with one ``Tally`` on
standard output. A response that is not 200, or a stream without its events and ``[DONE]``, ends the process.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import httptools
import uvloop

from bench.clock import cpu_seconds

PATIENCE = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to send: to where, with which key, on how many connections, until ``seconds`` or ``requests`` are full.

    With ``rate`` (requests per second) a request is due at its time whatever became of those before, and its latency
    counts from then. ``pid`` is the process whose CPU time is read before and after, each time once it had ``settle``
    seconds to finish what it does behind its answers: a ledger that is written later is part of a request's cost.
    """

    port: int
    body: dict[str, Any]
    key: str = ""
    connections: int = 32
    seconds: float = 1.0
    requests: int | None = None
    rate: float | None = None
    pid: int | None = None
    settle: float = 0.15


@dataclass(slots=True, kw_only=True)
class Tally:
    """What came back: requests and chunks answered, wall and CPU seconds, and the latencies of a fixed rate."""

    requests: int = 0
    chunks: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    latencies: list[float] = field(default_factory=list)


class Client(asyncio.Protocol):
    """One connection: sends the request when told, and calls ``answered`` when its whole response is there."""

    def __init__(self, request: bytes, chunks: int, answered: Callable[[Client], None]) -> None:
        self._request = request
        self._expected = chunks
        self.answered = answered
        self.due = 0.0
        self.chunks = 0
        self.failed: Callable[[Exception], None] = _raise
        self._transport: asyncio.Transport
        self._parser = httptools.HttpResponseParser(self)
        self._tail = b""
        self._events = 0

    def send(self) -> None:
        """Send one request."""
        self._transport.write(self._request)

    def close(self) -> None:
        """Close the connection."""
        self.failed = lambda _: None
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        self.failed(ConnectionError(f"the server closed a connection: {exc}"))

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        data = self._tail + data
        self._tail = data[-5:]  # shorter than "data: ", so that no event is counted twice
        self._events += data.count(b"data: ")

    def on_message_complete(self) -> None:
        status, events = self._parser.get_status_code(), self._events
        self._tail, self._events = b"", 0
        if status != 200:
            self.failed(ConnectionError(f"an answer came with status {status}"))
        elif events != (self._expected and self._expected + 1):
            self.failed(ConnectionError(f"a stream of {self._expected} chunks came with {events} events"))
        else:
            self.chunks += self._expected
            self.answered(self)


def _raise(error: Exception) -> None:
    raise error


class Run:
    """One job on one event loop."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._tally = Tally()
        self._idle: deque[Client] = deque()
        self._waiting: deque[float] = deque()
        self._open = 0
        self._end = float("inf")
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> Tally:
        """Open the connections, warm each with one request, then measure."""
        job, loop = self._job, asyncio.get_running_loop()
        request, chunks = _request(job), job.body["bench"]["chunks"] if job.body.get("stream") else 0
        clients: list[Client] = []
        for _ in range(job.connections):
            _, client = await loop.create_connection(
                lambda: Client(request, chunks, self._warmed), "127.0.0.1", job.port
            )
            client.failed = self._fail
            clients.append(client)
        self._open = len(clients)
        for client in clients:
            client.send()
        await self._finished()
        cpu = await self._cpu()
        began = time.perf_counter()
        await (self._at_a_rate(clients, job.rate) if job.rate else self._back_to_back(clients))
        tally = self._tally
        tally.seconds = time.perf_counter() - began
        tally.cpu = await self._cpu() - cpu
        tally.chunks = sum(client.chunks for client in clients)
        for client in clients:
            client.close()
        return tally

    async def _cpu(self) -> float:
        if self._job.pid is None:
            return 0.0
        await asyncio.sleep(self._job.settle)
        return cpu_seconds(self._job.pid)

    async def _finished(self) -> None:
        async with asyncio.timeout(PATIENCE + self._job.seconds):
            await self._done
        self._done = asyncio.get_running_loop().create_future()

    def _finish(self) -> None:
        if not self._done.done():
            self._done.set_result(None)

    def _fail(self, error: Exception) -> None:
        if not self._done.done():
            self._done.set_exception(error)

    def _warmed(self, client: Client) -> None:
        client.chunks = 0
        self._open -= 1
        if not self._open:
            self._finish()

    # each connection sends as soon as it has its answer

    async def _back_to_back(self, clients: list[Client]) -> None:
        self._open = len(clients)
        self._end = time.perf_counter() + self._job.seconds
        for client in clients:
            client.answered = self._again
            client.send()
        await self._finished()

    def _again(self, client: Client) -> None:
        tally, wanted = self._tally, self._job.requests
        tally.requests += 1
        if (time.perf_counter() < self._end) if wanted is None else (tally.requests + self._open <= wanted):
            client.send()
            return
        self._open -= 1
        if not self._open:
            self._finish()

    # a request is due at its time

    async def _at_a_rate(self, clients: list[Client], rate: float) -> None:
        self._idle.extend(clients)
        for client in clients:
            client.answered = self._in_time
        self._open = round(self._job.seconds * rate)
        loop = asyncio.get_running_loop()
        # A thread, because the loop's own timers are whole milliseconds.
        threading.Thread(target=self._tick, args=(loop, rate, self._open), daemon=True).start()
        await self._finished()

    def _tick(self, loop: asyncio.AbstractEventLoop, rate: float, count: int) -> None:
        began = time.perf_counter() + 0.01
        for number in range(count):
            due = began + number / rate
            while (early := due - time.perf_counter()) > 0:
                time.sleep(early)
            loop.call_soon_threadsafe(self._issue, due)

    def _issue(self, due: float) -> None:
        if not self._idle:
            self._waiting.append(due)
            return
        client = self._idle.popleft()
        client.due = due
        client.send()

    def _in_time(self, client: Client) -> None:
        tally = self._tally
        tally.requests += 1
        tally.latencies.append(time.perf_counter() - client.due)
        if self._waiting:
            client.due = self._waiting.popleft()
            client.send()
        else:
            self._idle.append(client)
        if tally.requests == self._open:
            self._finish()


def _request(job: Job) -> bytes:
    body = json.dumps(job.body, separators=(",", ":")).encode()
    lines = (
        "POST /v1/chat/completions HTTP/1.1",
        "host: 127.0.0.1",
        "content-type: application/json",
        f"authorization: Bearer {job.key or 'none'}",
        f"content-length: {len(body)}",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def _run(job: Job) -> Tally:
    return await Run(job).run()


def main() -> None:
    """Serve jobs until standard input ends."""
    for line in sys.stdin:
        tally = uvloop.run(_run(Job(**json.loads(line))))
        print(json.dumps(asdict(tally)), flush=True)


if __name__ == "__main__":
    main()
