"""The tasks' API as its document tells it, over HTTP on both stores: its examples word for word, and row by row."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.contract.conftest import CONFIG
from tests.contract.examples import example
from tests.e2e.server import ROOT, Server, environment, wait_for
from tests.node.packages import installed

METRICS = {
    *("queue_wait_time", "processing_time", "total_time"),
    *("prompt_tokens", "completion_tokens", "tokens_per_second"),
}
SLOW = {"simulate": {"ttft": 600}}
BROKEN = {"simulate": {"error": 418}}

pytestmark = pytest.mark.timeout(180)


def tasks_example(title: str, url: str) -> str:
    """An example of the document, with nothing changed but the host."""
    return example("tasks", title).replace("http://localhost:8000", url)


@pytest.fixture
def client(gateway: Server) -> Iterator[httpx.Client]:
    headers = {"x-api-key": "test-key-123"}
    with httpx.Client(base_url=gateway.url, headers=headers, timeout=30, verify=False) as client:
        yield client


@pytest.fixture
def other(gateway: Server) -> Iterator[httpx.Client]:
    """Another caller."""
    headers = {"x-api-key": "demo-key-456"}
    with httpx.Client(base_url=gateway.url, headers=headers, timeout=30, verify=False) as client:
        yield client


def submit(client: httpx.Client, prompt: str = "Hello there", **fields: Any) -> str:
    """Submit a prompt; the id of its task."""
    accepted = client.post("/generate", json={"prompt": prompt, **fields})
    assert accepted.status_code == 202, accepted.text
    task_id: str = accepted.json()["task_id"]
    return task_id


def ended(client: httpx.Client, task_id: str) -> Any:
    """What a task has come to."""
    return wait_for(
        lambda: told if (told := read(client, task_id))["status"] in ("completed", "error") else None, "end"
    )


def read(client: httpx.Client, task_id: str, what: str = "result") -> Any:
    """What is told of a task that there is."""
    answer = client.get(f"/{what}/{task_id}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def started(command: list[str], folder: Path, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, cwd=folder, env=environment(**variables), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def said_by(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


@pytest.mark.row("T1", "T3", "T6")
def test_the_examples_in_python_run_as_they_stand(gateway: Server, tmp_path: Path) -> None:
    (tmp_path / "client_example.py").write_text("from penstock.client import LLMClient\n", encoding="utf-8")
    simple = started([sys.executable, "-c", tasks_example("Python (Simple)", gateway.url)], tmp_path)
    paths = f"{ROOT / 'functions'}:{tmp_path}"
    by_class = started(
        [sys.executable, "-c", tasks_example("Python (Using Client Class)", gateway.url)], tmp_path, PYTHONPATH=paths
    )
    told = said_by(simple)
    assert "Task ID: job_" in told
    assert "Result: [simulated] Explain machine learning in simple terms" in told
    assert "'completion_tokens': " in told
    assert said_by(by_class) == "[simulated] Write a haiku about programming\n"


@pytest.mark.row("T1", "T3")
def test_the_example_in_javascript_runs_as_it_stands(gateway: Server) -> None:
    told = said_by(started(["node", "-e", tasks_example("JavaScript (Node.js)", gateway.url)], installed()))
    assert "Task ID: job_" in told
    assert "Result: [simulated] Explain quantum computing in simple terms" in told
    assert "tokens_per_second: " in told


@pytest.mark.row("T1", "T2", "T3")
@pytest.mark.skipif(not shutil.which("curl") or not shutil.which("jq"), reason="curl and jq are not both on PATH")
def test_the_examples_in_the_shell_run_as_they_stand(gateway: Server, tmp_path: Path) -> None:
    told = said_by(started(["bash", "-e", "-c", tasks_example("cURL (Complete Flow)", gateway.url)], tmp_path))
    assert re.search(r'"result": ?"\[simulated\] Write a joke about AI"', told), told


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
@pytest.mark.skipif(not shutil.which("curl") or not shutil.which("jq"), reason="curl and jq are not both on PATH")
def test_the_examples_of_the_page_run_as_they_stand(gateway: Server, tmp_path: Path) -> None:
    blocks = re.findall(r"```(sh|python)\n(.*?)```", (ROOT / "docs" / "tasks.md").read_text("utf-8"), re.DOTALL)
    run = {"sh": ["bash", "-e", "-c"], "python": [sys.executable, "-c"]}
    held = {"URL": gateway.url, "PENSTOCK_API_KEY": "test-key-123"}
    shell, client, on_a_loop = [
        said_by(process) for process in [started([*run[kind], text], tmp_path, **held) for kind, text in blocks]
    ]
    haiku = "[simulated] Write a haiku about programming"
    assert f'"result":"{haiku}"' in shell
    assert '"token":" haiku"' in shell
    assert client == f"{haiku}\n[simulated] Count to three"
    assert on_a_loop.endswith("completed\n[simulated] Hello!\n")


@pytest.mark.row("T1")
def test_a_prompt_is_queued_at_once(client: httpx.Client) -> None:
    accepted = client.post("/generate", json={"prompt": "Hello", "max_tokens": 50, "temperature": 1.2, "top_p": 0.5})
    assert accepted.status_code == 202
    assert accepted.json() == {
        "status": "queued",
        "task_id": accepted.json()["task_id"],
        "message": "Your request is being processed. Use the task_id to check status.",
    }
    assert accepted.headers["location"] == f"/result/{accepted.json()['task_id']}"
    assert int(accepted.headers["retry-after"]) >= 1


@pytest.mark.row("T1", "T7")
def test_a_prompt_that_is_sent_again_under_its_key_is_the_same_task(client: httpx.Client) -> None:
    once = {"idempotency-key": f"task {time.time_ns()}".replace(" ", "-")}
    first, again = (client.post("/generate", json={"prompt": "Hello"}, headers=once) for _ in range(2))
    assert first.json()["task_id"] == again.json()["task_id"]
    refused(client.post("/generate", json={"prompt": "Bye"}, headers=once), 409)


@pytest.mark.row("T2", "T3")
def test_a_task_that_is_done_has_a_text_and_says_how_long_it_took(client: httpx.Client) -> None:
    task_id = submit(client, "Hello there", max_tokens=2)
    told = ended(client, task_id)
    assert told == {
        "status": "completed",
        "task_id": task_id,
        "result": "[simulated] Hello",
        "metrics": told["metrics"],
    }
    metrics = told["metrics"]
    assert metrics.keys() == METRICS
    assert all(isinstance(value, int | float) and value >= 0 for value in metrics.values())
    assert metrics["total_time"] == pytest.approx(metrics["queue_wait_time"] + metrics["processing_time"], abs=0.002)
    assert (metrics["prompt_tokens"], metrics["completion_tokens"]) == (2, 2)
    assert 2 / metrics["tokens_per_second"] == pytest.approx(metrics["processing_time"], abs=0.001)
    assert read(client, task_id, "status") == {
        "status": "completed",
        "task_id": task_id,
        "message": "Task completed successfully",
    }


@pytest.mark.row("T2", "T3")
def test_a_task_under_way_says_so_in_both_places(client: httpx.Client) -> None:
    task_id = submit(client, **SLOW)
    told = wait_for(lambda: t if (t := read(client, task_id))["status"] == "processing" else None, "its start")
    assert told == {"status": "processing", "task_id": task_id, "message": "Task is currently being processed"}
    status = client.get(f"/status/{task_id}")
    assert status.json() == told
    assert int(status.headers["retry-after"]) >= 1
    again = client.get(f"/status/{task_id}", headers={"if-none-match": status.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    client.delete(f"/v1/jobs/{task_id}")


@pytest.mark.row("T2", "T3", "C7")
def test_a_task_that_failed_is_failed_in_one_place_and_an_error_in_the_other(client: httpx.Client) -> None:
    task_id = submit(client, **BROKEN)
    message = "a simulated failure with status 418"
    assert ended(client, task_id) == {
        "status": "error",
        "task_id": task_id,
        "error_message": message,
        "error_type": "UpstreamRefused",
    }
    told = read(client, task_id, "status")
    assert told == {"status": "failed", "task_id": task_id, "message": f"Task failed: {message}"}


@pytest.mark.row("T2", "T3", "C7")
def test_a_task_that_was_cancelled_has_failed(client: httpx.Client) -> None:
    task_id = submit(client, **SLOW)
    assert client.delete(f"/v1/jobs/{task_id}").json()["status"] == "cancelled"
    told = read(client, task_id)
    assert (told["status"], told["error_type"]) == ("error", "JobCancelled")
    assert read(client, task_id, "status")["status"] == "failed"


@pytest.mark.row("T3", "D2")
def test_a_task_is_a_job_and_a_job_a_task(client: httpx.Client) -> None:
    body = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}
    job_id = client.post("/v1/chat/completions", json=body, headers={"prefer": "respond-async"}).json()["id"]
    assert ended(client, job_id)["result"] == "[simulated] hi"
    task_id = submit(client, "hi")
    ended(client, task_id)
    assert client.get(f"/v1/jobs/{task_id}").json()["choices"][0]["message"]["content"] == "[simulated] hi"


@pytest.mark.row("T1", "C2")
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": "x", "max_tokens": 0}, "max_tokens"),
        ({"prompt": "x", "max_tokens": "5"}, "max_tokens"),
        ({"prompt": "x", "temperature": 2.1}, "temperature"),
        ({"prompt": "x", "temperature": -0.1}, "temperature"),
        ({"prompt": "x", "top_p": 1.1}, "top_p"),
        ({"prompt": "x", "user_id": 7}, "user_id"),
        ({"prompt": "x", "n": "two"}, "n"),
        ({"prompt": "x", "messages": []}, "messages"),
    ],
)
def test_a_wrong_field_is_named(client: httpx.Client, body: dict[str, Any], field: str) -> None:
    told = refused(client.post("/generate", json=body), 400)
    assert told["error"].startswith(f"{field}:")


def refused(answer: httpx.Response, status: int) -> Any:
    """The error, in the document's form."""
    assert answer.status_code == status, answer.text
    told = answer.json()
    assert told.keys() == {"error", "status_code", "detail"}
    assert told["status_code"] == status
    assert isinstance(told["error"], str)
    assert isinstance(told["detail"], str)
    return told


@pytest.mark.row("T7", "C1")
@pytest.mark.parametrize("path", ["/status/x", "/result/x", "/generate"])
def test_without_a_good_key_there_is_nothing_to_see(gateway: Server, path: str) -> None:
    ask: Callable[..., httpx.Response] = httpx.post if path == "/generate" else httpx.get
    refused(ask(gateway.url + path), 401)
    refused(ask(gateway.url + path, headers={"x-api-key": "nope"}), 401)
    refused(ask(f"{gateway.url}{path}?api_key=test-key-123"), 401)  # in the address for streams alone


@pytest.mark.row("T7")
def test_a_task_is_nobody_elses(client: httpx.Client, other: httpx.Client) -> None:
    task_id = submit(client)
    for what in ("status", "result"):
        told = refused(other.get(f"/{what}/{task_id}"), 404)
        assert told["error"] == f"There is no job {task_id!r}."
        assert refused(other.get(f"/{what}/job_nobody"), 404)["error"] == "There is no job 'job_nobody'."
    ended(client, task_id)


@pytest.mark.row("C2")
def test_what_is_no_call_at_all_is_told_in_the_same_form(client: httpx.Client) -> None:
    refused(client.get("/generate"), 405)
    refused(client.get("/status/"), 404)
    refused(client.post("/generate", json={"prompt": "x", "model": "nobody"}), 404)
    refused(client.post("/generate", content=b"{", headers={"content-type": "application/json"}), 400)
    refused(client.post("/generate", json={"prompt": "x" * 21_000_000}), 413)


@pytest.mark.row("C6")
def test_60_requests_a_minute_and_10_at_once(tmp_path: Path) -> None:
    with (
        Server(tmp_path, CONFIG.replace(", key: {}", ""), API_KEYS="test-key-123") as server,
        httpx.Client(base_url=server.url, headers={"x-api-key": "test-key-123"}, verify=False) as client,
    ):
        answers = [client.post("/generate", json={"prompt": str(number)}) for number in range(12)]
    assert [answer.status_code for answer in answers][:10] == [202] * 10
    last = refused(answers[-1], 429)
    assert last["error"] == "Rate limit exceeded"
    assert int(answers[-1].headers["retry-after"]) >= 1


@pytest.mark.row("T5")
def test_the_environment_names_the_model_its_bounds_and_the_time_limit(tmp_path: Path) -> None:
    providers = CONFIG.replace("models: [echo]", "models: [aardvark, {name: 'llama2:latest', upstream: echo}]")
    variables = {
        "MODEL_BACKEND": "ollama",
        "OLLAMA_MODEL": "llama2",
        "MAX_NEW_TOKENS": "3",
        "TEMPERATURE": "0.1",
        "TASK_TIME_LIMIT": "1",
    }
    with (
        Server(tmp_path, providers, API_KEYS="a, b,c", **variables) as server,
        httpx.Client(base_url=server.url, headers={"x-api-key": "b"}, verify=False) as client,
    ):
        late = submit(client, **SLOW)
        assert ended(client, submit(client, "one two three four"))["result"] == "[simulated] one two"
        told = ended(client, late)
        assert (told["status"], told["error_type"]) == ("error", "TaskTimeout")
        assert "time limit of 1 seconds" in told["error_message"]
        assert read(client, late, "status")["status"] == "failed"
        assert {outcome["model"] for outcome in server.outcomes()} == {"llama2:latest"}
