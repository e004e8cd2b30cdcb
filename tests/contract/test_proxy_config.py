"""The configuration as the proxy's document has it: its files load as they stand, and it is reloaded while it runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.server import Server, chat, penstock, wait_for

QUICK, WHOLE = re.findall(
    r"```yaml\n(.*?)```", (Path(__file__).parent / "proxy_config.md").read_text(encoding="utf-8"), re.DOTALL
)
KEY = "your-primary-api-key"
VENDORS = {"OPENAI_API_KEY": "openai-key-of-nobody", "ANTHROPIC_API_KEY": "anthropic-key-of-nobody"}
ECHO = """\
app: {version: "2.0.0"}
auth: {api_keys: [your-primary-api-key]}
server: {reload: false}
limits: {enabled: false}
providers:
  - {name: NAME, type: simulated, models: [echo], options: {ttft: 0}}
"""

Run = Callable[..., Server]


@pytest.fixture
def run(store: Callable[[Path], dict[str, str]], tmp_path: Path) -> Iterator[Run]:
    """Starts a gateway with a configuration; all of one test have one state."""
    state = store(tmp_path)
    with ExitStack() as stack:
        yield lambda config: stack.enter_context(Server(tmp_path, config, **VENDORS, **state))


def written(server: Server, name: str) -> None:
    (server.folder / "config.yaml").write_text(ECHO.replace("NAME", name), encoding="utf-8")


def post(client: httpx.Client, path: str, **body: Any) -> dict[str, Any]:
    response = client.post(f"/v1/config/{path}", json=body) if body else client.post(f"/v1/config/{path}")
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


@pytest.mark.row("P11", "P1")
def test_the_documents_own_config_loads_word_for_word(run: Run) -> None:
    server = run(WHOLE)
    with server.client(KEY) as client:
        listed = {model["id"] for model in client.get("/v1/models").json()["data"]}
        assert {"gpt-3.5-turbo", "gpt-4-turbo-preview", "claude-3-opus-20240229"} <= listed
        status = client.get("/v1/config/status").json()
        assert (status["status"], status["providers_configured"], status["validation_errors"]) == ("valid", 2, [])
        assert status["config_version"] == "2.0.0"
        health = client.get("/health").json()
        assert health["app"] == {"name": "LLM Proxy API", "version": "2.0.0", "environment": "production"}
        assert set(health["checks"]) == {"providers", "context_service", "memory", "cache"}
        assert client.get("/openapi.json").json()["info"]["title"] == "LLM Proxy API"
    with server.client("somebody-else's") as client:
        assert client.get("/v1/models").status_code == 401


@pytest.mark.row("P11")
def test_the_documents_quick_start_loads_word_for_word(run: Run) -> None:
    with run(QUICK).client("your-api-key-here") as client:
        assert {model["id"] for model in client.get("/v1/models").json()["data"]} == {"gpt-3.5-turbo", "gpt-4"}


@pytest.mark.row("P7")
def test_a_reload_answers_what_the_document_says_and_the_next_request_is_served_by_what_is_new(run: Run) -> None:
    server = run(ECHO.replace("NAME", "one"))
    with server.client(KEY) as client:
        before = client.post("/v1/chat/completions", json=chat())
        written(server, "two")
        answer = post(client, "reload")
        after = client.post("/v1/chat/completions", json=chat())
        status = client.get("/v1/config/status").json()
    assert {name: type(value) for name, value in answer.items()} == {
        "success": bool,
        "message": str,
        "reload_time_ms": float,
        "config_version": str,
        "changes_detected": bool,
        "version": int,
        "needs_restart": list,
    }
    assert (answer["success"], answer["config_version"], answer["changes_detected"]) == (True, "2.0.0", True)
    assert answer["message"] == "Configuration reloaded successfully"
    assert [reply.json()["_proxy_info"]["provider"] for reply in (before, after)] == ["one", "two"]
    assert after.headers["x-penstock-config"] == str(answer["version"]) != before.headers["x-penstock-config"]
    document = {"status", "last_loaded", "load_time_ms", "file_size_bytes", "providers_configured"}
    assert document | {"validation_errors", "cache_status", "version"} <= set(status)
    assert status["cache_status"].keys() == {"enabled", "hit_rate", "entries"}
    assert status["file_size_bytes"] == len(ECHO.replace("NAME", "two"))


@pytest.mark.row("P7")
def test_a_bad_file_leaves_the_running_one_in_place_and_the_answer_names_line_and_key(run: Run) -> None:
    server = run(ECHO.replace("NAME", "one"))
    with server.client(KEY) as client:
        version = client.get("/v1/config/status").json()["version"]
        (server.folder / "config.yaml").write_text(ECHO + "caching: {enabeld: true}\n", encoding="utf-8")
        response = client.post("/v1/config/reload")
        assert (response.status_code, response.json()["success"]) == (400, False)
        assert response.json()["errors"] == [
            {
                "file": "config.yaml",
                "line": 7,
                "key": "caching.enabeld",
                "message": "nothing reads this key; did you mean 'enabled'?",
            }
        ]
        reply = client.post("/v1/chat/completions", json=chat())
        assert (reply.status_code, reply.headers["x-penstock-config"]) == (200, str(version))


@pytest.mark.row("P7")
def test_one_rolls_back_to_the_version_before_or_to_any_and_the_next_change_of_the_file_counts_again(run: Run) -> None:
    server = run(ECHO.replace("NAME", "first"))
    versions = []
    with server.client(KEY) as client:

        def provider() -> str:
            reply = client.post("/v1/chat/completions", json=chat())
            return str(reply.json()["_proxy_info"]["provider"])

        versions.append(client.get("/v1/config/status").json()["version"])
        for name in ("second", "third"):
            written(server, name)
            versions.append(post(client, "reload")["version"])
        assert post(client, "rollback")["version"] == versions[1]
        assert provider() == "second"
        assert post(client, "rollback", version=versions[0])["version"] == versions[0]
        assert provider() == "first"
        assert post(client, "reload")["changes_detected"] is False  # the file says what was rolled back
        history = client.get("/v1/config/history").json()
        assert [each["version"] for each in history["data"] if each["present"]] == [versions[0]]
        text = client.get(f"/v1/config/history/{versions[0]}").json()["text"]
        assert KEY not in text
        assert "sha256:" in text
        written(server, "fourth")
        assert post(client, "reload")["version"] > versions[2]
        assert provider() == "fourth"
        assert client.post("/v1/config/rollback", json={"version": 999}).status_code == 404


@pytest.mark.row("P7")
def test_what_was_rolled_back_stays_so_when_the_server_starts_again(run: Run) -> None:
    server = run(ECHO.replace("NAME", "good"))
    with server.client(KEY) as client:
        written(server, "bad")
        post(client, "reload")
        post(client, "rollback")
    server.stop()
    with run(ECHO.replace("NAME", "bad")).client(KEY) as client:
        reply = wait_for(lambda: client.post("/v1/chat/completions", json=chat()), "an answer")
        assert reply.json()["_proxy_info"]["provider"] == "good"


@pytest.mark.row("P7")
def test_hosts_without_a_file_all_follow_what_is_pushed_within_seconds(
    store: Callable[[Path], dict[str, str]], tmp_path: Path
) -> None:
    state = store(tmp_path)
    folders = [tmp_path / name for name in ("here", "there")]

    def served(host: Server) -> tuple[str, str]:
        with host.client(KEY) as client:
            reply = client.post("/v1/chat/completions", json=chat())
        assert reply.status_code in (200, 401), reply.text  # nobody has this key until something is pushed
        return reply.headers["x-penstock-config"], reply.json().get("_proxy_info", {}).get("provider", "")

    with ExitStack() as stack:
        for folder in folders:
            folder.mkdir()
        hosts = [stack.enter_context(Server(folder, **state)) for folder in folders]
        for name in ("one", "two"):
            (tmp_path / "pushed.yaml").write_text(ECHO.replace("NAME", name), encoding="utf-8")
            pushed = penstock("config", "push", "pushed.yaml", folder=tmp_path, **state)
            assert pushed.returncode == 0, pushed.stderr
            told = (pushed.stdout.split()[1], name)
            wait_for(lambda told=told: {served(host) for host in hosts} == {told}, "both hosts to follow", 15)
