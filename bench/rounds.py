"""Measuring in turns: every round loads every subject for a moment, so that a ratio compares the same moments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

from bench.double import MODEL
from bench.load import Job, Tally
from bench.subjects import Fleet, Subject

Figure = Callable[[Tally], float]


@dataclass(frozen=True, slots=True)
class Rounds:
    """The tallies of each subject, one a round."""

    tallies: Mapping[str, Sequence[Tally]]

    def __contains__(self, name: object) -> bool:
        return name in self.tallies

    def typical(self, name: str, figure: Figure) -> float:
        """The median over the rounds."""
        return median(map(figure, self.tallies[name]))

    def spread(self, name: str, figure: Figure) -> tuple[float, float]:
        """The smallest and the largest of the rounds."""
        values = [figure(tally) for tally in self.tallies[name]]
        return min(values), max(values)

    def ratio(self, name: str, to: str, figure: Figure) -> float:
        """The median of the ratios within each round."""
        pairs = zip(self.tallies[name], self.tallies[to], strict=True)
        return median(figure(one) / figure(other) for one, other in pairs)

    def added(self, name: str, over: str, to: str, figure: Figure) -> float:
        """The median of what one takes more than another within each round, as a part of a third one's."""
        threes = zip(self.tallies[name], self.tallies[over], self.tallies[to], strict=True)
        return median((figure(one) - figure(other)) / figure(third) for one, other, third in threes)


def in_turns(fleet: Fleet, subjects: Sequence[Subject], job: Job, rounds: int) -> Rounds:
    """Load every subject once a round, each round beginning with another one."""
    tallies: dict[str, list[Tally]] = {subject.name: [] for subject in subjects}
    for number in range(rounds):
        first = number % len(subjects)
        for subject in (*subjects[first:], *subjects[:first]):
            tallies[subject.name].append(fleet.measure(subject, job))
    return Rounds(tallies)


def warm(fleet: Fleet, subjects: Sequence[Subject]) -> None:
    """Let every subject do once what it will be measured at."""
    for job in (plain(requests=500), streamed(chunks=20, pace_ms=0.0, requests=64)):
        in_turns(fleet, subjects, job, 1)


def plain(**job: Any) -> Job:
    """A job of whole answers."""
    return Job(port=0, body=_body({}), **job)


def streamed(*, chunks: int, pace_ms: float, nulls: bool = False, **job: Any) -> Job:
    """A job of streams."""
    told = {"chunks": chunks, "pace_ms": pace_ms, "nulls": nulls}
    return Job(port=0, body=_body({"stream": True, "bench": told}), **job)


def _body(rest: dict[str, Any]) -> dict[str, Any]:
    messages = [{"role": "system", "content": "You are brief."}, {"role": "user", "content": "Say something. " * 20}]
    return {"model": MODEL, "messages": messages, "temperature": 0.7, "max_tokens": 256, **rest}


# figures


def request_us(tally: Tally) -> float:
    """µs of CPU for each request."""
    return tally.cpu / tally.requests * 1e6


def chunk_us(tally: Tally) -> float:
    """µs of CPU for each chunk, the stream's own beginning and end shared among its chunks."""
    return tally.cpu / tally.chunks * 1e6


def per_second(tally: Tally) -> float:
    """Requests answered in a second."""
    return tally.requests / tally.seconds


def chunks_per_second(tally: Tally) -> float:
    """Chunks delivered in a second."""
    return tally.chunks / tally.seconds


def p50_ms(tally: Tally) -> float:
    """Milliseconds within which half of the requests were answered."""
    return median(tally.latencies) * 1000


def p99_ms(tally: Tally) -> float:
    """Milliseconds within which 99 of 100 requests were answered."""
    return quantiles(tally.latencies, n=100)[98] * 1000
