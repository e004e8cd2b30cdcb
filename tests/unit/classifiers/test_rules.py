"""The classifier ``rules``: what it counts, that it explains itself, how long it takes, and how often it is wrong."""

from __future__ import annotations

import time

import pytest

from bench.classification import ALIAS, ROOT, judged, ordinary, rows, seen, tables
from penstock.classifiers.rules import connect
from penstock.core.ports.classifier import Prompt, Verdict
from penstock.schema.classification_section import AliasSection, RuleSection

TIERS = {"small": ["one"], "large": ["two"]}


def scored(text: str, rules: RuleSection | None = None, **more: int) -> Verdict:
    prompt = Prompt((text,), text, len(text), **more)
    return connect(AliasSection(tiers=TIERS, rules=rules or RuleSection())).judged(prompt)


def test_a_score_is_the_sum_of_its_reasons() -> None:
    told = scored("Compare the two designs and explain why one is better")
    assert told.score == pytest.approx(min(sum(reason.points for reason in told.reasons), 1))
    assert {"base", "analyze", "reason"} <= {reason.feature for reason in told.reasons}


def test_what_nothing_is_known_of_goes_to_the_large_model() -> None:
    assert (
        scored("Lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt").tier
        == "large"
    )


def test_an_operators_keywords_and_patterns_move_the_score() -> None:
    text = "What about ticket OPS-1234 in the ledger?"
    plain = scored(text)
    moved = scored(text, RuleSection(keywords={"ledger": 0.2}, patterns={r"OPS-\d{4}": 0.3}))
    assert moved.score == pytest.approx((plain.score or 0) + 0.5)
    assert {"ledger", r"OPS-\d{4}"} <= {reason.feature for reason in moved.reasons}


def test_weights_and_thresholds_can_be_changed() -> None:
    text = "hello there"
    assert scored(text).tier == "small"
    assert scored(text, RuleSection(weights={"greeting": 1.0})).tier == "large"
    assert scored(text, RuleSection(thresholds=[0.01])).tier == "large"
    with pytest.raises(ValueError, match="rules: has no features"):
        connect(AliasSection(tiers=TIERS, rules=RuleSection(weights={"lenght": 1.0})))


def test_three_tiers_share_the_scores() -> None:
    tiers = {"a": ["one"], "b": ["two"], "c": ["three"]}
    classifier = connect(AliasSection(tiers=tiers))
    told = [
        classifier.judged(Prompt((text,), text, len(text))).tier for text in ("hi", "Prove step by step that x^2 > 0")
    ]
    assert told == ["a", "c"]


def test_tools_turns_images_and_long_answers_count() -> None:
    plain = scored("Do it").score or 0
    assert (scored("Do it", tools=7).score or 0) > plain
    assert (scored("Do it", turns=9).score or 0) > plain
    assert (scored("Do it", max_tokens=8000).score or 0) > plain
    assert (scored("Do it", max_tokens=8).score or 0) < plain


def test_of_prompts_that_it_was_never_tuned_on_few_hard_ones_go_to_the_small_model() -> None:
    matrix = judged(rows("held_out"))
    assert matrix.rate("hard") <= 0.04, "hard prompts sent to the small model: the dangerous mistake"
    assert matrix.rate("easy") <= 0.12, "easy prompts sent to the large model: the costly one"
    assert matrix.rate("hard") < matrix.rate("easy"), "the default is biased to safety"


def test_everything_sensitive_in_the_labelled_prompts_is_found() -> None:
    for part in ("tuning", "held_out"):
        assert not sum(counts["missed"] for counts in seen(rows(part)).values())


def test_the_labelled_prompts_are_many_and_each_is_there_once() -> None:
    words = [row.words for part in ("tuning", "held_out") for row in rows(part)]
    assert len(words) >= 590
    assert len(set(words)) == len(words)


def test_the_guide_shows_these_numbers() -> None:
    shown = (ROOT / "docs" / "classification.md").read_text(encoding="utf-8").splitlines()
    assert not [line for line in tables() if line not in shown], "python -m bench.classification has other tables"


@pytest.mark.alone
def test_an_ordinary_prompt_is_looked_through_and_placed_in_less_than_a_millisecond() -> None:
    took = ordinary()
    assert took[len(took) * 99 // 100] < 0.001


@pytest.mark.alone
def test_a_huge_prompt_is_scored_as_fast_as_a_long_one() -> None:
    rules = connect(ALIAS)
    for text in (
        "def f(x): return x;\n" * 50_000,
        "- 1. a\n" * 150_000,
        "x^(" * 350_000,
        " " * 1_000_000,
        "a.b-" * 250_000,
    ):
        prompt = Prompt((), text, len(text))
        took = []
        for _ in range(5):
            began = time.perf_counter()
            rules.judged(prompt)
            took.append(time.perf_counter() - began)
        assert min(took) < 0.01
