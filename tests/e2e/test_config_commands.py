"""``penstock config``: what is wrong with a file, all of it; what editors know of it; what functions follow."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator

from tests.e2e.server import ROOT, Server, chat, penstock, wait_for

PUBLISHED = ROOT / "docs/config.schema.json"
ECHO = """\
auth: {api_keys: [test-key]}
limits: {enabled: false}
providers:
  - {name: NAME, type: simulated, models: [echo], options: {ttft: 0}}
"""


def test_every_mistake_is_told_in_the_order_of_lines(tmp_path: Path) -> None:
    text = "server: {prot: 1}\nrouting: {policy: best}\nrequest:\n  timeout: soon\n"
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    ended = penstock("config", "check", "config.yaml", folder=tmp_path)
    assert ended.returncode == 1
    first, second, third = ended.stderr.splitlines()
    assert first == "config.yaml:1: server.prot: nothing reads this key; did you mean 'port'?"
    assert second.startswith("config.yaml:2: routing.policy: must be 'affinity', ")
    assert third == "config.yaml:4: request.timeout: must be a number"


def test_a_good_file_is_said_to_be_good(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(ECHO, encoding="utf-8")
    ended = penstock("config", "check", "config.yaml", folder=tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "config.yaml is good\n")


def test_the_published_schema_is_the_one_that_the_code_has(tmp_path: Path) -> None:
    ended = penstock("config", "schema", folder=tmp_path)
    assert ended.stdout == PUBLISHED.read_text(encoding="utf-8"), "penstock config schema > docs/config.schema.json"


def test_the_schema_takes_the_examples_and_refuses_what_nothing_reads() -> None:
    schema = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    example = yaml.safe_load((ROOT / "config.example.yaml").read_text(encoding="utf-8"))
    assert not list(validator.iter_errors(example))
    assert list(validator.iter_errors({"server": {"prot": 1}}))


def test_what_is_pushed_is_followed_by_a_running_server_without_a_file(tmp_path: Path) -> None:
    (tmp_path / "pushed.yaml").write_text(ECHO.replace("NAME", "first"), encoding="utf-8")
    assert penstock("config", "push", "pushed.yaml", folder=tmp_path).returncode == 0
    with Server(tmp_path) as server, server.client() as client:

        def provider() -> str:
            reply = client.post("/v1/chat/completions", json=chat())
            return str(reply.json()["_proxy_info"]["provider"])

        assert provider() == "first"
        (tmp_path / "pushed.yaml").write_text(ECHO.replace("NAME", "second"), encoding="utf-8")
        assert penstock("config", "push", "pushed.yaml", folder=tmp_path).returncode == 0
        wait_for(lambda: provider() == "second", "the server to follow what is pushed", 15)
    assert "pushed" in penstock("config", "show", folder=tmp_path).stdout


def test_models_and_doctor_tell_what_a_server_on_that_state_serves(tmp_path: Path) -> None:
    def told(command: str, *arguments: str) -> list[str]:
        ended = penstock(command, *arguments, folder=tmp_path)
        assert (ended.returncode, ended.stderr) == (0, "")
        return ended.stdout.splitlines()

    file = tmp_path / "config.yaml"
    assert told("doctor")[0] == "configuration  none: what is found around is used"
    file.write_text(ECHO.replace("NAME", "pushed"), encoding="utf-8")
    penstock("config", "push", "config.yaml", folder=tmp_path)
    assert told("models") == ["echo  pushed"]
    lines = told("doctor")
    assert (lines[0], lines[3]) == (
        "configuration  1 of the state, which was pushed",
        "provider       pushed: reachable",
    )

    file.write_text(ECHO.replace("NAME", "own"), encoding="utf-8")
    assert told("models", "--config", "config.yaml") == ["echo  own"], "a file goes before what is pushed"
    assert told("doctor", "--config", "config.yaml")[0] == "configuration  config.yaml"
    assert len(told("config", "show")) == 1, "to look around keeps no version"

    with Server(tmp_path, file.read_text(encoding="utf-8")) as server, server.client() as client:
        rolled = client.post("/v1/config/rollback", json={"version": 1})
        assert rolled.status_code == 200, rolled.text
        assert told("models", "--config", "config.yaml") == ["echo  pushed"]
        line = "configuration  1 of the state, to which config.yaml was rolled back"
        assert told("doctor", "--config", "config.yaml")[0] == line


def test_a_server_without_a_file_greets_with_what_it_serves(tmp_path: Path) -> None:
    (tmp_path / "pushed.yaml").write_text(ECHO.replace("echo", "pushed-model"), encoding="utf-8")
    penstock("config", "push", "pushed.yaml", folder=tmp_path)
    with Server(tmp_path) as server:
        assert "  models  pushed-model" in server.out
        assert "  key " not in server.out, "the configuration that was pushed has one"
