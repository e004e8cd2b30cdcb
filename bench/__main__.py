"""``python -m bench``: measure, print the page, and write it to bench/RESULTS.md."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bench import parts
from bench.parts import QUICK, Effort, Findings
from bench.report import page
from bench.rounds import warm
from bench.subjects import ROOT, Fleet, Subject

PARTS = ("plain", "chunks", "latency", "memory", "imports", "dynamodb", "limits")
RESULTS = ROOT / "bench" / "RESULTS.md"


def main() -> int:
    """Measure what the command line asks for."""
    options = _options()
    if not sys.platform.startswith("linux"):
        print("bench: this needs Linux: it pins processes to cores and reads their CPU clocks.", file=sys.stderr)
        return 2
    wanted = {
        name: value
        for name, value in (("rounds", options.rounds), ("seconds", options.seconds), ("rate", options.rate))
        if value is not None
    }
    effort = replace(QUICK if options.quick else Effort(), **wanted)
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder, Fleet(Path(folder)) as fleet:
        found = measure(fleet, effort, options.only or PARTS)
    text = page(found, effort)
    print(text)
    if options.output is not None:
        options.output.write_text(text, encoding="utf-8")
    return 0


def measure(fleet: Fleet, effort: Effort, only: tuple[str, ...] | list[str]) -> Findings:
    """Start the subjects and go through the parts."""
    found = Findings()
    gateway, hello = fleet.gateway(), fleet.hello()
    subjects = [gateway, hello, fleet.pass_through()]
    if nginx := fleet.nginx():
        subjects.append(nginx)
    else:
        print("bench: no nginx on this machine, so the budgets are not scaled to it.", file=sys.stderr)

    warm(fleet, subjects)

    def part(name: str, act: Callable[[], None]) -> None:
        if name in only:
            began = time.monotonic()
            act()
            print(f"bench: {name} took {time.monotonic() - began:.0f} s", file=sys.stderr)

    part("plain", lambda: found.plain.update(parts.measure_plain(fleet, subjects, effort)))
    part("chunks", lambda: found.chunks.update(parts.measure_chunks(fleet, subjects, effort)))
    part("latency", lambda: found.latency.update(parts.measure_latency(fleet, subjects, effort)))
    part("memory", lambda: found.memory.update(parts.measure_memory(fleet, gateway, effort)))
    if {"imports", "dynamodb"} & set(only):
        endpoint = fleet.moto()
        part("imports", lambda: found.imports.update(parts.measure_imports(endpoint, effort)))
        part("dynamodb", lambda: _dynamodb(found, fleet, gateway, endpoint, effort))
    part("limits", lambda: _limits(found, fleet, gateway, hello, effort))
    return found


def _limits(found: Findings, fleet: Fleet, gateway: Subject, hello: Subject, effort: Effort) -> None:
    found.limits = parts.measure_limits(fleet, gateway, hello, effort)
    found.admission = parts.measure_admission(effort)


def _dynamodb(found: Findings, fleet: Fleet, gateway: Subject, endpoint: str, effort: Effort) -> None:
    found.dynamodb = parts.measure_dynamodb(fleet, gateway, endpoint, effort)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute, with rough figures")
    parser.add_argument("--only", action="append", choices=PARTS, help="may be repeated (default: all parts)")
    parser.add_argument("--rounds", type=int, help=f"default: {Effort().rounds}, quick: {QUICK.rounds}")
    parser.add_argument("--seconds", type=float, help="of each subject in a round")
    parser.add_argument("--rate", type=float, help="requests a second of the latency part")
    parser.add_argument("--output", type=Path, help=f"where to write the page (default: {RESULTS.name} of a whole run)")
    options = parser.parse_args()
    if options.output is None and not options.quick and not options.only:
        options.output = RESULTS
    return options


if __name__ == "__main__":
    sys.exit(main())
