"""Which dotted paths name a number, and what is said of those that do not."""

from __future__ import annotations

import pytest

from penstock.core.traffic import Counts, Tally
from penstock.core.vitals import Vitals
from penstock.hardware import machine
from penstock.schema.metric_path import GROUPS, mistake
from penstock.schema.traffic import Traffic


class Ledger:
    """A store with one outcome in its ledger."""

    async def sum_traffic(self, *, since: float, until: float, limit: int) -> Traffic:
        tally = Tally()
        tally.add("openai/gpt", "meta/llama-3.1", "ok", (), Counts(1, 1.0, 1, 0.5, 2, 3, 0.1))
        return tally.traffic(since, until)


async def test_every_number_that_is_told_has_a_path_and_every_path_a_number() -> None:
    store: object = Ledger()
    told = await Vitals(store, (), machine).read(60.0)  # type: ignore[arg-type]
    assert [path for path in told if mistake(path)] == []
    assert {(path.partition(".")[0], path.rpartition(".")[2]) for path in told} == {
        (group, key) for group, keys in GROUPS.items() for key in keys
    }


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("providers.openai.eror_rate", "did you mean providers.openai.error_rate?"),
        ("provider.openai.error_rate", "did you mean providers.…?"),
        ("summary.requests", "did you mean summary.total_requests?"),
        ("providers.error_rate", "such as providers.NAME.error_rate"),
        ("summary.openai.error_rate", "such as summary.total_requests"),
        ("system.memry_percent", "did you mean system.memory_percent?"),
        ("", "begins with providers, models, summary, system"),
        ("summary.x\n", "printable"),
        ("providers." + "x" * 300 + ".cost", "at most 300"),
    ],
)
def test_a_path_that_names_nothing_is_told_what_is_near(path: str, words: str) -> None:
    assert words in mistake(path)


@pytest.mark.parametrize("path", ["providers.openai.error_rate", "models.meta/llama-3.1-8b.total_tokens"])
def test_a_name_may_hold_dots_and_need_not_be_known_yet(path: str) -> None:
    assert mistake(path) == ""
