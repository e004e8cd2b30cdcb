"""Ten thousand jobs of fifty clients, while servers are killed at random: every one ends, once, and is charged once.

Runs with ``PENSTOCK_TEST_LONG=1`` alone: it takes minutes. ``PENSTOCK_TEST_JOBS`` is the number of jobs,
``PENSTOCK_TEST_SEED`` throws the same dice again.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from tests.e2e.server import KEY, Server, chat

JOBS = int(os.environ.get("PENSTOCK_TEST_JOBS", "10000"))
CLIENTS, SERVERS = 50, 3
CONFIG = """\
auth: {api_keys: [test-key]}
limits: {enabled: false}
budgets: {key: {total: 1000}}
prices: [{provider: simulated, input: 1, output: 1}]
logging: {level: ERROR}
jobs: {concurrency: 16}
providers:
  - {name: simulated, type: simulated, models: [echo], options: {ttft: 0.02, tokens_per_second: 0}}
"""

pytestmark = [
    pytest.mark.skipif(os.environ.get("PENSTOCK_TEST_LONG") != "1", reason="takes minutes: PENSTOCK_TEST_LONG=1"),
    pytest.mark.timeout(3600),
]


class Fleet:
    """Servers on one state, of which now and then one is killed, and another one started in its place."""

    def __init__(self, folder: Path, dice: random.Random, stack: ExitStack) -> None:
        self._folder = folder
        self._dice = dice
        self._stack = stack
        self.kills = 0
        self.servers = [stack.enter_context(Server(folder, CONFIG)) for _ in range(SERVERS)]

    async def killed_now_and_then(self, over: asyncio.Event) -> None:
        """Kill until it is over."""
        while not over.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._dice.uniform(3.0, 10.0)):
                    await over.wait()
                    return
            place = self._dice.randrange(SERVERS)
            self.servers[place].process.send_signal(signal.SIGKILL)
            self.kills += 1
            self.servers[place] = await asyncio.to_thread(self._stack.enter_context, Server(self._folder, CONFIG))

    def url(self) -> str:
        """Where one of them answers, if it is not being killed just now."""
        return self._dice.choice(self.servers).url


async def asked(client: httpx.AsyncClient, fleet: Fleet, method: str, path: str, **options: object) -> httpx.Response:
    """Ask one server after another until one answers with what is not its own trouble."""
    while True:
        try:
            answer = await client.request(method, fleet.url() + path, **options)  # type: ignore[arg-type]
        except httpx.TransportError:
            await asyncio.sleep(0.05)
            continue
        if answer.status_code < 500:
            return answer
        await asyncio.sleep(0.05)


async def person(client: httpx.AsyncClient, fleet: Fleet, texts: list[str]) -> dict[str, str]:
    """Submit a job for each text, and then fetch every answer, twice; answers what each job said."""
    paths = []
    for text in texts:
        headers = {"prefer": "respond-async", "idempotency-key": text}
        accepted = await asked(client, fleet, "POST", "/v1/chat/completions", json=chat(text), headers=headers)
        assert accepted.status_code == 202, accepted.text
        paths.append(accepted.headers["location"])
    said = {}
    for path, text in zip(paths, texts, strict=True):
        while (polled := await asked(client, fleet, "GET", path)).status_code == 202:  # noqa: ASYNC110 - polling is what is tried
            await asyncio.sleep(1.0)  # as Retry-After says
        assert polled.status_code == 200, polled.text
        assert (await asked(client, fleet, "GET", path)).content == polled.content
        assert polled.json()["choices"][0]["message"]["content"] == f"[simulated] {text}"
        said[path.rpartition("/")[2]] = polled.json()["id"]
    return said


async def storm(folder: Path, dice: random.Random) -> tuple[dict[str, str], int]:
    """Have all jobs submitted and answered while servers die; answers them, and how many servers died."""
    with ExitStack() as stack:
        fleet = Fleet(folder, dice, stack)
        over = asyncio.Event()
        killing = asyncio.ensure_future(fleet.killed_now_and_then(over))
        shares = [[f"job-{number}" for number in range(first, JOBS, CLIENTS)] for first in range(CLIENTS)]
        headers = {"authorization": f"Bearer {KEY}"}
        async with httpx.AsyncClient(headers=headers, timeout=60, verify=False) as client:
            said = await asyncio.gather(*(person(client, fleet, share) for share in shares))
        over.set()
        await killing
        return {job: text for each in said for job, text in each.items()}, fleet.kills


async def test_every_job_ends_once_and_is_charged_once_whoever_dies(tmp_path: Path) -> None:
    seed = int(os.environ.get("PENSTOCK_TEST_SEED") or random.SystemRandom().randrange(10**9))
    began = time.monotonic()
    said, kills = await storm(tmp_path, random.Random(seed))
    print(f"PENSTOCK_TEST_SEED={seed}: {JOBS} jobs, {kills} servers killed, {time.monotonic() - began:.0f} s")
    assert len(said) == JOBS
    assert kills > 0
    with Server(tmp_path, CONFIG) as last:
        charged = Counter(str(outcome["request_id"]).partition(".")[0] for outcome in last.outcomes())
    assert charged == Counter(dict.fromkeys(said, 1))
