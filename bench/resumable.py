"""What a stream that can be resumed costs beside a plain one: CPU, first token, rows written.

    python -m bench.resumable

Streams of 400 tokens at 100 a second go through one gateway on SQLite, eight at once, plain and resumable in turns.
Prints ratios, and the rows of a second.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import httpx

from bench.clock import cpu_seconds
from bench.double import MODEL
from bench.subjects import Fleet, Subject

TOKENS, PACE_MS, AT_ONCE, ROUNDS = 400, 10, 8, 5
BODY = {
    "model": MODEL,
    "stream": True,
    "messages": [{"role": "user", "content": "Hello"}],
    "bench": {"chunks": TOKENS, "pace_ms": PACE_MS, "nulls": False},
}
PLAIN, RESUMABLE = "plain", "resumable"


@dataclass
class Seen:
    """CPU milliseconds for a stream, milliseconds to its first token, and seconds to its end."""

    cpu: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)


async def stream(client: httpx.AsyncClient, subject: Subject, kind: str) -> tuple[float, float]:
    """Read one stream; seconds to its first token, and to its end."""
    headers = {"authorization": f"Bearer {subject.key}", "prefer": kind}
    began, first, events = time.perf_counter(), 0.0, 0
    url = f"http://127.0.0.1:{subject.port}/v1/chat/completions"
    async with client.stream("POST", url, json=BODY, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        async for piece in response.aiter_bytes():
            first = first or time.perf_counter() - began
            events += piece.count(b"data: ")
    assert events == TOKENS + 1, events
    return first, time.perf_counter() - began


async def rounds(subject: Subject) -> dict[str, Seen]:
    """Both kinds in turns."""
    found = {PLAIN: Seen(), RESUMABLE: Seen()}
    async with httpx.AsyncClient(timeout=60, verify=False) as client:
        for number in range(ROUNDS + 1):
            for kind, seen in found.items():
                before = cpu_seconds(subject.pid)
                read = await asyncio.gather(*(stream(client, subject, kind) for _ in range(AT_ONCE)))
                await asyncio.sleep(0.3)
                if number:  # the first warms up
                    seen.cpu.append((cpu_seconds(subject.pid) - before) * 1000 / AT_ONCE)
                    seen.first += [first * 1000 for first, _ in read]
                    seen.whole += [whole for _, whole in read]
    return found


def rows(folder: Path) -> float:
    """Rows of the log for each stream."""
    with closing(sqlite3.connect(folder / "penstock" / "state.db")) as sql:
        (count, jobs) = sql.execute("SELECT count(*), count(DISTINCT job_id) FROM chunks").fetchone()
    return float(count / jobs)


def main() -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name, Fleet(Path(name)) as fleet:
        found = asyncio.run(rounds(fleet.gateway()))
        for kind, seen in found.items():
            print(f"{kind}: {median(seen.cpu):.1f} ms CPU a stream, first token after {median(seen.first):.1f} ms")
        plain, resumable = found[PLAIN], found[RESUMABLE]
        print(f"CPU: {median(resumable.cpu) / median(plain.cpu):.2f} times a plain stream")
        print(f"first token: {median(resumable.first) / median(plain.first):.2f} times a plain stream's")
        written = rows(Path(name))
        print(f"rows: {written:.1f} a stream, {written / median(resumable.whole):.1f} a second")


if __name__ == "__main__":
    main()
