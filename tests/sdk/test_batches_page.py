"""The example of docs/batches.md, run as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.server import KEY, ROOT, Server, environment


@pytest.mark.timeout(120)
def test_the_example_of_the_page_is_answered(gateway: Server, tmp_path: Path) -> None:
    [example] = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "batches.md").read_text(encoding="utf-8"), re.DOTALL
    )
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", example],
        cwd=tmp_path,
        env=environment(URL=gateway.url, PENSTOCK_API_KEY=KEY),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    status, *answers = ran.stdout.splitlines()
    assert status.startswith("completed BatchRequestCounts(completed=2, failed=0, total=2)")
    assert answers == [
        "question-0 [simulated] What is a weir?",
        "question-1 [simulated] What is a penstock?",
    ]
