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


def test_a_mistake_in_the_configuration_is_told_at_start(given: dict[str, str], folder: Path) -> None:
    wrong = folder / "wrong.yaml"
    wrong.write_text("provider: []\n", encoding="utf-8")
    with (
        runtime_api.serve() as api,
        doors.buffered("Housekeeper", api, {**given, "PENSTOCK_CONFIG": str(wrong)}, folder / "wrong.log") as door,
    ):
        assert api.failed.wait(runtime_api.PATIENCE), door.log
    assert api.init_error is not None
    assert api.init_error["errorType"] == "SettingsError"
    assert "wrong.yaml:1" in api.init_error["errorMessage"]
    assert "providers" in api.init_error["errorMessage"]
