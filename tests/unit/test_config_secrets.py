"""What the state keeps of a configuration: no secret, wherever it stands, and the same meaning."""

from __future__ import annotations

from itertools import pairwise

import pytest
import yaml

from penstock.config import document_of
from penstock.config.secrets import kept
from penstock.errors import SettingsError
from penstock.schema.source import Source

CANARY = "canary-secret"
BOMB = "\n".join(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]" for before, name in pairwise("abcdefghi"))
MERGED = "\n".join(f"{name}: &{name} {{<<: [{', '.join([f'*{b}'] * 9)}]}}" for b, name in pairwise("abcdefghi"))


@pytest.mark.parametrize(
    "text",
    [
        "auth: {api_keys: [&k canary-secret]}\nproviders: [{name: a, base_url: *k}]\n",
        "auth: {api_keys: [&k canary-secret]}\nproviders: [{name: a, api_key: *k}]\n",
        "providers: [{name: a, api_key: &k canary-secret, note: *k}]\n",
        "# api_key: canary-secret\nauth: {}\n",
        "auth: {} # before canary-secret\n# canary-secret",
        "auth:\n  api_keys:\n  # - canary-secret\n  - other\n",
        "auth: {mode: keys, # canary-secret\n  api_keys: []}\n",
        "words: | # canary-secret\n  text\n",
    ],
)
def test_no_secret_is_kept_wherever_it_stands(text: str) -> None:
    assert CANARY not in (after := kept(Source("config.yaml", text)))
    assert after.count("\n") == text.count("\n"), "the lines of mistakes are others now"


def test_a_key_that_is_a_providers_as_well_is_masked_and_not_taken_for_its_hash() -> None:
    for text in ("a: {api_key: &k word}\nauth: {api_keys: [*k]}\n", "auth: {api_keys: [&k word]}\na: {api_key: *k}\n"):
        assert yaml.safe_load(kept(Source("config.yaml", text)))["a"]["api_key"] == "***"


def test_what_only_looks_like_a_comment_stays() -> None:
    text = "a: x#y\nb: 'in # quotes'\nc: |\n  # a line\nd: \"two\\\n  # lines\"\ne: [1, 2] # gone\n"
    assert yaml.safe_load(kept(Source("config.yaml", text))) == yaml.safe_load(text)


@pytest.mark.parametrize(("first", "lines"), [("a: &a [x, x, x]", BOMB), ("a: &a {x: 1}", MERGED)])
def test_a_few_lines_that_would_fill_all_memory_are_refused(first: str, lines: str) -> None:
    with pytest.raises(SettingsError, match="fewer aliases"):
        document_of(Source("config.yaml", f"{first}\n{lines}\n"))
