"""What is selected of a provider on a running server: another one on the same state obeys."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.server import KEY, Server, wait_for

CONFIG = """
auth: {api_keys: [test-key]}
limits: {enabled: false}
providers:
  - {name: first, type: simulated, models: [one, two]}
  - {name: second, type: simulated, models: [one], priority: 2}
"""


def served(server: Server) -> dict[str, str]:
    with server.client(KEY) as client:
        return {model["id"]: model["owned_by"] for model in client.get("/v1/models").json()["data"]}


def test_a_selection_in_one_process_is_obeyed_by_the_other_within_5_seconds_and_after_a_restart(tmp_path: Path) -> None:
    with Server(tmp_path, CONFIG) as first, Server(tmp_path, CONFIG) as second:
        assert served(second) == {"one": "first", "two": "first"}
        with first.client(KEY) as client:
            body = {"selected_model": "two", "editable": True, "priority": 5}
            assert client.put("/v1/providers/first/model_selection", json=body).status_code == 200
        wait_for(lambda: served(second) == {"one": "second", "two": "first"}, "the other process to obey", seconds=5.5)
        with second.client(KEY) as client:
            assert client.post("/v1/registry/refresh").json()["models"] == ["one", "two"]
    with Server(tmp_path, CONFIG) as third:
        assert served(third) == {"one": "second", "two": "first"}
