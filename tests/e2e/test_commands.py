"""The commands that look around, ask, and keep the keys."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.queues import sqlite
from tests.e2e.server import KEY, Server, chat, environment, free_port, penstock, wait_for

pytestmark = pytest.mark.timeout(240)

CONFIG = """
auth: {api_keys: [test-key]}
limits: {enabled: false}
providers:
  - {name: simulated, type: simulated, models: [echo, org/other]}
  - {name: slow, type: simulated, models: [slow], options: {tokens_per_second: 10, tokens: 10}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("server"), CONFIG) as running:
        yield running


def run(server: Server, *arguments: str, **variables: str) -> str:
    """What a command prints that succeeds and has nothing to complain about."""
    ended = penstock(*arguments, folder=server.folder, **variables)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def refusal(server: Server, *arguments: str, **variables: str) -> str:
    """The one line with which a command ends."""
    ended = penstock(*arguments, folder=server.folder, **variables)
    assert ended.returncode == 2
    assert re.fullmatch(r"penstock: [^\n]+\n", ended.stderr), ended.stderr
    return ended.stderr.removeprefix("penstock: ").rstrip("\n")


def ask(server: Server, key: str, **fields: Any) -> tuple[int, str | None]:
    """Status and message of a chat call with a key."""
    with server.client(key) as client:
        answer = client.post("/v1/chat/completions", json=chat(**fields))
        return answer.status_code, answer.json().get("detail")


# keys


def test_a_key_works_until_it_is_revoked(server: Server) -> None:
    made = run(server, "keys", "new", "--owner", "ann", "--description", "for a test", "--priority", "5")
    key, name = made.split()[:2]
    assert made == f"{key}\n{name} was made. The key is shown this once.\n"
    assert re.fullmatch(r"psk-[A-Za-z0-9]{40}", key)
    assert ask(server, key) == (200, None)

    listed = run(server, "keys", "list")
    line = next(line for line in listed.splitlines() if line.startswith(name))
    assert re.fullmatch(rf"{name}  active   \d{{4}}-\d\d-\d\d \d\d:\d\d  …{key[-4:]}  inference  ann  for a test", line)
    assert key not in listed

    assert run(server, "keys", "revoke", name) == f"{name} is revoked; every process refuses it within 5 seconds.\n"
    revoked = time.monotonic()
    told = wait_for(lambda: answer if (answer := ask(server, key))[0] != 200 else None, "the key to be refused")
    assert told == (401, "This API key has been revoked.")
    assert time.monotonic() - revoked < 6, "5 seconds, and one call"
    assert f"{name}  revoked" in run(server, "keys", "list")
    assert key not in server.err


def test_a_key_opens_what_it_was_made_for(server: Server) -> None:
    limited = run(server, "keys", "new", "--model", "org/*", "--model", "slow").split()[0]
    assert ask(server, limited, model="org/other")[0] == 200
    assert ask(server, limited) == (403, "This API key may not use the model 'echo'.")
    with server.client(limited) as client:
        assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["org/other", "slow"]

    pinned = run(server, "keys", "new", "--provider", "nobody", "--provider", "workers").split()[0]
    assert ask(server, pinned) == (404, "No provider that this API key is pinned to serves the model 'echo'.")

    meter = run(server, "keys", "new", "--scope", "metrics").split()[0]
    assert ask(server, meter) == (403, "This API key lacks the scope 'inference'.")

    slow = run(server, "keys", "new", "--limit", "requests_per_minute=1", "--limit", "burst=1").split()[0]
    assert [ask(server, slow)[0] for _ in range(2)] == [200, 429]

    poor = run(server, "keys", "new", "--budget", "total=0").split()[0]
    assert ask(server, poor)[0] == 403, "nothing can be paid without a price"

    brief = run(server, "keys", "new", "--days", "0.0000001").split()[0]
    assert ask(server, brief) == (401, "This API key has expired.")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("keys", "revoke", "key_none"), "there is no key 'key_none'; penstock keys list shows those that there are"),
        (("keys", "generate", "--length", "8"), "--length: must be from 16 to 256"),
        (("keys", "generate", "--prefix", "a b"), "--prefix: must be at most 64 letters, digits, - and _"),
        (("keys", "new", "--days", "0"), "--days: must be more than 0 and at most 36500"),
        (("keys", "new", "--days", "nan"), "--days: must be more than 0 and at most 36500"),
        (
            ("keys", "new", "--limit", "rpm=6"),
            "--limit: 'rpm=6' names none of requests_per_minute, burst, tokens_per_minute, concurrency",
        ),
        (("keys", "new", "--limit", "concurrency=x"), "--limit: 'concurrency=x' gives concurrency no number"),
        (("keys", "new", "--limit", "concurrency=0"), "--limit: concurrency: must be from 1 to 1000000000"),
        (("keys", "new", "--budget", "daily=nan"), "--budget: daily: must be from 0 to 1000000000 dollars"),
    ],
)
def test_a_command_says_what_it_cannot_do(arguments: tuple[str, ...], line: str, server: Server) -> None:
    assert refusal(server, *arguments) == line


def test_a_generated_key_is_printed_and_kept_nowhere(server: Server) -> None:
    before = run(server, "keys", "list")
    keys = [run(server, "keys", "generate", "--length", "40", "--prefix", "myservice").strip() for _ in range(2)]
    assert all(re.fullmatch(r"myservice-[A-Za-z0-9]{40}", key) for key in keys)
    assert keys[0] != keys[1]
    assert run(server, "keys", "list") == before
    assert ask(server, keys[0])[0] == 401


# looking around


def test_models_are_listed(server: Server) -> None:
    assert run(server, "models", "--config", "config.yaml") == "echo  simulated\norg/other  simulated\nslow  slow\n"


def test_doctor_says_what_is_there(server: Server) -> None:
    told = run(server, "doctor", "--config", "config.yaml").splitlines()
    assert told[0] == "configuration  config.yaml"
    assert told[1] == "state          sqlite:///.penstock/state.db: reads and writes"
    assert re.fullmatch(r"keys           \d+ active in the state, 1 configured, mode keys", told[2])
    assert told[3:5] == ["provider       simulated: reachable", "provider       slow: reachable"]
    assert told[5] == "models         echo, org/other, slow   (simulated: no engine and no provider key was found)"


def test_doctor_says_what_is_missing(server: Server) -> None:
    port = free_port()
    text = f"providers:\n  - {{name: engine, type: sglang, base_url: 'http://127.0.0.1:{port}/v1'}}\n"
    (server.folder / "broken.yaml").write_text(text, encoding="utf-8")
    ended = penstock("doctor", "--config", "broken.yaml", folder=server.folder)
    assert ended.returncode == 1
    line = f"provider       engine: 127.0.0.1:{port} cannot be reached: Connection refused"
    assert line in ended.stdout.splitlines()
    assert "models         none yet: no provider lists any (penstock doctor says why)" in ended.stdout
    assert ended.stderr == ""

    listed = penstock("models", "--config", "broken.yaml", folder=server.folder)
    assert listed.stdout == ""
    assert listed.stderr == (
        f"penstock: engine does not list its models: 127.0.0.1:{port} cannot be reached: Connection refused\n"
    )


# asking


def test_chat_prints_the_answer(server: Server) -> None:
    asking = ("chat", "Wie geht's?", "--url", server.url)
    assert run(server, *asking, PENSTOCK_API_KEY=KEY) == "[simulated] Wie geht's?\n"
    assert run(server, *asking, "--model", "org/other", API_KEYS=f"{KEY},other") == "[simulated] Wie geht's?\n"


def test_chat_prints_the_answer_as_it_comes(server: Server) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "penstock", "chat", "hi", "--model", "slow", "--url", server.url],
        env=environment(PENSTOCK_API_KEY=KEY),
        stdout=subprocess.PIPE,
    ) as asking:
        assert asking.stdout is not None
        assert asking.stdout.read(11) == b"[simulated]"
        assert asking.poll() is None, "the first word is printed long before the last"
        assert asking.stdout.read() == b" hi" + b"[simulated] hi" * 4 + b"\n"
        assert asking.wait() == 0


def test_chat_says_why_there_is_no_answer(server: Server, tmp_path: Path) -> None:
    def told(*arguments: str, **variables: str) -> str:
        return refusal(server, "chat", "hi", *arguments, **{"PENSTOCK_API_KEY": KEY, **variables})

    nobody = f"http://127.0.0.1:{free_port()}"
    assert told("--url", nobody) == (
        f"{nobody.removeprefix('http://')} cannot be reached: Connection refused: start a server with `penstock serve`,"
        " or name one with --url"
    )
    assert told("--url", "nonsense") == "--url: 'nonsense' is not an http:// or https:// address"
    assert told("--url", server.url, PENSTOCK_API_KEY="wrong") == (
        "This API key is not known here. Set PENSTOCK_API_KEY to a key of this server."
    )
    assert told("--url", server.url, "--model", "nope").startswith("The model 'nope' does not exist here")
    assert told("--url", server.url + "/elsewhere").startswith("There is nothing at /elsewhere/v1/models")


async def test_a_command_takes_no_job(tmp_path: Path) -> None:
    """What it took would wait for half a minute until a server has it."""
    (tmp_path / ".penstock").mkdir()
    queue = sqlite.connect(f"sqlite:///{tmp_path}/.penstock/state.queue.db", None)
    await queue.open()
    await queue.send("job_waiting", priority=0)
    assert penstock("models", folder=tmp_path).returncode == 0
    [message] = await queue.receive(most=1, lease=1.0, wait=0.0)
    assert (message.job_id, message.receives) == ("job_waiting", 1)
    await queue.close()
