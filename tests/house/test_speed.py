"""What a request, a chunk and a process cost, as ratios to a bare uvicorn measured in turns with it on this machine.

CPU time is compared and never wall time, so that a busy machine fails no test; what it adds to CPU time comes and goes,
while a slower gateway stays slow: a ratio counts when it is too high in three series. ``make bench`` tells more.

Uvicorn is mostly C and system calls, a gateway mostly Python, and machines differ in what of both they are good at:
where uvicorn takes 19 µs for a request (an Intel Xeon), the same gateway takes 7.8 times that, though only 148 µs. So a
ratio over its ceiling is forgiven while the time itself is within what the
ceiling comes to with ``UVICORN``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from bench.clock import resident_mib
from bench.load import Job
from bench.rounds import Figure, chunk_us, in_turns, plain, request_us, streamed, warm
from bench.subjects import GATEWAY, HELLO, LEASED_MONEY, LIMITS, Fleet, Subject

SERIES, ROUNDS = 3, 7

UVICORN = {request_us: 42.0, chunk_us: 5.3}
"""µs of CPU that a bare uvicorn takes on the machine where the budgets were set, by bench/RESULTS.md."""

# So 250 µs are 5.9 times uvicorn; seen were 3.4 to 5.0, and 4.4 to 5.7 since a request is routed by
# policy and each attempt has a bill. Since models have limits and requests may be named by a key, 5.1 to 6.0 were seen:
# the ceiling is 260 µs.
REQUEST = 6.2

# And 10 µs for a chunk of a stream without pauses are 1.9 times uvicorn; seen were 0.7 to 1.6.
CHUNK = 1.7

# What limits add to a request where three meters' permits, tokens and money come out of leased blocks, nine headers of
# its answer included; seen were 1.4 to 1.9 on a busy machine. A sixth is kept.
LIMITED = 2.2

MEMORY = 90
"""MiB. Seen: 62."""

pytestmark = [
    pytest.mark.alone,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the CPU clocks of other processes: Linux"),
]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("speed")) as started:
        yield started


@pytest.fixture(scope="module")
def subjects(fleet: Fleet) -> list[Subject]:
    started = [fleet.gateway(), fleet.hello()]
    warm(fleet, started)
    return started


def cost(fleet: Fleet, subjects: list[Subject], job: Job, figure: Figure, ceiling: float) -> float:
    """The gateway's CPU time as a multiple of a bare uvicorn's: of the first series under the ceiling, or the least."""
    seen = []
    for _ in range(SERIES):
        rounds = in_turns(fleet, subjects, job, ROUNDS)
        spent = rounds.typical(GATEWAY, figure)
        seen.append(min(rounds.ratio(GATEWAY, HELLO, figure), spent / UVICORN[figure]))
        print(f"{rounds.ratio(GATEWAY, HELLO, figure):.2f} times a bare uvicorn, {spent:.1f} µs of CPU")
        if seen[-1] <= ceiling:
            break
    return min(seen)


def test_a_plain_request_costs_little_more_than_its_server(fleet: Fleet, subjects: list[Subject]) -> None:
    ratio = cost(fleet, subjects, plain(seconds=0.2), request_us, REQUEST)
    assert ratio <= REQUEST, f"a request takes {ratio:.2f} times a bare uvicorn's CPU, allowed are {REQUEST}"


def test_limits_out_of_leased_blocks_add_little_to_a_request(fleet: Fleet, subjects: list[Subject]) -> None:
    limited = fleet.gateway(name=LEASED_MONEY, limits=LIMITS[LEASED_MONEY])
    warm(fleet, [limited])
    seen = []
    for _ in range(SERIES):
        rounds = in_turns(fleet, [*subjects, limited], plain(seconds=0.2), ROUNDS)
        added = rounds.added(LEASED_MONEY, GATEWAY, HELLO, request_us)
        spent = rounds.typical(LEASED_MONEY, request_us) - rounds.typical(GATEWAY, request_us)
        seen.append(min(added, spent / UVICORN[request_us]))
        print(f"{added:.2f} times a bare uvicorn more, {spent:.1f} µs of CPU")
        if seen[-1] <= LIMITED:
            break
    assert min(seen) <= LIMITED, f"limits add {min(seen):.2f} times a bare uvicorn's CPU, allowed are {LIMITED}"


def test_a_relayed_chunk_costs_no_more_than_one_made_on_the_spot(fleet: Fleet, subjects: list[Subject]) -> None:
    ratio = cost(fleet, subjects, streamed(chunks=400, pace_ms=0.0, seconds=0.1), chunk_us, CHUNK)
    assert ratio <= CHUNK, f"a chunk takes {ratio:.2f} times a bare uvicorn's CPU, allowed are {CHUNK}"


def test_the_gateway_stays_small_under_load(fleet: Fleet, subjects: list[Subject]) -> None:
    gateway = next(subject for subject in subjects if subject.name == GATEWAY)
    fleet.measure(gateway, plain(connections=128, requests=4_000))
    held = resident_mib(gateway.pid)
    assert held <= MEMORY, f"the gateway holds {held:.0f} MiB, allowed are {MEMORY}"
