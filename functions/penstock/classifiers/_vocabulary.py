"""Finds the words of a vocabulary in a text, in one pass over the text's own words."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping

_WORD = re.compile(r"\w+")
_SPACED = "\u0900"
"""Scripts from here on are looked for anywhere; those before it put spaces between words."""
_ARABIC = range(0x0600, 0x0780)
"""It has spaces, but its words change at both ends."""
SHORTEST, LONGEST = 3, 14


class Vocabulary:
    """Which features' words a text has, and how often."""

    def __init__(self, words: Mapping[str, str]) -> None:
        self._whole: defaultdict[str, set[str]] = defaultdict(set)
        self._begun: defaultdict[str, set[str]] = defaultdict(set)
        self._anywhere: list[tuple[str, str]] = []
        for feature, told in words.items():
            for word in re.split(r"[,\n]", told):
                if word := word.strip().lower():
                    self._add(feature, word)

    def _add(self, feature: str, word: str) -> None:
        if word[0] >= _SPACED or ord(word[0]) in _ARABIC:
            self._anywhere.append((feature, word.rstrip("*")))
        elif word.endswith("*"):
            self._begun[word[:-1]].add(feature)
        elif _WORD.fullmatch(word):
            self._whole[word].add(feature)
        else:
            self._anywhere.append((feature, f" {' '.join(_WORD.findall(word))} "))

    def found(self, text: str) -> Counter[str]:
        """How many different words of each feature a text has."""
        lowered = text.lower()
        words = _WORD.findall(lowered)
        spaced = f" {' '.join(words)} "
        seen: set[tuple[str, str]] = set()
        for word in set(words):
            for feature in self._whole.get(word, ()):
                seen.add((feature, word))
            for end in range(SHORTEST, min(len(word), LONGEST) + 1):
                for feature in self._begun.get(word[:end], ()):
                    seen.add((feature, word[:end]))
        for feature, phrase in self._anywhere:
            if phrase in (spaced if phrase[0] == " " else lowered):
                seen.add((feature, phrase))
        return Counter(feature for feature, _ in seen)
