"""The official Node client, unmodified, against a running gateway; the sentences are in node/check.mjs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.e2e.server import KEY, Server
from tests.node.packages import installed, run

CHECK = Path(__file__).parent / "node" / "check.mjs"


@pytest.mark.timeout(300)
def test_every_sentence_about_the_node_client_holds(gateway: Server) -> None:
    folder = installed()
    shutil.copy(CHECK, folder)
    sentences = re.findall(r"^  async '(.+)'\(\)", CHECK.read_text(encoding="utf-8"), re.MULTILINE)
    checked = run(["node", "check.mjs", gateway.url, KEY], folder)
    assert checked.returncode == 0, f"after {checked.stdout.splitlines()[-1:]}:\n{checked.stderr[-3000:]}"
    assert checked.stdout.splitlines() == sentences
    assert len(sentences) > 10
