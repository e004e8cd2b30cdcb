"""What each door loads, who may know whom; import-linter holds the arrows inside the package."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.tree import PACKAGE, SOURCES, broken, files, imports, name

LIGHT_DOORS = [door for door in ("job_runner", "housekeeper") if (SOURCES / door / "handler.py").exists()]
WEB = ("penstock.app", "penstock.asgi", "penstock.dialects", "fastapi", "starlette", "mangum", "uvicorn")


def loaded_by(door: str, environment: dict[str, str], folder: Path) -> set[str]:
    """Every module that one door's import brings into a fresh process, as Lambda sets it up."""
    ran = subprocess.run(
        [sys.executable, "-c", f"import json, sys, {door}.handler; print(json.dumps(sorted(sys.modules)))"],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, f"{door}.handler cannot be imported:\n{ran.stderr}"
    return set(json.loads(ran.stdout.splitlines()[-1]))


@pytest.mark.parametrize("door", LIGHT_DOORS)
def test_a_door_without_callers_loads_no_web_framework(
    door: str, lambda_environment: dict[str, str], tmp_path: Path
) -> None:
    web = sorted(module for module in loaded_by(door, lambda_environment, tmp_path) if module.startswith(WEB))
    assert not web, broken(f"{door} answers no HTTP, and starts faster without:", web)


def test_bedrock_is_spoken_to_without_the_sdk_of_aws(lambda_environment: dict[str, str], tmp_path: Path) -> None:
    program = "import json, sys, penstock.providers.bedrock; print(json.dumps(sorted(sys.modules)))"
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env=lambda_environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = [module for module in json.loads(ran.stdout) if module.startswith(("boto3", "botocore", "s3transfer"))]
    assert not loaded, broken("a call to Bedrock is signed and read by this package alone, and loads no:", loaded)


def test_gpu_workers_and_the_gateway_know_each_other_over_http_only() -> None:
    found = [
        f"{name(path)} imports {module}"
        for path in files(".py")
        for module in imports(path)
        if (name(path).startswith("gpu_workers/") and module.split(".")[0] == "penstock")
        or (name(path).startswith("functions/") and module.split(".")[0] == "gpu_workers")
    ]
    assert not found, broken("gpu_workers and penstock never import one another:", found)


def test_no_production_file_imports_what_only_tests_have() -> None:
    found = [
        f"{name(path)} imports {module}"
        for path in files(".py")
        if SOURCES in path.parents
        for module in imports(path)
        if module.split(".")[0] in {"boto3", "botocore", "httpx", "moto", "openai", "pytest", "requests", "tests"}
    ]
    assert not found, broken("functions/requirements.txt does not hold:", found)


def test_a_plug_is_loaded_by_its_name_alone() -> None:
    plugs = {
        f"penstock.{room}.{path.stem}"
        for room in ("dialects", "providers", "stores", "queues", "objects")
        for path in (PACKAGE / room).glob("[!_]*")
        if path.suffix == ".py" or path.is_dir()
    }
    found = [
        f"{name(path)} imports {module}"
        for path in files(".py")
        if PACKAGE in path.parents
        for module in imports(path) & plugs
        if not module.startswith(f"penstock.{'.'.join(path.relative_to(PACKAGE).parts[:2]).removesuffix('.py')}")
    ]
    assert not found, broken("a plug is found by plugs.load, so that strangers' plugs are its equals:", found)
