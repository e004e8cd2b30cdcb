"""Three real engines behind one gateway under load: one has a short queue, one is killed, one is drained.

    python -m bench.three_engines
    python -m bench.three_engines --router-command 'sglang-router launch --port {port} --worker-urls {workers}'

Each engine is `gpu_workers/launch.py tiny`, with an agent where Penstock is the gateway. While callers go on, engine
"short" runs one call at a time and lets two wait, and engine "killed" is killed with -9; once that is started again
and back, engine "drained" is, by SIGTERM to its launcher, after a router was told by its own interface. At every moment
one engine is healthy and has room. Prints a row of the table in docs/routing.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import httpx

from bench.callers import BROKEN, CUT, FAILED, FALSE, WHOLE, Callers, Ended, p50_p95, reasons
from bench.subjects import ROOT, free_port

LAUNCH = ROOT / "gpu_workers" / "launch.py"
KEY = "bench-key"
SECRET = "a-secret-of-the-bench-fleet"
CONFIG = f"auth: {{api_keys: [{KEY}]}}\nlimits: {{enabled: false}}\nproviders: []\n"
START_SECONDS = 600.0
MODEL = "tiny"
SHORT = ("--max-running-requests", "1", "--max-queued-requests", "2")
HEAD = (
    "| | calls | whole | failed | cut with an error | broken off | false success | p50 | p95 | first token p50 | p95 |"
)


def until(condition: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    """Wait until it is so."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.1)


class Worker:
    """One launch of the tiny model; ``words`` are the launcher's, ``flags`` SGLang's."""

    def __init__(self, folder: Path, name: str, words: tuple[str, ...] = (), flags: tuple[str, ...] = ()) -> None:
        self.name = name
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._words, self._flags = words, flags
        self._out, self._err = folder / f"{name}.out", folder / f"{name}.err"
        self.start()

    def start(self) -> None:
        """Launch it, for the first time or anew."""
        words = [sys.executable, str(LAUNCH), MODEL, "--port", str(self.port), *self._words, "--", *self._flags]
        with open(self._out, "wb") as out, open(self._err, "ab") as err:
            self._process = subprocess.Popen(
                words, env={**os.environ, "PENSTOCK_FLEET_SECRET": SECRET}, stdout=out, stderr=err
            )

    def ready(self) -> bool:
        """Whether its model has answered."""
        if self._process.poll() is not None:
            last = self._err.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise RuntimeError(f"{self.name} ended with {self._process.returncode}:\n{last}")
        return self._out.read_bytes().endswith(b"\n")

    def kill(self) -> None:
        """Kill the engine, as a machine does that fails; its launcher ends by that."""
        os.killpg(json.loads(self._out.read_bytes())["engine_pid"], signal.SIGKILL)
        self._process.wait(60)

    def drain(self) -> None:
        """Have it end what it has, and end."""
        self._process.terminate()

    def ended(self) -> bool:
        """Whether launcher and engine are no more."""
        return self._process.poll() is not None

    def end(self) -> None:
        """End it, whatever it does."""
        for _ in range(2):
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                continue
        self._process.wait(30)


class Gateway:
    """Penstock, or a router in its place."""

    def __init__(self, folder: Path, router: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder, self._router = folder, router
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """What a launcher is told of it."""
        return () if self._router else ("--gateway", self.url)

    def start(self, workers: list[Worker]) -> None:
        """Start it in front of these workers, and wait until all are in use."""
        line = [sys.executable, "-m", "penstock", "serve", "--port", str(self.port), "--config", "config.yaml"]
        if self._router:
            told = self._router.format(port=self.port, workers=" ".join(worker.url for worker in workers))
            line = shlex.split(told)
        (self._folder / "config.yaml").write_text(CONFIG, encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "functions"), "PENSTOCK_FLEET_SECRET": SECRET}
        with open(self._folder / "gateway.log", "wb") as log:
            self._process = subprocess.Popen(line, cwd=self._folder, env=environment, stdout=log, stderr=log)
        until(lambda: self.knows(workers), "the gateway to know its workers")

    def knows(self, workers: list[Worker]) -> bool:
        """Whether it would send calls to all of them."""
        listed = self._workers()
        return all(self._is_well(listed.get(worker.url, {})) for worker in workers)

    def _is_well(self, worker: dict[str, object]) -> bool:
        return bool(worker.get("is_healthy")) if self._router else worker.get("state") in ("ready", "busy")

    def _workers(self) -> dict[str, dict[str, object]]:
        headers = {"authorization": f"Bearer {KEY}"}
        path = "/workers" if self._router else "/v1/workers"
        try:
            told = httpx.get(f"{self.url}{path}", headers=headers, timeout=10).json()
        except httpx.TransportError:
            return {}
        return {worker["url"]: worker for worker in told["workers" if self._router else "data"]}

    def take_out(self, worker: Worker) -> None:
        """Have a router send it nothing more, as its interface offers; Penstock hears it from the agent."""
        if self._router:
            httpx.delete(f"{self.url}/workers/{self._workers()[worker.url]['id']}", timeout=30).raise_for_status()
            until(lambda: worker.url not in self._workers(), "the router to forget the worker")

    def end(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)


async def proof(gateway: Gateway, workers: list[Worker], callers: int, calls: int) -> list[Ended]:
    """Load the gateway while one engine is killed, and, once that is back, while another is drained."""
    _, killed, drained = workers
    async with Callers(gateway.url, KEY, MODEL, callers) as crowd:
        await crowd.go_on(calls)
        say(crowd, "an engine is killed")
        await asyncio.to_thread(killed.kill)
        await crowd.go_on(calls)
    say(crowd, "it is started again")
    killed.start()
    until(killed.ready, "the killed engine to come back")
    until(lambda: gateway.knows(workers), "the gateway to know it again")
    async with Callers(gateway.url, KEY, MODEL, callers) as again:
        await again.go_on(calls)
        say(again, "another is drained")
        await asyncio.to_thread(gateway.take_out, drained)
        drained.drain()
        await again.go_on(calls)
        await asyncio.to_thread(until, drained.ended, "the drained engine to end")
        say(again, "it has ended")
        await again.go_on(calls // 2)
    return crowd.calls + again.calls


def say(crowd: Callers, what: str) -> None:
    """Tell the person who waits how far it is."""
    print(f"bench: {len(crowd.calls)} calls, {len(crowd.having(WHOLE))} whole: {what}", file=sys.stderr, flush=True)


def row(name: str, calls: list[Ended]) -> str:
    """A row of the table, in seconds."""
    counts = Counter(call.how for call in calls)
    whole = [call for call in calls if call.how == WHOLE]
    figures = (*p50_p95([call.seconds for call in whole]), *p50_p95([call.first for call in whole if call.first]))
    cells = [name, len(calls), *(counts[how] for how in (WHOLE, FAILED, CUT, BROKEN, FALSE))]
    return f"| {' | '.join(map(str, cells))} | {' | '.join(f'{value:.2f} s' for value in figures)} |"


def main() -> int:
    """Go through it once, and print the row and why calls were lost."""
    parser = argparse.ArgumentParser(prog="python -m bench.three_engines", description=__doc__.split("\n")[0])
    parser.add_argument("--router-command", default="", help="a router in place of Penstock: {port} and {workers}")
    parser.add_argument("--callers", type=int, default=12)
    parser.add_argument("--calls", type=int, default=150, help="in each part of the run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="penstock-three-") as name, ExitStack() as ending:
        folder = Path(name)
        gateway = Gateway(folder, options.router_command)
        ending.callback(gateway.end)
        if not options.router_command:
            gateway.start([])
        workers = []
        for worker, flags in (("short", SHORT), ("killed", ()), ("drained", ())):
            workers.append(Worker(folder, worker, gateway.words, flags))
            ending.callback(workers[-1].end)
            until(workers[-1].ready, f"the engine {worker!r}")
        if options.router_command:
            gateway.start(workers)
        until(lambda: gateway.knows(workers), "the gateway to know its workers")
        ended = asyncio.run(proof(gateway, workers, options.callers, options.calls))
    print(HEAD + "\n|" + " --- |" + " ---: |" * 10)
    print(row(shlex.split(options.router_command)[0] if options.router_command else "penstock", ended))
    for reason, times in reasons(ended).most_common():
        print(f"{times:5d} {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
