"""What the tests of the doors share: the Runtime API double, a configuration, and a store in a new folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functions import runtime_api

KEY = "test-key"
CONFIG = """\
auth: {mode: keys, api_keys: [test-key]}
providers:
  - {name: simulated, type: simulated}
webhooks: {allow_networks: [127.0.0.0/8], allow_http: true}
caching: {enabled: true}
"""


@pytest.fixture(scope="module")
def api() -> Iterator[runtime_api.RuntimeApi]:
    with runtime_api.serve() as api:
        yield api


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("door")


@pytest.fixture(scope="module")
def given(folder: Path) -> dict[str, str]:
    """What a deployment adds to the template: here a SQLite store and a provider that is simulated."""
    config = folder / "config.yaml"
    config.write_text(CONFIG, encoding="utf-8")
    return {"PENSTOCK_STATE_URL": f"sqlite:///{folder}/state.db", "PENSTOCK_CONFIG": str(config)}
