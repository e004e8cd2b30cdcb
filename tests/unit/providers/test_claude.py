"""What is known of a Claude model by its name, old names and new."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.providers._claude import STRANGER, traits

# The most tokens of an answer, how it thinks, how that is turned off, and whether it takes a temperature.
MODELS = {
    "claude-2.1": (4096, "", "", True),
    "claude-3-haiku-20240307": (4096, "", "", True),
    "claude-3-5-sonnet-20240620": (8192, "", "", True),
    "claude-3-7-sonnet-latest": (64_000, "budget", "", True),
    "claude-opus-4-20250514": (32_000, "budget", "", True),
    "claude-opus-4@20250514": (32_000, "budget", "", True),
    "claude-opus-4-1-20250805": (32_000, "budget", "", True),
    "claude-sonnet-4-0": (64_000, "budget", "", True),
    "claude-haiku-4-5-20251001": (64_000, "budget", "", True),
    "anthropic/claude-sonnet-4.5": (64_000, "budget", "", True),
    "us.anthropic.claude-opus-4-6-v1:0": (128_000, "adaptive", "", True),
    "eu.anthropic.claude-sonnet-4-5-20250929-v1:0": (64_000, "budget", "", True),
    "anthropic.claude-opus-4-20250514-v1:0": (32_000, "budget", "", True),
    "anthropic.claude-3-5-sonnet-20241022-v2:0": (8192, "", "", True),
    "claude-sonnet-4-6": (128_000, "adaptive", "", True),
    "claude-opus-4-7": (128_000, "adaptive", "", False),
    "claude-opus-5": (128_000, "adaptive", "disabled", False),
    "claude-sonnet-5": (128_000, "adaptive", "disabled", False),
    "claude-sonnet-5-5": (128_000, "adaptive", "between_tools", False),
    "claude-haiku-5-5": (128_000, "adaptive", "disabled", False),
    "claude-opus-5-5": (128_000, "adaptive", None, False),
    "claude-fable-5": (128_000, "adaptive", None, False),
    "claude-mythos-preview": (128_000, "adaptive", None, False),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_name_tells_what_its_model_takes(name: str) -> None:
    claude = traits(name)
    assert (claude.most, claude.thinks, claude.quiet, claude.samples) == MODELS[name]


def test_the_newest_cannot_be_made_to_use_a_tool() -> None:
    refusing = ["claude-fable-5-1", "claude-mythos-5-1", "claude-opus-5-5", "claude-sonnet-5-5"]
    assert not any(traits(name).forced for name in refusing)
    taking = ["claude-fable-5", "claude-opus-5", "claude-sonnet-5", "claude-haiku-5-5", "claude-3-opus-20240229"]
    assert all(traits(name).forced for name in taking)


def test_a_schema_and_two_ways_of_sampling_are_a_matter_of_age() -> None:
    assert [traits(f"claude-opus-{version}").schemas for version in ("4-1", "4-5", "5")] == [False, True, True]
    assert [traits(f"claude-opus-{version}").both for version in ("4-0", "4-1")] == [True, False]


@given(st.text(max_size=60))
def test_any_name_is_a_model(name: str) -> None:
    assert traits(name).most > 0
    if "claude-" not in name:
        assert traits(name) is STRANGER
