"""The packages of npm that tests need, exactly as a package-lock.json here names them, in folders of the cache."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent


def run(command: list[str], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **variables},
    )


def installed(name: str = "clients") -> Path:
    """The folder that holds ``node_modules``; the test is skipped where it cannot be had."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node and npm are not on PATH: install Node.js 20 or later")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "penstock" / f"node-{name}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one test run installs, others wait
        wanted = (SOURCE / name / "package-lock.json").read_bytes()
        stamp = cache / "node_modules" / "installed.json"
        if not stamp.exists() or stamp.read_bytes() != wanted:
            for file in ("package.json", "package-lock.json"):
                shutil.copy(SOURCE / name / file, cache)
            install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
            done = run(install, cache)
            if done.returncode != 0:
                pytest.skip(f"npm could not fetch what tests/node/{name} names: {done.stderr.strip()[-300:]}")
            stamp.write_bytes(wanted)
    return cache
