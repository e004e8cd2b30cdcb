"""The line that is logged for an outcome."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from penstock import telemetry
from tests.laws.stores.records import an_outcome


@pytest.fixture(autouse=True)
def the_log_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def line(form: str, capfd: pytest.CaptureFixture[str], **differs: object) -> str:
    telemetry.configure("INFO", form)
    telemetry.tell([an_outcome(**differs)])
    told = capfd.readouterr().err
    assert told.count("\n") == 1
    return told


@pytest.mark.parametrize(("nanos", "dollars"), [(0, 0.0), (1_234_567_890, 1.23456789), (1, 1e-9), (None, None)])
def test_the_cost_is_told_in_dollars(
    nanos: int | None, dollars: float | None, capfd: pytest.CaptureFixture[str]
) -> None:
    assert json.loads(line("json", capfd, cost_nanos=nanos))["cost"] == dollars


def test_a_person_is_told_the_cost_where_it_is_known(capfd: pytest.CaptureFixture[str]) -> None:
    assert " 12+30 tokens $0.001500 req_" in line("text", capfd, cost_nanos=1_500_000)
    assert " 12+30 tokens req_" in line("text", capfd, cost_nanos=None)


def test_a_line_for_a_person_is_without_keys_too(capfd: pytest.CaptureFixture[str]) -> None:
    telemetry.configure("INFO", "text")
    logging.getLogger("penstock").warning("sent Authorization: Bearer psk-secret to ?api_key=sk-secret")
    assert "secret" not in capfd.readouterr().err
