"""The parts of the benchmark: each measures one thing and answers with figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from bench import admission, imports
from bench.clock import resident_mib
from bench.rounds import Rounds, in_turns, p50_ms, p99_ms, plain, streamed, warm
from bench.subjects import DYNAMO, LIMITS, Fleet, Subject

UNPACED, NULLS = "as fast as it can", '1 ms apart, with "usage": null'
PACES = {UNPACED: 0.0, "1 ms apart": 1.0, "5 ms apart": 5.0, NULLS: 1.0}
"""Milliseconds between the chunks of a stream."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure: rounds, seconds of each subject in a round, and the sizes of the single parts."""

    rounds: int = 5
    seconds: float = 0.6
    rate: float = 100.0
    rate_seconds: float = 3.0
    streams: int = 10_000
    imports: int = 5
    chunks: int = 200
    connections: Sequence[int] = (1, 32, 128)
    paces: Sequence[str] = tuple(PACES)


QUICK = Effort(
    rounds=2, seconds=0.2, rate_seconds=1.0, streams=1_000, imports=1, chunks=50, connections=(1, 32), paces=(UNPACED,)
)


@dataclass(slots=True)
class Findings:
    """Everything that was measured; a part that was left out is empty."""

    plain: dict[int, Rounds] = field(default_factory=dict)
    chunks: dict[str, Rounds] = field(default_factory=dict)
    latency: dict[str, tuple[float, float]] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    imports: dict[bool, dict[str, tuple[float, float]]] = field(default_factory=dict)
    dynamodb: Rounds | None = None
    limits: Rounds | None = None
    admission: dict[str, tuple[float, float]] = field(default_factory=dict)


def measure_plain(fleet: Fleet, subjects: Sequence[Subject], effort: Effort) -> dict[int, Rounds]:
    """Whole answers at each number of connections, the upstream called directly among the subjects."""
    return {
        connections: in_turns(
            fleet, [*subjects, fleet.direct], plain(connections=connections, seconds=effort.seconds), effort.rounds
        )
        for connections in effort.connections
    }


def measure_chunks(fleet: Fleet, subjects: Sequence[Subject], effort: Effort) -> dict[str, Rounds]:
    """Streams on 32 connections, at each pace."""
    found = {}
    for name in effort.paces:
        job = streamed(chunks=effort.chunks, pace_ms=PACES[name], nulls=name == NULLS, seconds=effort.seconds)
        found[name] = in_turns(fleet, [*subjects, fleet.direct], job, effort.rounds)
    return found


def measure_latency(fleet: Fleet, subjects: Sequence[Subject], effort: Effort) -> dict[str, tuple[float, float]]:
    """p50 and p99 in ms at a fixed rate, from the moment at which each request was due; medians over the rounds."""
    job = plain(rate=effort.rate, seconds=effort.rate_seconds)
    rounds = in_turns(fleet, [*subjects, fleet.direct], job, effort.rounds)
    return {name: (rounds.typical(name, p50_ms), rounds.typical(name, p99_ms)) for name in rounds.tallies}


def measure_memory(fleet: Fleet, gateway: Subject, effort: Effort) -> dict[str, float]:
    """MiB that the gateway holds, before and after many streams."""
    found = {"before these streams": resident_mib(gateway.pid)}
    for count in (effort.streams // 10, effort.streams):
        fleet.measure(gateway, replace(streamed(chunks=5, pace_ms=0.0), requests=count))
        found[f"after {count:,} more"] = resident_mib(gateway.pid)
    return found


def measure_imports(dynamodb: str, effort: Effort) -> dict[bool, dict[str, tuple[float, float]]]:
    """Cold imports, with compiled files (``True``) and without."""
    return {compiled: imports.measure(dynamodb, effort.imports, compiled=compiled) for compiled in (True, False)}


def measure_dynamodb(fleet: Fleet, gateway: Subject, endpoint: str, effort: Effort) -> Rounds:
    """The gateway with its state in DynamoDB, in turns with the one on SQLite."""
    credentials: Mapping[str, str] = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    other = fleet.gateway(f"dynamodb://bench?endpoint={endpoint}", credentials, name=DYNAMO)
    warm(fleet, [other])
    return in_turns(fleet, [gateway, other], plain(seconds=effort.seconds, settle=0.5), effort.rounds)


def measure_limits(fleet: Fleet, gateway: Subject, hello: Subject, effort: Effort) -> Rounds:
    """Plain requests through gateways with limits, in turns with the one that has none and a bare uvicorn."""
    limited = [fleet.gateway(name=name, limits=limits) for name, limits in LIMITS.items()]
    warm(fleet, limited)
    return in_turns(fleet, [gateway, hello, *limited], plain(seconds=effort.seconds, settle=0.5), effort.rounds)


def measure_admission(effort: Effort) -> dict[str, tuple[float, float]]:
    """µs of CPU to admit and settle a request in process, and calls to the store for each."""
    return admission.measure(effort.rounds)
