"""The page about alerts is true: its configuration loads, and its commands do what it says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.e2e.server import KEY, ROOT, SIMULATED, Server
from tests.e2e.slack import slack

PAGE = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
SECRETS = {"SMTP_PASSWORD": "x", "DATABASE_TEAM_URL": "https://example.com/hook"}

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(not shutil.which("curl"), reason="curl is not on PATH"),
]


def blocks(kind: str) -> list[str]:
    """The page's blocks of code in a language."""
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def test_the_pages_configuration_loads_and_its_commands_run(tmp_path: Path) -> None:
    (channels,) = blocks("yaml")
    with slack() as receiver:
        section = yaml.safe_load(channels)["alerts"]
        inside = {name: value for name, value in receiver.channel.items() if name != "url"}
        section["channels"]["webhook"] |= inside
        config = f"{SIMULATED}alerts: {json.dumps(section)}\n"
        address = receiver.channel["url"]
        with Server(tmp_path, config, SLACK_WEBHOOK_URL=address, **SECRETS) as server:
            told = []
            for script in blocks("sh"):
                script = script.replace('"channels": ["log"]', '"channels": ["log", "webhook"]')
                keys = {"URL": server.url, "ADMIN_KEY": KEY, "METRICS_KEY": KEY}
                done = subprocess.run(
                    ["bash", "-ec", script], env={**os.environ, **keys}, capture_output=True, text=True, check=True
                )
                told.append(done.stdout)
        assert '"name":"high_error_rate"' in told[0]
        assert '{"object":"list","data":[],"total":0}' in told[0]
        assert [each["status"] for each in json.loads(told[1])["notifications"]] == ["sent", "sent"]
        assert receiver.told("high_error_rate") == ["alert.test"]
