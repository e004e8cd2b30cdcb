"""Cold starts: what importing each door costs in a fresh process, with and without compiled files in its folder."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from statistics import median

from bench.subjects import ROOT, clean_environment

BARE = "fastapi"
DOORS = {
    "http_api": "http_api.handler",
    "stream_api": "uvicorn, penstock.asgi, penstock.app",
    "job_runner": "job_runner.handler",
    "housekeeper": "housekeeper.handler",
}

# Lambda's own Python is always compiled: only what travels in the zip may come without its .pyc files.
_UNCOMPILED = """
import sys, sysconfig, _frozen_importlib_external as loader
inside, real = sysconfig.get_path("stdlib"), loader.cache_from_source
def cache_from_source(path, *rest, **options):
    if not path.startswith(inside) or "site-packages" in path: raise NotImplementedError
    return real(path, *rest, **options)
loader.cache_from_source = cache_from_source
"""
_MEASURE = "import time; began = time.process_time(); import {}; print(time.process_time() - began)"


def milliseconds(modules: str, environment: Mapping[str, str], *, compiled: bool) -> float:
    """Milliseconds of CPU that one import costs in a fresh process."""
    ran = subprocess.run(
        [sys.executable, "-c", ("" if compiled else _UNCOMPILED) + _MEASURE.format(modules)],
        cwd=ROOT / "functions", env=dict(environment), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if ran.returncode:
        raise RuntimeError(f"import {modules} fails:\n{ran.stderr}")
    return float(ran.stdout.splitlines()[-1]) * 1000


def measure(dynamodb: str, rounds: int, *, compiled: bool) -> dict[str, tuple[float, float]]:
    """Milliseconds, and times ``import fastapi`` of the same round, for each door; medians of the rounds."""
    environment = clean_environment() | {
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "PENSTOCK_STATE_URL": f"dynamodb://doors?endpoint={dynamodb}",
        "PENSTOCK_QUEUE_URL": "sqs://doors",
    }
    subjects = {BARE: BARE, **DOORS}
    if compiled:
        for modules in subjects.values():
            milliseconds(modules, environment, compiled=True)  # compiles what is not yet
    taken = [
        {name: milliseconds(modules, environment, compiled=compiled) for name, modules in subjects.items()}
        for _ in range(rounds)
    ]
    return {
        name: (median(one[name] for one in taken), median(one[name] / one[BARE] for one in taken)) for name in subjects
    }
