"""A newcomer's hour: the first answer, a client, a provider, a key with a budget that runs out, and a mistake."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.e2e.server import ROOT, Server, environment, free_port, penstock, wait_for
from tests.sdk.upstream import Upstream, upstream

LONG = bool(os.environ.get("PENSTOCK_TEST_LONG"))
CONFIG = """\
providers:
  - {name: simulated, type: simulated, models: [simulated/echo]}
  - name: vendor
    type: openai
    base_url: BASE
    api_key_env: VENDOR_API_KEY
    models: [{name: clever, upstream: good}]
prices:
  - {provider: vendor, model: "*", input: 1000, output: 1000}
"""
MESSAGES: Any = [{"role": "user", "content": "Hello!"}]

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def vendor() -> Iterator[Upstream]:
    with upstream() as running:
        yield running


def curl_line(printed: str) -> str:
    """The command that the server prints, as it stands there."""
    found = re.search(r"^Try it:\n((?: .*\n?)+)", printed, re.MULTILINE)
    assert found, printed
    return found[1]


def key_in(printed: str) -> str:
    """The key that the server prints, once."""
    (key,) = set(re.findall(r"psk-[A-Za-z0-9]+", printed))
    return key


def asked(server: Server, key: str, model: str) -> str:
    """What the official client is answered."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0) as client:
        stream = client.chat.completions.create(model=model, messages=MESSAGES, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not on PATH (Debian: apt install curl)")
def test_a_newcomers_hour(tmp_path: Path, vendor: Upstream) -> None:
    with Server(tmp_path) as server:
        wait_for(lambda: "Try it:" in server.out, "the greeting")
        said = subprocess.run(
            ["sh", "-c", curl_line(server.out)], capture_output=True, text=True, timeout=60, check=True
        )
        assert said.stdout.rstrip().endswith("data: [DONE]")
        key = key_in(server.out)
        assert asked(server, key, "simulated/echo") == "[simulated] Hello!"

    config = CONFIG.replace("BASE", vendor.url)
    with Server(tmp_path, config, port=server.port, VENDOR_API_KEY="sk-vendor") as server:
        assert asked(server, key, "clever") == "Hello", "the first key still opens, and the provider answers"
        assert {"clever", "simulated/echo"} <= set(models(server, key))
        runs_out(server)

    broken = config.replace("api_key_env:", "api_key_evn:")
    (tmp_path / "config.yaml").write_text(broken, encoding="utf-8")
    told = penstock("serve", "--config", "config.yaml", "--port", str(server.port), folder=tmp_path)
    line = broken[: broken.index("api_key_evn")].count("\n") + 1
    assert told.returncode == 2
    assert told.stderr == (
        f"penstock: config.yaml:{line}: providers.1.api_key_evn: nothing reads this key; did you mean 'api_key_env'?\n"
    )


def models(server: Server, key: str) -> list[str]:
    """What the official client lists."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=key) as client:
        return [model.id for model in client.models.list()]


def runs_out(server: Server) -> None:
    """A key with a small budget: an answer costs 12 tokens of a tenth of a cent each, and may cost 30 times that."""
    new = {"description": "for a friend", "budget": {"daily": 0.36}}
    made = httpx.post(f"{server.url}/api/v1/apikeys", json=new, verify=False)
    assert made.status_code == 201, made.text
    friend = made.json()["api_key"]
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=friend, max_retries=0) as client:

        def ask() -> None:
            client.chat.completions.create(model="clever", messages=MESSAGES, max_tokens=5)

        for _ in range(2):
            ask()
        with pytest.raises(openai.RateLimitError, match="daily budget") as refused:
            ask()
    assert (refused.value.status_code, refused.value.code) == (429, "insufficient_quota")
    metrics = httpx.get(f"{server.url}/metrics", verify=False).text
    assert re.search(r"^penstock_limits_refused_total\{[^}]*\} [1-9]", metrics, re.MULTILINE), metrics
    assert re.search(r'^penstock_cost_dollars_total\{[^}]*provider="vendor"[^}]*\} 0\.0', metrics, re.MULTILINE), (
        metrics
    )


@pytest.mark.skipif(not LONG, reason="installs into a fresh clone, for minutes: PENSTOCK_TEST_LONG=1 has it run")
@pytest.mark.timeout(900)
def test_the_hour_begins_in_a_fresh_clone(tmp_path: Path) -> None:
    clone = tmp_path / "penstock"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(clone)], check=True)
    port = free_port()
    command = ["make", "--no-print-directory", "run", f"PORT={port}"]
    own = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_", "SSL_"))}
    with open(tmp_path / "out.txt", "wb") as out:
        making = subprocess.Popen(command, cwd=clone, env=environment(**own), stdout=out, stderr=subprocess.STDOUT)
    try:
        wait_for(lambda: making.poll() is not None or is_there(port), "its server", 600)
        printed = (tmp_path / "out.txt").read_text("utf-8")
        said = subprocess.run(["sh", "-c", curl_line(printed)], capture_output=True, text=True, timeout=60, check=True)
        assert said.stdout.rstrip().endswith("data: [DONE]")
    finally:
        making.terminate()
        making.wait(60)


def is_there(port: int) -> bool:
    """Whether something listens."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False
