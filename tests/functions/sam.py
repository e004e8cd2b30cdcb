"""The SAM CLI and the emulator of AWS, as `make` installs them into environments of their own."""

from __future__ import annotations

import fcntl
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests.functions import template

SAM = Path(".venv/sam/bin/sam")
EMULATOR = Path(".venv/emulator/bin/python")
ARCHITECTURE = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}[platform.machine().lower()]
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
ENVIRONMENT = {**os.environ, "MAKEFLAGS": "", "SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": "us-east-1"}

needed = pytest.mark.skipif(
    Path(sys.prefix) != template.ROOT / ".venv", reason="make's own .venv is not what runs this: run `make test`"
)


def install(*programs: Path) -> None:
    """Have them there, installed once for all the processes that run tests; skips the test where they cannot be had."""
    with (template.ROOT / ".venv" / "sam.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = subprocess.run(
            ["make", "--no-print-directory", *map(str, programs)],
            cwd=template.ROOT,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )
    if made.returncode:
        pytest.skip(f"{' and '.join(map(str, programs))} cannot be installed here: {made.stderr.strip()[-500:]}")
