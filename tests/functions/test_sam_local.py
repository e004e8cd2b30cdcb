"""`sam local invoke` with every file of events/, in the container that stands for Lambda."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.functions import sam, template

FUNCTIONS = {each["Handler"].partition("/")[0]: name for name, each in template.functions().items()}
EVENTS = {
    path: FUNCTIONS[door]
    for path in sorted((template.ROOT / "events").glob("*.json"))
    for door in FUNCTIONS
    if path.name.startswith(f"{door}_")
}
NO_ENGINE = "Running AWS SAM projects locally requires a container runtime"

pytestmark = [sam.needed, pytest.mark.timeout(300)]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the SAM CLI as a person would, at the root of the checkout."""
    environment = sam.ENVIRONMENT | {"ARCHITECTURE": sam.ARCHITECTURE, "PYTHON_VERSION": sam.PYTHON}
    return subprocess.run(
        [str(sam.SAM), *arguments], cwd=template.ROOT, env=environment, capture_output=True, text=True, check=False
    )


def reached_by_an_engine() -> bool:
    """Whether docker or podman has a running engine."""
    found = [program for program in ("docker", "podman") if shutil.which(program)]
    asked = [subprocess.run([program, "info"], capture_output=True, check=False) for program in found]
    return any(answer.returncode == 0 for answer in asked)


@pytest.mark.row("D3")
def test_every_file_of_events_is_of_one_door() -> None:
    others = {path.name for path in (template.ROOT / "events").iterdir()} - {path.name for path in EVENTS}
    assert others == {"environment.json"}
    assert set(EVENTS.values()) == set(FUNCTIONS.values())


def test_the_environment_of_the_container_names_variables_that_the_template_has() -> None:
    # SAM leaves out, without a word, what the template does not declare.
    page = template.read()
    declared = set(page["Globals"]["Function"]["Environment"]["Variables"])
    for function in template.functions().values():
        declared |= set(function["Environment"]["Variables"])
    given = json.loads((template.ROOT / "events" / "environment.json").read_text(encoding="utf-8"))
    assert set(given["Parameters"]) <= declared


def test_the_short_command_of_the_docs_lacks_nothing_but_an_engine() -> None:
    sam.install(sam.SAM)
    told = run("local", "invoke", "HttpApi", "-e", "events/http_api_health.json")
    assert told.returncode == 0 or NO_ENGINE in told.stderr, told.stderr


@pytest.mark.row("D3")
@pytest.mark.timeout(3600)
@pytest.mark.skipif(
    not os.environ.get("PENSTOCK_TEST_LONG"), reason="takes minutes and an image of AWS's: set PENSTOCK_TEST_LONG=1"
)
def test_every_event_is_answered_in_a_container(tmp_path: Path) -> None:
    if not reached_by_an_engine():
        pytest.skip("no engine answers `docker info` or `podman info`: start one")
    sam.install(sam.SAM)
    here = f"Architecture={sam.ARCHITECTURE} Runtime=python{sam.PYTHON}"
    config = ["--config-file", str(template.ROOT / "samconfig.toml"), "--parameter-overrides", here]
    built = run("build", "--build-dir", str(tmp_path), *config)
    assert built.returncode == 0, built.stderr
    for path, function in EVENTS.items():
        if function == "StreamApi" and not os.environ.get("AWS_ACCESS_KEY_ID"):
            continue  # SAM fetches the adapter's layer from AWS
        told = run("local", "invoke", function, "-e", str(path), "--template", str(tmp_path / "template.yaml"), *config)
        assert told.returncode == 0, f"{path.name}: {told.stderr}"
        assert "errorType" not in json.loads(told.stdout.strip().splitlines()[-1]), path.name
