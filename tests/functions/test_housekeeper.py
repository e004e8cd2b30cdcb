"""The door for the clock, driven by its event through AWS's runtime interface client, on a SQLite store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functions import doors, runtime_api


@pytest.fixture(scope="module")
def door(api: runtime_api.RuntimeApi, given: dict[str, str], folder: Path) -> Iterator[doors.Door]:
    with doors.buffered("Housekeeper", api, given, folder / "log") as door:
        yield door


def test_a_tick_answers_with_what_was_done(door: doors.Door) -> None:
    done = door.call(doors.event("housekeeper_schedule"))
    assert done["models"] == 1
    assert done["outcomes_pruned"] == 0


def test_a_second_tick_finds_nothing_left_to_do(door: doors.Door) -> None:
    first = door.call(doors.event("housekeeper_schedule"))
    assert door.call(doors.event("housekeeper_schedule")) == first


def test_a_mistake_in_the_configuration_is_told_with_its_file_and_key(given: dict[str, str], folder: Path) -> None:
    wrong = folder / "wrong.yaml"
    wrong.write_text("provider: []\n", encoding="utf-8")
    mistaken = {**given, "PENSTOCK_CONFIG": str(wrong)}
    with runtime_api.serve() as api, doors.buffered("Housekeeper", api, mistaken, folder / "wrong.log") as door:
        error = door.invoke(doors.event("housekeeper_schedule")).wait().error
    assert error is not None
    assert error["errorType"] == "SettingsError"
    assert "wrong.yaml:1" in error["errorMessage"]
    assert "providers" in error["errorMessage"]


@pytest.mark.parametrize(
    ("function", "event"), [("Housekeeper", "housekeeper_schedule"), ("JobRunner", "job_runner_chat")]
)
def test_a_store_that_is_away_fails_the_call_and_not_the_instance(
    given: dict[str, str], tmp_path: Path, function: str, event: str
) -> None:
    place = tmp_path / "away"
    away = {**given, "PENSTOCK_STATE_URL": f"sqlite:///{place}/state.db"}
    place.write_text("a file where the folder should be", encoding="utf-8")
    with runtime_api.serve() as api, doors.buffered(function, api, away, tmp_path / "log") as door:
        error = door.invoke(doors.event(event)).wait().error
        assert error is not None
        assert error["errorType"] == "StateError"
        place.unlink()
        assert door.call(doors.event(event)) is not None
