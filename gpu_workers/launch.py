#!/usr/bin/env python3
"""Runs one model with SGLang until it is told to end: `gpu_workers/launch.py qwen3-8b`.

Once the model has answered for the first time, one line of JSON goes to standard output; what the engine prints goes
to standard error. With `--gateway`, an agent stands beside the engine and speaks for it. SIGTERM and SIGINT drain: the
agent says that no more calls should come, and once the engine has finished those it has, it ends. A second signal ends
it at once. The exit status is the engine's.

Keys come from the environment, PENSTOCK_ENGINE_API_KEY (callers) and PENSTOCK_ENGINE_ADMIN_KEY (who may abort calls or
change weights), and appear in no process list and no log. Needs Python 3.11+ and nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent import FLEET_SECRET
from catalogue import ADMIN_KEY, CALLER_KEY, MODELS, LaunchError, Model, check_weights, command, find
from companion import Companion, beside
from engine import Engine, check_port, secret_flags

LEAVE_SECONDS = 15.0  # for a gateway to hear that the engine has ended by itself
UNSERVED_SECONDS = 10.0


@dataclass(frozen=True)
class Options:
    """What one launch was asked for; times are in seconds."""

    model: Model
    host: str
    port: int
    ready_within: float
    drain_within: float
    flags: tuple[str, ...]

    @property
    def url(self) -> str:
        """Where this machine reaches the engine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - a name for everywhere
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


class Stop:
    """The signals that end a launch: the first drains, the second kills."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.insisted = asyncio.Event()

    def __enter__(self) -> Stop:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._again)
        return self

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(number)

    def _again(self) -> None:
        (self.insisted if self.asked.is_set() else self.asked).set()


async def run(options: Options, environment: Mapping[str, str], companion: Companion) -> int:
    """Serve until a signal, or the engine's end; its exit status. Raises `LaunchError` if it never served."""
    check_weights(options.model, environment)
    check_port(options.host, options.port)
    keys = {"api-key": environment.get(CALLER_KEY, ""), "admin-api-key": environment.get(ADMIN_KEY, "")}
    secrets = {CALLER_KEY, ADMIN_KEY, FLEET_SECRET}
    inherited = {name: value for name, value in environment.items() if name not in secrets}
    started = time.monotonic()
    with Stop() as stop, contextlib.ExitStack() as ending:
        with secret_flags(keys) as secret:
            line = command(options.model, options.host, options.port, options.flags) + secret
            engine = Engine.start(line, inherited, options.url, keys["api-key"], keys.values())
            ending.callback(engine.kill)
            first_answer = await _start(engine, options, stop)
        if first_answer is None:
            return await _until_end(engine, UNSERVED_SECONDS, stop, Companion())
        _say_ready(engine, options, first_answer, time.monotonic() - started)
        await companion.joined(options.model, options.url)
        return await _until_end(engine, options.drain_within, stop, companion)


async def _start(engine: Engine, options: Options, stop: Stop) -> float | None:
    """How many seconds the first answer took; None when a signal came before it."""
    first = asyncio.create_task(_first_answer(engine, options))
    ended, asked = asyncio.create_task(engine.ended()), asyncio.create_task(stop.asked.wait())
    await asyncio.wait({first, ended, asked}, timeout=options.ready_within, return_when=asyncio.FIRST_COMPLETED)
    for task in (first, ended, asked):
        task.cancel()
    if asked.done():
        return None
    if first.done() and not (first.exception() and ended.done()):
        return first.result()
    if ended.done():
        what, status = f"ended with status {ended.result()} before it was ready", ended.result() or 1
    else:
        what, status = f"was not ready after {options.ready_within:g} s (--ready-within)", 1
    raise LaunchError(f"the engine {what}. Its last lines:\n{engine.last_lines}", status)


async def _first_answer(engine: Engine, options: Options) -> float:
    await engine.ready()
    return await engine.warm_up(options.model)


async def _until_end(engine: Engine, drain_within: float, stop: Stop, companion: Companion) -> int:
    ended, asked = asyncio.create_task(engine.ended()), asyncio.create_task(stop.asked.wait())
    await asyncio.wait({ended, asked}, return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    if ended.done():
        _say(f"the engine ended by itself with status {ended.result()}. Its last lines:\n{engine.last_lines}")
    else:
        await _drain(engine, drain_within, stop, companion, ended)
    try:
        await asyncio.wait_for(companion.left(), LEAVE_SECONDS)
    except (OSError, TimeoutError) as error:
        _say(f"the gateway could not be told that the engine has ended: {error!r}")
    return await ended


async def _drain(engine: Engine, within: float, stop: Stop, companion: Companion, ended: asyncio.Task[int]) -> None:
    """Nobody sends new calls, then the engine ends its last one: in this order, because it accepts calls to its end."""
    insisted = asyncio.create_task(stop.insisted.wait())
    leaving = asyncio.create_task(companion.leaving())
    started = time.monotonic()
    await asyncio.wait({leaving, insisted, ended}, timeout=within, return_when=asyncio.FIRST_COMPLETED)
    if not leaving.done():
        leaving.cancel()
    elif error := leaving.exception():
        _say(f"the gateway could not be told that the engine drains: {error!r}")
    engine.drain()
    left = within - (time.monotonic() - started)
    await asyncio.wait({ended, insisted}, timeout=max(left, 0.0), return_when=asyncio.FIRST_COMPLETED)
    if not ended.done():
        why = "told twice to end" if insisted.done() else f"still busy after {within:g} s"
        _say(f"the engine is killed: {why}")
        engine.kill()
    insisted.cancel()


def _say_ready(engine: Engine, options: Options, first_answer: float, total: float) -> None:
    ready = {
        "event": "ready",
        "model": options.model.name,
        "url": options.url,
        "engine_pid": engine.pid,
        "seconds": round(total, 1),
        "first_answer_seconds": round(first_answer, 2),
    }
    print(json.dumps(ready), flush=True)


def _say(message: str) -> None:
    print(f"launch: {message}", file=sys.stderr, flush=True)


def _arguments(words: list[str]) -> tuple[argparse.Namespace, tuple[str, ...]]:
    """The options, and what stands behind `--`, which is SGLang's."""
    own, flags = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    parser = argparse.ArgumentParser(
        prog="launch.py",
        description="Run one model of models.toml with SGLang. SGLang's own flags may follow after `--`, and win.",
        epilog=f"Keys: {CALLER_KEY} is what callers must present, {ADMIN_KEY} what administrators must. "
        f"With --gateway, {FLEET_SECRET} is the secret that the gateway has too.",
    )
    parser.add_argument("model", help="the name of a row in models.toml")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (127.0.0.1); 0.0.0.0 for everywhere")
    parser.add_argument("--port", type=int, default=30000, help="where to listen (30000)")
    parser.add_argument("--gateway", help="address of a gateway that an agent tells of this engine")
    parser.add_argument("--url", help="the engine as that gateway reaches it (where it listens)")
    parser.add_argument(
        "--pull", action="store_true", help="take jobs from that gateway, which cannot reach the engine"
    )
    parser.add_argument("--id", help="the worker's name there (the host's, and the port)")
    parser.add_argument("--models", type=Path, default=MODELS, help="another models.toml")
    parser.add_argument("--ready-within", type=float, metavar="SECONDS", help="give up after (the row's start_seconds)")
    parser.add_argument("--drain-within", type=float, default=300.0, metavar="SECONDS", help="kill after (300)")
    parser.add_argument("--print-command", action="store_true", help="print SGLang's command, without keys, and end")
    given = parser.parse_args(own)
    if not given.gateway and (given.url or given.id or given.pull):
        parser.error("--url, --pull and --id are what a gateway is told: give --gateway too")
    return given, tuple(flags)


def main(words: list[str]) -> int:
    """Do what the command line says; the exit status."""
    given, flags = _arguments(words)
    try:
        model = find(given.model, given.models)
        within = given.ready_within or float(model.start_seconds)
        options = Options(model, given.host, given.port, within, given.drain_within, flags)
        if given.print_command:
            print(shlex.join(command(model, options.host, options.port, flags)))
            return 0
        if not os.environ.get(CALLER_KEY) and options.url != f"http://{given.host}:{given.port}":
            _say(f"anybody who reaches port {given.port} may use this engine: set {CALLER_KEY}")
        told = Companion()
        if given.gateway:
            how = {"drain_within": options.drain_within, "pull": given.pull}
            told = beside(options.url, given.gateway, given.url, given.id, **how)
        return asyncio.run(run(options, os.environ, told))
    except LaunchError as error:
        _say(str(error))
        return error.status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
