"""What a kept answer costs beside one that is made: CPU and time; and what ten thousand of them take of memory.

    python -m bench.cache

One connection asks gateways on SQLite the same question: without a cache, with one that has the answer (a whole one and
a stream of 400 chunks), and with one that has no room for it, in turns; the upstream answers at once. Prints ratios.
"""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
import random
import tempfile
from pathlib import Path
from statistics import median

import psutil

from bench.load import Job, Tally
from bench.rounds import plain, request_us, streamed
from bench.subjects import OFF, Fleet
from penstock.core.cache.cache import Cache

ROUNDS, SECONDS, ENTRIES, MIB = 9, 1.0, 10_000, 1024 * 1024
CACHE = f"{OFF}\ncaching: {{}}"
NEVER = f"{OFF}\ncaching: {{backend: memory, response_cache: {{max_size_mb: 0.01}}}}"
WORDS = ("the", "of", "and", "to", "that", "answer", "is", "in", "question", "for", "model", "with", "was", "be", "it")


def milliseconds(tally: Tally) -> float:
    """Wall time of each request, one after the other."""
    return tally.seconds / tally.requests * 1000


def without_chance(job: Job) -> Job:
    """The same job, whose answer may be kept."""
    job.body["temperature"] = 0
    return job


def measure(fleet: Fleet) -> None:
    """Ask in turns, and print."""
    off, hit, never = (
        fleet.gateway(name=name, limits=limits) for name, limits in (("off", OFF), ("hit", CACHE), ("never", NEVER))
    )
    for kind, job, subjects in (  # a whole answer of the upstream's is small enough for every cache
        ("whole", without_chance(plain(connections=1, seconds=SECONDS)), (off, hit)),
        (
            "stream",
            without_chance(streamed(chunks=400, pace_ms=0.0, connections=1, seconds=SECONDS)),
            (off, hit, never),
        ),
    ):
        seen: dict[str, list[Tally]] = {subject.name: [] for subject in subjects}
        for number in range(ROUNDS + 1):
            for subject in subjects:
                tally = fleet.measure(subject, job)
                if number:  # the first warms up, and fills
                    seen[subject.name].append(tally)
        for name, tallies in seen.items():
            cpu, wall = median(map(request_us, tallies)), median(map(milliseconds, tallies))
            pairs = list(zip(tallies, seen["off"], strict=True))
            of_cpu = median(request_us(one) / request_us(other) for one, other in pairs)
            of_wall = median(milliseconds(one) / milliseconds(other) for one, other in pairs)
            told = f"{cpu:.0f} µs CPU, {of_cpu:.2f} times; {wall:.2f} ms, {of_wall:.2f} times"
            print(f"{kind}, {name}: {told} a request without a cache")


async def fill(*, compression: bool) -> None:
    """Keep ten thousand answers of some 1,500 bytes each, and print what they take."""
    process, choose = psutil.Process(), random.Random(7)
    gc.collect()
    before = process.memory_info().rss
    cache = Cache("bench", room=512 * MIB, ttl=3600.0, compression=compression)
    size = 0
    for number in range(ENTRIES):
        message = {"role": "assistant", "content": " ".join(choose.choices(WORDS, k=250))}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        answer = json.dumps({"id": f"chatcmpl-{number:032x}", "model": "m", "choices": [choice]}).encode()
        size += len(answer)
        await cache.put(f"{number:064x}", answer)
    taken, told = process.memory_info().rss - before, cache.status().bytes
    how = "compressed" if compression else "as they are"
    print(
        f"{ENTRIES} answers of {size / ENTRIES:.0f} bytes, {how}: {taken / MIB:.1f} MiB of the process,"
        f" counted as {told / MIB:.1f} MiB"
    )


def fill_anew(compression: bool) -> None:
    """The same, in a process of its own: what another filling freed would be used again."""
    asyncio.run(fill(compression=compression))


def main() -> None:
    """Measure, and print."""
    for compression in (True, False):
        child = multiprocessing.get_context("spawn").Process(target=fill_anew, args=(compression,))
        child.start()
        child.join()
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name, Fleet(Path(name)) as fleet:
        measure(fleet)


if __name__ == "__main__":
    main()
