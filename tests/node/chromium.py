"""A real Chromium: the machine's own, or the one that npm has for servers without any."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.node.packages import installed, run

NAMES = ("chromium", "chromium-headless-shell", "chromium-browser", "google-chrome")
UNPACK = "import chromium from '@sparticuz/chromium'; console.log(await chromium.executablePath())"
QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking")


def chromium() -> str:
    """The program; the test is skipped where there is none that runs."""
    found = next(filter(None, map(shutil.which, NAMES)), None) or _from_npm()
    asked = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=60, check=False)
    if asked.returncode != 0:
        pytest.skip(f"{found} does not run here: {asked.stderr.strip()[-300:]}")
    return found


def _from_npm() -> str:
    folder = installed("browser")
    unpacked = run(["node", "--input-type=module", "-e", UNPACK], folder, TMPDIR=str(folder))
    if unpacked.returncode != 0:
        pytest.skip(f"Chromium from npm does not unpack here: {unpacked.stderr.strip()[-300:]}")
    return unpacked.stdout.strip()


@contextmanager
def browsing(url: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A browser that has this page open, until the block ends; what it complains of is in ``folder``."""
    command = [chromium(), *QUIET, "--remote-debugging-port=0", f"--user-data-dir={folder}/profile", url]
    with (folder / "chromium.txt").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            yield process
        finally:
            os.killpg(process.pid, 9)
            process.wait()
