"""What a configuration may say of aliases, and what is said of a mistake in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from penstock import settings
from penstock.bootstrap import build
from penstock.errors import SettingsError

TIERS = {"small": ["one"], "large": ["two"]}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no tiers": ({"tiers": {}}, "tiers: must be at least one"),
    "an empty tier": ({"tiers": {"small": []}}, "tiers: must be at least one"),
    "a name that is none": ({"tiers": {"small": ["a b"]}}, "tiers: must be lists of models"),
    "a local tier that is none": ({"local_tiers": ["medium"]}, "local_tiers: must be some of the tiers"),
    "a default that is none": ({"default": "medium"}, "default: must be one of the tiers"),
    "too many thresholds": ({"rules": {"thresholds": [0.2, 0.6]}}, "rules: must be with 1 thresholds"),
    "thresholds that fall": ({"rules": {"thresholds": [0.6, 0.2]}}, "thresholds: must be in rising order"),
    "a pattern without bounds": ({"rules": {"patterns": {"a+b": 0.1}}}, "patterns: must be bounded"),
    "a feature that is none": ({"rules": {"weights": {"lenght": 1.0}}}, "rules: has no features ['lenght']"),
    "a judge without a model": ({"classifier": "judge"}, "judge: must be with a model"),
    "examples without a model": ({"classifier": "examples"}, "examples: must be with a model"),
    "examples of one tier": (
        {"classifier": "examples", "examples": {"model": "v", "prompts": {"small": ["hi"]}}},
        "examples: must be with prompts of every tier",
    ),
    "a classifier that is none": ({"classifier": "rulez"}, "classifier: there is no 'rulez' in classifiers"),
    "an alias of itself": ({"tiers": {"small": ["auto"]}}, "aliases: must be of models and not of other aliases"),
    "a key that nothing reads": ({"clasifier": "rules"}, "nothing reads this key; did you mean 'classifier'?"),
}


def refused(folder: Path, section: dict[str, Any]) -> str:
    path = folder / "config.yaml"
    path.write_text(json.dumps({"providers": [], "classification": section}), encoding="utf-8")
    with pytest.raises(SettingsError) as told:
        build(settings.load({}, config=str(path), state=f"sqlite:///{folder}/state.db"))
    return str(told.value)


@pytest.mark.parametrize(("alias", "words"), WRONG.values(), ids=WRONG)
def test_a_mistake_in_an_alias_is_told_with_its_place(tmp_path: Path, alias: dict[str, Any], words: str) -> None:
    told = refused(tmp_path, {"aliases": {"auto": {"tiers": TIERS, **alias}}})
    assert words in told
    assert "config.yaml:1: classification." in told


def test_sensitive_things_are_of_known_kinds_and_bounded_patterns(tmp_path: Path) -> None:
    assert "kinds: must be a list of these: email" in refused(tmp_path, {"sensitive": {"kinds": ["emails"]}})
    assert "patterns: must be bounded" in refused(tmp_path, {"sensitive": {"patterns": {"mine": ".*"}}})
