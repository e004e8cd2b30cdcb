"""Finds the real Lambda Web Adapter, or builds it once into the cache; without cargo the reason is told."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

VERSION = "0.9.1"


def find() -> Path:
    """The adapter's program; skips the test where there is none and no cargo to build it with."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "penstock" / f"lwa-{VERSION}"
    program = cache / "bin" / "lambda-adapter"
    if program.exists():
        return program
    cargo = shutil.which("cargo")
    if cargo is None:
        pytest.skip(f"no Lambda Web Adapter in {cache} and no cargo to build it: install Rust's cargo, then run again")
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            _build(cargo, cache)
    return program


def _build(cargo: str, cache: Path) -> None:
    crate = ["lambda_web_adapter", "--version", VERSION, "--locked"]
    built = subprocess.run(
        [cargo, "install", *crate, "--quiet", "--root", str(cache)], capture_output=True, text=True, check=False
    )
    if built.returncode:
        pytest.skip(f"cargo could not build the Lambda Web Adapter: {built.stderr.strip().splitlines()[-1:]}")
