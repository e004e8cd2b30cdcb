"""The findings as a page: ratios first, because they hold on other machines too."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.imports import BARE
from bench.parts import UNPACED, Effort, Findings
from bench.rounds import Figure, Rounds, chunk_us, chunks_per_second, per_second, request_us
from bench.subjects import DIRECT, DYNAMO, GATEWAY, HELLO, LIMITS, NGINX, PASS_THROUGH, ROOT

REFERENCES = (HELLO, PASS_THROUGH, NGINX)
BUDGET_REQUEST, BUDGET_CHUNK, BUDGET_MEMORY = 250, 10, 90
NGINX_THERE = 17.0
"""µs of CPU that nginx took for a plain request on the machine on which the budgets were set."""


def page(found: Findings, effort: Effort) -> str:
    """The whole page, in Markdown."""
    parts = [
        _title(effort),
        _ratios(found),
        _budgets(found),
        _requests(found),
        _chunks(found),
        _latency(found, effort),
        _memory(found),
        _imports(found),
        _dynamodb(found),
        _limits(found),
        _method(),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _title(effort: Effort) -> str:
    return f"""# Results

Written by `make bench` on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, of commit {_commit()}.
{_machine()}.
{effort.rounds} rounds of {effort.seconds:g} s for each subject and part; figures are medians over the rounds."""


def _machine() -> str:
    model = "an unknown processor"
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"Linux {platform.release().split('-')[0]}, Python {platform.python_version()}"
    busy = f"load average {os.getloadavg()[2]:.1f} over the last 15 minutes"
    return f"Machine: {model}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB, {system}, {busy}"


def _commit() -> str:
    def git(*words: str) -> str:
        ran = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
        return ran.stdout.strip()

    changed = git("status", "--porcelain", "--", "functions")
    return f"`{git('rev-parse', '--short', 'HEAD') or 'unknown'}`" + (" with changes not committed" if changed else "")


# the comparison


def _ratios(found: Findings) -> str:
    rows = [
        (name, rounds, figure)
        for name, rounds, figure in (
            *((f"a plain request, {_connections(c)}", r, request_us) for c, r in found.plain.items()),
            *((f"a chunk, {pace}", r, chunk_us) for pace, r in found.chunks.items()),
        )
    ]
    if not rows:
        return ""
    present = [name for name in REFERENCES if name in rows[0][1]]
    table = _table(
        ["CPU of Penstock for", *(f"of {name}" for name in present)],
        [
            [name, *(f"{rounds.ratio(GATEWAY, other, figure):.2f} ×" for other in present)]
            for name, rounds, figure in rows
        ],
    )
    return f"""## Ratios

How many times the CPU time of a reference Penstock takes, with a key looked up, a request id, the ledger in SQLite and
the log on. `{HELLO}` answers from memory and calls nobody; `{PASS_THROUGH}` and `{NGINX}` forward without any of that.

{table}"""


def _budgets(found: Findings) -> str:
    if 32 not in found.plain or NGINX not in found.plain[32]:
        return ""
    rounds = found.plain[32]
    slower = rounds.typical(NGINX, request_us) / NGINX_THERE
    request = rounds.typical(GATEWAY, request_us) / slower
    rows = [["a plain request, 32 connections", f"≤ {BUDGET_REQUEST} µs", f"{request:.0f} µs"]]
    for pace, streams in found.chunks.items():
        chunk = streams.typical(GATEWAY, chunk_us) / slower
        rows.append([f"a relayed chunk, {pace}", f"≤ {BUDGET_CHUNK} µs" if pace == UNPACED else "", f"{chunk:.1f} µs"])
    if found.memory:
        rows.append(["resident memory", f"≤ {BUDGET_MEMORY} MiB", f"{max(found.memory.values()):.0f} MiB"])
    return f"""## Budgets

The budgets were set on a machine where nginx takes {NGINX_THERE:g} µs for a plain request. Here it takes
{slower:.2f} times that, and the times below are divided by it: an estimate, as machines differ in more ways than one.
The budget of a chunk is held against chunks sent without pauses. With pauses each chunk wakes the process, which costs
more than to pass it on. How many chunks one read brings depends on how busy the machine is: from run to run that moves
the figures of chunks by half, and nginx's from 4 to 14 µs.

{_table(["", "budget", "here"], rows)}"""


# each part


def _cells(rounds: Rounds, name: str, figure: Figure, form: str) -> str:
    low, high = rounds.spread(name, figure)
    return f"{rounds.typical(name, figure):{form}} ({low:{form}}-{high:{form}})"


def _connections(count: int) -> str:
    return f"{count} connection{'s' if count > 1 else ''}"


def _servers(rounds: Rounds) -> list[str]:
    return [name for name in (GATEWAY, *REFERENCES) if name in rounds]


def _requests(found: Findings) -> str:
    if not found.plain:
        return ""
    first = next(iter(found.plain.values()))
    connections = [_connections(count) for count in found.plain]
    cpu = [
        [name, *(_cells(rounds, name, request_us, ".0f") for rounds in found.plain.values())]
        for name in _servers(first)
    ]
    rates = [
        [name, *(_cells(rounds, name, per_second, ".0f") for rounds in found.plain.values())]
        for name in (DIRECT, *_servers(first))
    ]
    return f"""## Plain requests

µs of CPU for each request, all threads of the server's process (smallest and largest round):

{_table(["", *connections], cpu)}

Requests a second, the server on one core, the load and the upstream together on the others:

{_table(["", *connections], rates)}"""


def _chunks(found: Findings) -> str:
    if not found.chunks:
        return ""
    first = next(iter(found.chunks.values()))
    cpu = [
        [pace, *(_cells(rounds, name, chunk_us, ".1f") for name in _servers(first))]
        for pace, rounds in found.chunks.items()
    ]
    rates = [
        [pace, *(f"{rounds.typical(name, chunks_per_second):,.0f}" for name in (DIRECT, *_servers(first)))]
        for pace, rounds in found.chunks.items()
    ]
    return f"""## Streamed chunks

µs of CPU for each chunk, the stream's own request shared among its chunks; 32 streams at a time:

{_table(["", *_servers(first)], cpu)}

Chunks a second:

{_table(["", DIRECT, *_servers(first)], rates)}"""


def _latency(found: Findings, effort: Effort) -> str:
    if not found.latency:
        return ""
    p50, p99 = found.latency[DIRECT]
    rows = [[DIRECT, f"{p50:.2f}", f"{p99:.2f}", "", ""]] + [
        [name, f"{a:.2f}", f"{b:.2f}", f"{a - p50:+.2f}", f"{b - p99:+.2f}"]
        for name, (a, b) in found.latency.items()
        if name != DIRECT
    ]
    return f"""## Latency at {effort.rate:g} requests a second

Milliseconds from the moment at which a request was due, so that a stall counts against every request it delays:

{_table(["", "p50", "p99", "added p50", "added p99"], rows)}"""


def _memory(found: Findings) -> str:
    if not found.memory:
        return ""
    rows = [[moment, f"{mib:.1f}"] for moment, mib in found.memory.items()]
    return f"## Memory\n\nMiB resident in the gateway, measured after the parts above:\n\n{_table(['', 'MiB'], rows)}"


def _imports(found: Findings) -> str:
    if not found.imports:
        return ""
    rows = [
        [f"`import {BARE}`" if name == BARE else name]
        + [
            f"{found.imports[compiled][name][0]:.0f} ms ({found.imports[compiled][name][1]:.2f} ×)"
            for compiled in (True, False)
        ]
        for name in found.imports[True]
    ]
    return f"""## Cold imports

CPU milliseconds in a fresh process, and times `import {BARE}` in the same round:

{_table(["", "with .pyc", "without .pyc"], rows)}"""


def _dynamodb(found: Findings) -> str:
    if found.dynamodb is None:
        return ""
    rounds = found.dynamodb
    ratio = rounds.ratio(DYNAMO, GATEWAY, request_us)
    rows = [
        [name, _cells(rounds, name, request_us, ".0f"), f"{rounds.typical(name, per_second):.0f}"]
        for name in (GATEWAY, DYNAMO)
    ]
    return f"""## State in DynamoDB

Plain requests on 32 connections, the tables in moto's server: {ratio:.2f} times the CPU of SQLite.

{_table(["", "µs of CPU", "requests/s"], rows)}"""


def _limits(found: Findings) -> str:
    if found.limits is None:
        return ""
    rounds = found.limits
    rows = [["off", _cells(rounds, GATEWAY, request_us, ".0f"), "1.00 ×", "", ""]]
    for name in LIMITS:
        ratio, added = rounds.ratio(name, GATEWAY, request_us), rounds.added(name, GATEWAY, HELLO, request_us)
        more = rounds.typical(name, request_us) - rounds.typical(GATEWAY, request_us)
        rows.append(
            [name, _cells(rounds, name, request_us, ".0f"), f"{ratio:.2f} ×", f"{more:+.0f}", f"{added:+.2f} ×"]
        )
    alone = [[name, f"{us:.1f}", f"{calls:.4f}"] for name, (us, calls) in found.admission.items()]
    return f"""## Limits

Plain requests on 32 connections through a gateway with limits that refuse nothing, state in SQLite; one address and one
key, as fast as it can, so that a block lasts for some thousand requests.

{_table(["", "µs of CPU", "of off", "µs more", f"more, of {HELLO}"], rows)}

Admission alone, in process over a store in memory, one request after the other: finding its terms and its need, reserve
and settle.

{_table(["", "µs of CPU", "calls to the store"], alone)}"""


def _method() -> str:
    return """## How

Every subject is a process of its own, pinned to the first core; the upstream and the load share the others. In each
round every subject is loaded once for a moment, and each round begins with another one; ratios are taken within a
round. CPU time is the kernel's clock of the server's process, all its threads included, read by the load after its
connections have warmed. The upstream answers at once from memory. Requests/s and latencies are wall time and suffer
from whatever else the machine does; CPU time suffers less, ratios least."""
