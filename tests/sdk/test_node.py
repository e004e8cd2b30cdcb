"""The official Node client, unmodified, against a running gateway; the sentences are in node/check.mjs."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.server import KEY, Server

SOURCE = Path(__file__).parent / "node"


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="session")
def folder() -> Path:
    """A folder in the cache that holds the client, exactly as package-lock.json names it."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node and npm are not on PATH: install Node.js 20 or later to test its official client")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "penstock" / "node-sdk"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one test run installs, others wait
        wanted = (SOURCE / "package-lock.json").read_bytes()
        stamp = cache / "node_modules" / "installed.json"
        if not stamp.exists() or stamp.read_bytes() != wanted:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(SOURCE / name, cache)
            install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
            installed = run(install, cache)
            if installed.returncode != 0:
                pytest.skip(f"npm could not fetch the official Node client: {installed.stderr.strip()[-300:]}")
            stamp.write_bytes(wanted)
        shutil.copy(SOURCE / "check.mjs", cache)
    return cache


@pytest.mark.timeout(300)
def test_every_sentence_about_the_node_client_holds(folder: Path, gateway: Server) -> None:
    sentences = re.findall(r"^  async '(.+)'\(\)", (SOURCE / "check.mjs").read_text(encoding="utf-8"), re.MULTILINE)
    checked = run(["node", "check.mjs", gateway.url, KEY], folder)
    assert checked.returncode == 0, f"after {checked.stdout.splitlines()[-1:]}:\n{checked.stderr[-3000:]}"
    assert checked.stdout.splitlines() == sentences
    assert len(sentences) > 10
