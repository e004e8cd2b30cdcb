"""Starts each door as Lambda does: its own process, the template's handler and environment, the Runtime API double."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.functions import template
from tests.functions.runtime_api import PATIENCE, Invocation, RuntimeApi
from tests.ports import free_port

SOURCE = template.ROOT / "functions"


def event(name: str) -> dict[str, Any]:
    """An event of events/."""
    document: dict[str, Any] = json.loads((template.ROOT / "events" / f"{name}.json").read_text(encoding="utf-8"))
    return document


def presenting(event: dict[str, Any], key: str | None) -> dict[str, Any]:
    """The event as a caller with another key, or none, would have caused it."""
    for headers, value in ((event["headers"], f"Bearer {key}"), (event["multiValueHeaders"], [f"Bearer {key}"])):
        headers["Authorization"] = value
        if key is None:
            del headers["Authorization"]
    return event


class Door:
    """A running function: ``process`` is the one that holds our code."""

    def __init__(self, api: RuntimeApi, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._api = api
        self._log = log

    @property
    def log(self) -> str:
        """What the function has written so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def invoke(self, event: Any) -> Invocation:
        """Hand an event to the function."""
        return self._api.invoke(event, explain=lambda: self.log)

    def call(self, event: Any) -> Any:
        """Hand an event to a buffered function and give its answer."""
        return self.invoke(event).wait().answer


def environment(function: str, api: RuntimeApi, given: Mapping[str, str], root: Path = SOURCE) -> dict[str, str]:
    """What the function finds in its environment: Lambda's variables, the template's, then those of the deployment."""
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "LANG": "C.UTF-8",
        "AWS_LAMBDA_RUNTIME_API": api.address,
        "AWS_LAMBDA_FUNCTION_NAME": f"penstock-{function}",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1024",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/penstock-{function}",
        "AWS_LAMBDA_LOG_STREAM_NAME": "test",
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "LAMBDA_TASK_ROOT": str(root),
        "_HANDLER": template.functions()[function]["Handler"],
        **template.variables(function),
        **given,
    }


def lambda_alone(folder: Path) -> dict[str, str]:
    """An environment whose Python knows nothing but the standard library and AWS's runtime, as on Lambda."""
    programs, runtime = folder / "bin", folder / "runtime"
    programs.mkdir()
    runtime.mkdir()
    (programs / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n', encoding="utf-8")
    (programs / "python").chmod(0o755)
    for name in ("awslambdaric", "runtime_client", "simplejson", "snapshot_restore_py"):
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        place = Path(spec.origin).parent if spec.submodule_search_locations else Path(spec.origin)
        (runtime / place.name).symlink_to(place)
    return {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(runtime)}


@contextmanager
def run(command: list[str], cwd: Path, env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block, however the block ends."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, cwd=cwd, env=env, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait(PATIENCE)


@contextmanager
def buffered(
    function: str, api: RuntimeApi, given: Mapping[str, str], log: Path, root: Path = SOURCE
) -> Iterator[Door]:
    """A Python function under AWS's own runtime interface client."""
    env = environment(function, api, given, root)
    with run(["python", "-m", "awslambdaric", env["_HANDLER"]], root, env, log) as process:
        yield Door(api, process, log)


@contextmanager
def streaming(
    adapter: Path, api: RuntimeApi, given: Mapping[str, str], log: Path, root: Path = SOURCE
) -> Iterator[Door]:
    """The server of run.sh with the adapter beside it, as the layer's bootstrap and Lambda's extensions start them."""
    env = environment("StreamApi", api, {"AWS_LWA_PORT": str(free_port()), **given}, root)
    with (
        run([str(root / env["_HANDLER"])], root, env, log) as server,
        run([str(adapter)], root, env, log),
    ):
        yield Door(api, server, log)
