"""A configuration that is pushed to DynamoDB while a function lives: it follows, and nobody starts it again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.server import penstock, wait_for
from tests.functions import doors, dynamodb, runtime_api

CONFIG = """\
auth: {api_keys: [test-key]}
limits: {enabled: false}
providers:
  - {name: NAME, type: simulated, models: [NAME]}
"""
AWS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


@pytest.fixture
def state() -> Iterator[dict[str, str]]:
    with dynamodb.serve() as wire:
        yield {"PENSTOCK_STATE_URL": wire.state_url, "PENSTOCK_QUEUE_URL": wire.queue_url}


def file(folder: Path, name: str) -> str:
    path = folder / f"{name}.yaml"
    path.write_text(CONFIG.replace("NAME", name), encoding="utf-8")
    return str(path)


def test_a_function_follows_what_is_pushed_and_says_which_version_it_is(state: dict[str, str], tmp_path: Path) -> None:
    def push(name: str) -> str:
        pushed = penstock("config", "push", file(tmp_path, name), folder=tmp_path, **AWS, **state)
        assert pushed.returncode == 0, pushed.stderr
        return pushed.stdout.split()[1]

    packed = {**state, "PENSTOCK_CONFIG": file(tmp_path, "packed")}
    with runtime_api.serve() as api, doors.buffered("HttpApi", api, packed, tmp_path / "log") as door:

        def served() -> tuple[str, list[str]]:
            answer: Any = door.call(doors.event("http_api_models"))
            assert answer["statusCode"] == 200, answer
            models = [model["id"] for model in json.loads(answer["body"])["data"]]
            return answer["headers"]["x-penstock-config"], models

        seen = [served()]
        assert seen[0][1] == ["packed"]
        for name in ("first", "second"):
            told = (push(name), [name])
            wait_for(lambda told=told: seen.append(served()) or seen[-1] == told, f"{told} to be served", 20)
        assert len({version for version, _ in seen}) == 3
        assert all(version == other for version, models in seen for other, those in seen if models == those)
        assert door.process.poll() is None
