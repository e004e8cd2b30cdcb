"""`make deploy-local`: the whole template on an emulator of AWS, as a person at a terminal uses it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import httpx
import psutil
import pytest

from tests.functions import sam, template
from tests.ports import free_port

PATIENCE = 60.0

pytestmark = [
    sam.needed,
    pytest.mark.timeout(400),  # installs, builds and deploys
    pytest.mark.skipif(sys.platform != "linux", reason="the functions are built for Linux, and run on this machine"),
]


@contextmanager
def deployed(*variables: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The running command and what it has said until it was ready, or had failed; it ends with the block."""
    process = subprocess.Popen(
        ["make", "--no-print-directory", "deploy-local", *variables],
        cwd=template.ROOT,
        env=sam.ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - ignored behind a shell's &
    )
    try:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if "Ctrl-C" in line:
                break
        yield process, said
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=PATIENCE)


def run_job(client: httpx.Client, path: str, body: dict[str, Any]) -> Any:
    """Submit a job over API Gateway and poll it there until its answer is."""
    submitted = client.post(path, json=body, headers={"Prefer": "respond-async"})
    assert submitted.status_code == 202, submitted.text
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        polled = client.get(submitted.headers["location"])
        if polled.status_code != 202:
            return polled.json()
        time.sleep(0.2)
    pytest.fail(f"the job had not ended after {PATIENCE:g} s")


def take_rights_away(endpoint: str, role: str) -> None:
    """Leave a role of the stack without any right, as the emulator then enforces it."""
    owner = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    iam = boto3.client("iam", endpoint_url=endpoint, **owner)
    (name,) = [each["RoleName"] for each in iam.list_roles()["Roles"] if role in each["RoleName"]]
    iam.delete_role_policy(RoleName=name, PolicyName="work")
    iam.close()


@pytest.mark.row("D3")
def test_the_template_is_deployed_and_runs_jobs_and_leaves_nothing_behind(tmp_path: Path) -> None:
    sam.install(sam.SAM, sam.EMULATOR)
    port, config = free_port(), tmp_path / "local.yaml"
    config.write_text("providers:\n  - {name: somewhere, type: simulated, models: [parrot]}\n", encoding="utf-8")
    before = {place.name for place in Path("/tmp").glob("penstock-local-*")}
    with deployed(f"PORT={port}", f"CONFIG={config}", f"BUILD={tmp_path}/build") as (process, said):
        told = re.search(r"export URL=(\S+) PENSTOCK_API_KEY=(\S+)", said)
        assert told is not None, said
        assert "came back as '[simulated] Hello!'" in said
        with httpx.Client(base_url=told[1], headers={"Authorization": f"Bearer {told[2]}"}, timeout=PATIENCE) as client:
            assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["parrot"]
            vectors = run_job(client, "/v1/embeddings", {"model": "parrot", "input": ["a gate", "a pipe"]})
            assert [item["index"] for item in vectors["data"]] == [0, 1]
            chat = {"model": "parrot", "messages": [{"role": "user", "content": "Hello!"}], "stream": True}
            streamed = client.post("/v1/chat/completions", json=chat)  # whole: the emulator streams nothing
            assert streamed.text.endswith("data: [DONE]\n\n"), streamed.text
            assert httpx.get(f"{told[1]}/v1/models", timeout=PATIENCE).status_code == 401
            take_rights_away(f"http://127.0.0.1:{port}", "HttpApiRole")
            assert client.get("/v1/jobs/job_1").json()["error"]["code"] == "state_unavailable"

        family = psutil.Process(process.pid).children(recursive=True)
        listening = {at.laddr for one in family for at in one.net_connections() if at.status == psutil.CONN_LISTEN}
        assert listening == {("127.0.0.1", port)}
        assert any("_worker.py" in " ".join(one.cmdline()) for one in family)
        os.killpg(process.pid, signal.SIGINT)
        psutil.wait_procs(family, timeout=PATIENCE)
        assert not [one for one in family if one.is_running()]
    assert {place.name for place in Path("/tmp").glob("penstock-local-*")} <= before


def test_a_port_that_is_taken_is_told_and_a_file_that_is_missing(tmp_path: Path) -> None:
    sam.install(sam.SAM, sam.EMULATOR)
    with socket.create_server(("127.0.0.1", 0)) as taken, deployed(f"PORT={taken.getsockname()[1]}") as (_, said):
        assert f"port {taken.getsockname()[1]} is taken: name another (PORT=), or deploy to what is there" in said
    with deployed(f"CONFIG={tmp_path}/nowhere.yaml") as (_, said):
        assert f"there is no file {tmp_path}/nowhere.yaml: correct CONFIG" in said
