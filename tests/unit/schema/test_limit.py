"""Limits and budgets as people state them: their windows, and when those end."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.schema.limit import PERIODS, Budget, Limits, window, window_ends


def at(year: int, month: int, day: int, *time: int) -> float:
    return datetime(year, month, day, *time, tzinfo=UTC).timestamp()  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    ("moment", "daily", "weekly", "monthly"),
    [
        (at(2026, 11, 21, 12), "2026-11-21", "2026-W47", "2026-11"),
        (at(2027, 1, 1), "2027-01-01", "2026-W53", "2027-01"),
        (at(2027, 1, 4), "2027-01-04", "2027-W01", "2027-01"),
        (at(2024, 12, 30), "2024-12-30", "2025-W01", "2024-12"),
        (at(2024, 2, 29, 23, 59, 59), "2024-02-29", "2024-W09", "2024-02"),
    ],
)
def test_a_moment_falls_into_one_window_of_each_period(moment: float, daily: str, weekly: str, monthly: str) -> None:
    assert [window(period, moment) for period in PERIODS] == [daily, weekly, monthly, "total"]


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("2026-11-21", at(2026, 11, 22)),
        ("2024-02-28", at(2024, 2, 29)),
        ("2026-12-31", at(2027, 1, 1)),
        ("2026-W53", at(2027, 1, 4)),
        ("2025-W01", at(2025, 1, 6)),
        ("2026-12", at(2027, 1, 1)),
        ("2024-02", at(2024, 3, 1)),
        ("total", None),
    ],
)
def test_a_window_ends_at_midnight_of_utc(name: str, end: float | None) -> None:
    assert window_ends(name) == end


@given(moment=st.integers(0, 4_000_000_000), period=st.sampled_from(PERIODS[:3]))
def test_a_window_holds_until_its_end_and_not_a_second_longer(moment: int, period: str) -> None:
    name = window(period, moment)
    end = window_ends(name)
    assert end is not None
    assert moment < end
    assert window(period, end - 1) == name
    assert window(period, end) != name


def test_a_budget_names_the_windows_of_now_in_nano_dollars() -> None:
    budget = Budget(daily=0.1, total=2.5)
    assert budget.ceilings(at(2026, 11, 21)) == (("2026-11-21", 100_000_000), ("total", 2_500_000_000))


def test_a_burst_that_nobody_states_is_a_sixth_of_the_minutes() -> None:
    assert [Limits(requests_per_minute=number).at_once for number in (1, 6, 7, 60)] == [1, 1, 2, 10]
    assert Limits(requests_per_minute=60, burst=3).at_once == 3


@pytest.mark.parametrize("wrong", [{"burst": 3}, {"concurrency": 0}, {"tokens_per_minute": 10**9 + 1}])
def test_limits_that_make_no_sense_are_refused_by_their_name(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Limits(**wrong)


@pytest.mark.parametrize("wrong", [-0.01, 2e9, float("nan")])
def test_budgets_that_make_no_sense_are_refused_by_their_name(wrong: float) -> None:
    with pytest.raises(ValueError, match="weekly"):
        Budget(weekly=wrong)
