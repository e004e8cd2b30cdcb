"""The examples of the proxy's document in three languages, with nothing changed but host and key."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.conftest import Serve
from tests.contract.examples import example
from tests.e2e.server import Server, environment

CONFIG = """\
limits: {gateway: {}, endpoint: {}, address: {}, key: {}}
providers:
  - name: openai
    type: simulated
    models: [{name: gpt-3.5-turbo, upstream: echo}, {name: gpt-4, upstream: echo}]
    options: {ttft: 0}
"""
TOLD = 'silent\nshow-error\nno-progress-meter\nwrite-out = "\\nSTATUS %{http_code}\\n"\n'

pytestmark = [pytest.mark.timeout(180), pytest.mark.row("P13")]


def proxy_example(title: str, server: Server) -> str:
    """An example of the document, for a gateway that listens somewhere else and has keys of its own."""
    return re.sub("your-api-key", "test-key-123", example("proxy", title).replace("http://localhost:8000", server.url))


def said_by(command: list[str], folder: Path, **variables: str) -> str:
    """What a program prints that ends well."""
    ran = subprocess.run(
        command, cwd=folder, env=environment(**variables), capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_client_in_python(serve: Serve, tmp_path: Path) -> None:
    told = said_by([sys.executable, "-c", proxy_example("### Python Client", serve(CONFIG))], tmp_path)
    assert told == "[simulated] What is the capital of France?\nSystem status: healthy\n"


@pytest.mark.skipif(not shutil.which("node"), reason="node is not on PATH (Debian: apt install nodejs)")
def test_the_client_in_javascript(serve: Serve, tmp_path: Path) -> None:
    told = said_by(["node", "-e", proxy_example("### JavaScript/Node.js Client", serve(CONFIG))], tmp_path)
    assert told == "[simulated] Explain quantum computing simply.\nStatus: healthy\n"


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not on PATH (Debian: apt install curl)")
def test_every_call_in_the_shell(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / ".curlrc").write_text(TOLD, encoding="utf-8")
    script = proxy_example("### cURL Examples", serve(CONFIG))
    told = said_by(["bash", "-e", "-c", script], tmp_path, CURL_HOME=str(tmp_path))
    calls = re.findall(r"^# (.*)$", script, re.MULTILINE)
    statuses = [int(status) for status in re.findall(r"^STATUS (\d+)$", told, re.MULTILINE)]
    assert len(calls) == len(statuses) == 11
    assert [call for call, status in zip(calls, statuses, strict=True) if status // 100 != 2] == [], told
    assert "[simulated] Hello!" in told
    assert "data: [DONE]" in told


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not on PATH (Debian: apt install curl)")
def test_the_first_steps(serve: Serve, tmp_path: Path) -> None:
    config = example("proxy", "**Create config.yaml:**").replace("your-api-key-here", "test-key-123")
    server = serve(config.replace('type: "openai"', 'type: "simulated"'), OPENAI_API_KEY="sk-none")
    told = said_by(["bash", "-e", "-c", proxy_example("**Test the API:**", server)], tmp_path)
    assert '"content":"[simulated] Hello!"' in told
