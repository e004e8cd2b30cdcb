"""What `sam build` puts into a function's zip, built here for this machine's own Python and processor."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
from importlib.util import MAGIC_NUMBER
from pathlib import Path

import pytest

from tests.functions import adapter, doors, runtime_api, sam, template

UNCHECKED_HASH = 0b01

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform != "linux", reason="the artifacts hold programs for Linux"),
]


def build(function: str, artifact: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the recipe as `sam build` does."""
    artifact.mkdir(parents=True)
    here = {"ARCHITECTURE": sam.ARCHITECTURE, "PYTHON_VERSION": sam.PYTHON, "LAMBDA_PYTHON": sys.executable}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["make", f"build-{function}"],
        cwd=template.ROOT / "functions",
        env={**os.environ, **here, **variables, "PATH": path, "ARTIFACTS_DIR": str(artifact), "MAKEFLAGS": ""},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> dict[str, Path]:
    """One artifact for each function, built once for all the processes that run tests."""
    base = tmp_path_factory.getbasetemp()
    root = (base if worker_id == "master" else base.parent) / "all artifacts"
    root.mkdir(exist_ok=True)
    found = {function: root / function for function in template.functions()}
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for function, artifact in found.items():
            if not (root / f"{function}.log").exists():
                built = build(function, artifact)
                assert built.returncode == 0, built.stderr
                (root / f"{function}.log").write_text(built.stdout, encoding="utf-8")
    return found


def test_a_zip_weighs_at_most_16_mb(artifacts: dict[str, Path]) -> None:
    for artifact in artifacts.values():
        told = artifact.with_suffix(".log").read_text(encoding="utf-8")
        weight = re.search(r"a zip of (\d+) bytes", told)
        assert weight is not None, told
        assert 1_000_000 < int(weight[1]) <= 16_000_000


def test_every_module_is_compiled_and_its_source_is_never_asked(artifacts: dict[str, Path]) -> None:
    for artifact in artifacts.values():
        for source in artifact.rglob("*.py"):
            compiled = source.parent / "__pycache__" / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
            header = compiled.read_bytes()[:8]
            assert header[:4] == MAGIC_NUMBER
            assert int.from_bytes(header[4:], "little") == UNCHECKED_HASH, compiled


def test_a_function_gets_its_own_door_and_no_other(artifacts: dict[str, Path]) -> None:
    all_doors = {function["Handler"].partition("/")[0] for function in template.functions().values()}
    for function, artifact in artifacts.items():
        there = {path.name for path in artifact.iterdir()}
        assert there & all_doors == {template.functions()[function]["Handler"].partition("/")[0]}
        assert "penstock" in there
        assert not there & {"boto3", "botocore", "bin", "tests"}
    assert not (artifacts["JobRunner"] / "fastapi").exists()
    assert not (artifacts["HttpApi"] / "uvloop").exists()


@pytest.fixture
def alone(given: dict[str, str], tmp_path: Path) -> dict[str, str]:
    return {**given, "PENSTOCK_FLEET_SECRET": "a-secret-of-the-fleet", **doors.lambda_alone(tmp_path)}


@pytest.mark.parametrize("function", ["HttpApi", "JobRunner", "Housekeeper"])
def test_a_door_runs_from_its_artifact_alone(
    artifacts: dict[str, Path], alone: dict[str, str], tmp_path: Path, function: str
) -> None:
    artifact = artifacts[function]
    door_name = template.functions()[function]["Handler"].partition("/")[0]
    with runtime_api.serve() as api, doors.buffered(function, api, alone, tmp_path / "log", artifact) as door:
        for path in sorted((template.ROOT / "events").glob(f"{door_name}_*.json")):
            answer = door.call(doors.event(path.stem))
            assert answer.get("statusCode", 200) < 500, path.name


def test_the_streaming_door_runs_from_its_artifact_alone(
    artifacts: dict[str, Path], alone: dict[str, str], tmp_path: Path
) -> None:
    program, artifact = adapter.find(), artifacts["StreamApi"]
    with runtime_api.serve() as api, doors.streaming(program, api, alone, tmp_path / "log", artifact) as door:
        assert b"[DONE]" in door.invoke(doors.event("stream_api_chat")).wait().body
        for path in sorted((template.ROOT / "events").glob("stream_api_*.json")):
            status = door.invoke(doors.event(path.stem)).wait().prelude["statusCode"]
            assert status < 300 or status == 404, path.name  # what an event asks for is nowhere here


def test_without_the_right_python_the_recipe_says_what_to_do(tmp_path: Path) -> None:
    refused = build("HttpApi", tmp_path / "artifact", LAMBDA_PYTHON=str(tmp_path / "no-python-here"))
    assert refused.returncode != 0
    assert "was found to compile for the Lambda runtime" in refused.stderr
    assert "uv python install" in refused.stderr
