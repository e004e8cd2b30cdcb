"""`modal deploy` asks Modal for what models.toml says; jobs are spawned and polled; a container lives its life.

Modal's own client speaks to a double of its control plane. What only Modal can show is listed in docs/modal.md.
"""

from __future__ import annotations

import asyncio
import json
import pickle
import shutil
import sys
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from modal_proto import api_pb2 as api

from tests.e2e.server import environment
from tests.gpu_workers.control_plane import ControlPlane
from tests.gpu_workers.launched import ADMIN, KEY, PATIENCE, WORKERS, rows
from tests.ports import free_port

ROWS = tomllib.loads((WORKERS / "models.toml").read_text(encoding="utf-8"))
LAUNCHER = {"models.toml", "catalogue.py", "engine.py", "launch.py", "companion.py", "agent.py"}
ON_MODAL = [name for name, row in ROWS.items() if "gpu" in row]


@pytest.fixture(scope="module")
def deployed() -> ControlPlane:
    """What Modal was told by one deployment of qwen3-8b, with keys."""

    async def record() -> ControlPlane:
        async with ControlPlane() as plane:
            await deploy(plane, PENSTOCK_ENGINE_API_KEY=KEY, PENSTOCK_ENGINE_ADMIN_KEY=ADMIN)
        return plane

    return asyncio.run(record())


@pytest.fixture
async def plane() -> AsyncIterator[ControlPlane]:
    async with ControlPlane() as plane:
        yield plane


async def run(plane: ControlPlane, *words: str | Path, stdin: str = "", **variables: str) -> tuple[int, str, str]:
    """A command with Modal's client inside: its status, output and complaints."""
    told = {
        "MODAL_SERVER_URL": plane.url,
        "MODAL_TOKEN_ID": "ak-test",
        "MODAL_TOKEN_SECRET": "as-test",
        "MODAL_CONFIG_PATH": "/nonexistent",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *words,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(**told, **variables),
    )
    out, err = await asyncio.wait_for(process.communicate(stdin.encode()), PATIENCE)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def deploy(plane: ControlPlane, **variables: str) -> dict[str, Any]:
    """The functions that one deployment created, by name."""
    status, out, err = await run(plane, "-m", "modal", "deploy", WORKERS / "modal_app.py", **variables)
    assert status == 0, out + err
    assert not plane.unknown
    return plane.functions


def built(plane: ControlPlane) -> set[str]:
    """The lines of the recipe of its image."""
    return {line for layer in plane.requests["ImageGetOrCreate"] for line in layer.image.dockerfile_commands}


@pytest.mark.parametrize("name", ON_MODAL)
async def test_a_deployment_asks_for_what_the_row_says(plane: ControlPlane, name: str) -> None:
    row, created = ROWS[name], await deploy(plane, PENSTOCK_MODEL=name)
    running, queued = row["max_running"], row["max_queued"]
    for function in (created["Server"], created["Jobs.*"]):
        assert function.resources.gpu_config.gpu_type == row["gpu"]
        assert function.resources.gpu_config.count == row.get("gpu_count", 1)
        assert function.startup_timeout_secs == row.get("start_seconds", 900)
        assert function.autoscaler_settings.min_containers == 0
        assert function.autoscaler_settings.max_containers == 2
        assert function.autoscaler_settings.scaledown_window == 300
        assert function.max_concurrent_inputs == running + queued
    assert created["Server"].autoscaler_settings.target_concurrency_float == running
    assert created["Jobs.*"].target_concurrent_inputs == running
    (published,) = plane.requests["AppPublish"]
    assert published.name == f"penstock-{name}"
    assert set(published.function_ids) == {"Server", "Jobs.*", "fetch"}


def test_the_server_lets_nobody_in_without_a_proxy_token(deployed: ControlPlane) -> None:
    server = deployed.functions["Server"]
    assert server.is_server
    assert server.http_config.port == 30000
    assert not server.http_config.unauthenticated
    assert server.http_config.startup_timeout == 900
    assert server.http_config.exit_grace_period == 120


def test_a_job_may_last_an_hour(deployed: ControlPlane) -> None:
    jobs = deployed.functions["Jobs.*"]
    assert jobs.timeout_secs == 3600
    assert set(jobs.method_definitions) == {"complete"}


def test_weights_and_kernels_are_kept_in_volumes(deployed: ControlPlane) -> None:
    created = deployed.functions
    assert {volume.deployment_name for volume in deployed.requests["VolumeGetOrCreate"]} == {
        "penstock-weights",
        "penstock-kernels",
    }
    for name in ("Server", "Jobs.*"):
        mounts = {mount.mount_path: mount.volume_id for mount in created[name].volume_mounts}
        assert mounts == {"/weights": "vo-penstock-weights", "/kernels": "vo-penstock-kernels"}
    assert [mount.mount_path for mount in created["fetch"].volume_mounts] == ["/weights"]
    assert {"ENV HF_HOME=/weights", "ENV SGLANG_CACHE_DIR=/kernels"} <= built(deployed)


def test_fetching_weights_pays_for_no_gpu(deployed: ControlPlane) -> None:
    assert deployed.functions["fetch"].resources.gpu_config.count == 0


def test_the_image_is_the_container_s_with_the_launcher_inside(deployed: ControlPlane) -> None:
    base = deployed.requests["ImageGetOrCreate"][0].image.dockerfile_commands
    dockerfile = (WORKERS / "container" / "Dockerfile").read_text(encoding="utf-8")
    assert base[0] in dockerfile.splitlines()
    files = {file.filename for mount in deployed.requests["MountGetOrCreate"] for file in mount.files}
    assert {Path(file).name for file in files} == {*LAUNCHER, "modal_app.py"}
    assert {f"/opt/penstock/{name}" for name in LAUNCHER} <= files
    assert "ENV PYTHONPATH=/opt/penstock" in built(deployed)


@pytest.mark.parametrize(
    ("variables", "kept"),
    [
        ({"PENSTOCK_MODEL": "qwen3-8b"}, True),
        ({"PENSTOCK_MODEL": "qwen3-8b", "PENSTOCK_SNAPSHOT": "0"}, False),
        ({"PENSTOCK_MODEL": "qwen3-32b"}, False),
    ],
    ids=["one GPU", "switched off", "two GPUs"],
)
async def test_memory_is_kept_for_the_next_start_where_modal_can(
    plane: ControlPlane, variables: dict[str, str], kept: bool
) -> None:
    created = await deploy(plane, **variables)
    for name in ("Server", "Jobs.*"):
        assert created[name].checkpointing_enabled is kept
        assert dict(created[name].experimental_options) == ({"enable_gpu_snapshot": "True"} if kept else {})


def test_the_container_is_told_its_model_and_its_keys_as_secrets(deployed: ControlPlane) -> None:
    secrets = [dict(secret.env_dict) for secret in deployed.requests["SecretGetOrCreate"]]
    assert {"PENSTOCK_ENGINE_API_KEY": KEY, "PENSTOCK_ENGINE_ADMIN_KEY": ADMIN} in secrets
    assert {"PENSTOCK_MODEL": "qwen3-8b", "PENSTOCK_SNAPSHOT": "1"} in secrets
    assert len(deployed.functions["Server"].secret_ids) == 2
    elsewhere = [request for name, kind in deployed.requests.items() if name != "SecretGetOrCreate" for request in kind]
    assert KEY.encode() not in b"".join(request.SerializeToString() for request in elsewhere)


async def test_a_model_without_a_gpu_is_refused(plane: ControlPlane) -> None:
    status, out, err = await run(plane, "-m", "modal", "deploy", WORKERS / "modal_app.py", PENSTOCK_MODEL="tiny")
    assert status != 0
    assert "tiny names no `gpu` in models.toml" in out + err
    assert not plane.requests["FunctionCreate"]


async def test_a_job_is_spawned_and_polled(plane: ControlPlane) -> None:
    await deploy(plane)
    body = {"messages": [{"role": "user", "content": "hello"}]}
    jobs = WORKERS / "modal_jobs.py"
    status, call, err = await run(plane, jobs, "spawn", "qwen3-8b", stdin=json.dumps(body))
    assert (status, call) == (0, "fc-1\n"), err
    (asked,) = plane.requests["ClassGet"]
    assert (asked.app_name, asked.object_tag) == ("penstock-qwen3-8b", "Jobs")
    (spawned,) = plane.requests["FunctionMap"]
    assert spawned.function_call_invocation_type == api.FUNCTION_CALL_INVOCATION_TYPE_ASYNC
    (put,) = spawned.pipelined_inputs
    assert put.input.method_name == "complete"
    assert pickle.loads(put.input.args) == ((body,), {})

    assert await run(plane, jobs, "poll", "fc-1") == (75, "", "")
    answer = {"object": "chat.completion", "choices": []}
    plane.output = pickle.dumps(answer)
    status, out, err = await run(plane, jobs, "poll", "fc-1")
    assert (status, json.loads(out)) == (0, answer), err
    assert {request.function_call_id for request in plane.requests["FunctionGetOutputs"]} == {"fc-1"}
    assert {request.timeout for request in plane.requests["FunctionGetOutputs"]} == {0.0}


LIFE = """
import json
import modal_app

worker = modal_app.Worker()
worker.start()
worker.wake()
told = [modal_app.completion({"messages": [{"role": "user", "content": "hello"}], "stream": True})]
modal_app.os.environ["PENSTOCK_ENGINE_API_KEY"] = "wrong"
told.append(modal_app.completion({"messages": []}))
worker.stop()
print(json.dumps([*told, worker.launch.returncode]))
"""


async def test_a_container_starts_sleeps_wakes_and_answers(plane: ControlPlane, tmp_path: Path) -> None:
    for path in WORKERS.glob("*.py"):
        shutil.copy(path, tmp_path)
    rows(tmp_path, 'gpu = "L4"')
    log = tmp_path / "requests"
    status, out, err = await run(
        plane,
        "-c",
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}){LIFE}",
        PENSTOCK_MODEL="fake",
        PENSTOCK_PORT=str(free_port()),
        PENSTOCK_ENGINE_API_KEY=KEY,
        PENSTOCK_ENGINE_ADMIN_KEY=ADMIN,
        FAKE_ENGINE_LOG=str(log),
    )
    assert status == 0, err
    answer, refusal, ended = json.loads(out)
    assert answer["choices"][0]["message"]["content"] == "hello"
    assert refusal["error"]["code"] == 401
    assert ended == 0
    assert len(plane.requests["VolumeCommit"]) == 2
    asked = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert [(request["path"], request["key"]) for request in asked] == [
        ("/v1/chat/completions", KEY),
        ("/release_memory_occupation", ADMIN),
        ("/resume_memory_occupation", ADMIN),
        ("/v1/chat/completions", KEY),
        ("/v1/chat/completions", "wrong"),
    ]
    assert asked[3]["body"] == {
        "messages": [{"role": "user", "content": "hello"}],
        "model": "fake",
        "stream": False,
    }
