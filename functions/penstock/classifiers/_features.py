"""What the rules see in a prompt, each feature as an amount, and the points that one of it is worth."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from penstock.classifiers._vocabulary import Vocabulary
from penstock.core.ports.classifier import Prompt

EXCERPT = 1_500
"""Characters of a prompt's beginning, and of its end, that are read: there it says what it wants."""
SAMPLE = 2_000
SHORT = 18
"""Tokens from which a prompt is no short one."""
CASUAL = ("greeting", "fact")
"""What says little about a prompt that is not short: a long one may well begin with a greeting."""
VOCABULARY = Vocabulary(tomllib.loads(Path(__file__).with_name("words.toml").read_text(encoding="utf-8")))

WEIGHTS: dict[str, float] = {
    "base": 0.61,
    "very_short": -0.12,
    "long": 0.10,
    "very_long": 0.20,
    "greeting": -0.25,
    "translate": -0.25,
    "summarize": -0.18,
    "rewrite": -0.20,
    "extract": -0.18,
    "fact": -0.15,
    "small": -0.15,
    "proof": 0.45,
    "reason": 0.20,
    "analyze": 0.28,
    "plan": 0.25,
    "build": 0.28,
    "compose": 0.25,
    "demand": 0.06,
    "questions": 0.08,
    "items": 0.05,
    "numbers": 0.03,
    "formula": 0.12,
    "code": 0.10,
    "much_code": 0.20,
    "image": 0.0,
    "tools": 0.05,
    "structured": 0.0,
    "turns": 0.03,
    "short_answer": -0.10,
    "long_answer": 0.10,
}
"""The points of one of each feature: above none it speaks for a large model, below for a small one."""
MOST: dict[str, int] = {"demand": 4, "questions": 3, "items": 4, "numbers": 4, "tools": 6, "turns": 5, "formula": 2}
"""How many of a feature count; of the others, one."""

_CODE = re.compile(
    r"```|^ {4}\S|[;{}]\s{0,4}$"
    r"|\b(?:def|return|import|function|const|public|static|void|SELECT|FROM|WHERE|INSERT)\b\s{0,4}\S",
    re.MULTILINE,
)
_FORMULA = re.compile(
    r"[∫∑∏√∞≤≥≠∈∀∃→∂πθλ]|\\(?:frac|int|sum|sqrt|lim)|[a-zA-Z]\^\(?[\dn]"
    r"|\b[a-zA-Z]\([a-z0-9]\)|[=<>]\s?-?\d*[a-z]\b"
)
_ITEM = re.compile(r"^\s{0,8}(?:[-*•]|\d{1,2}[.)]|[a-z]\))\s", re.MULTILINE)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_QUESTION = re.compile(r"[?？؟]")


def measured(prompt: Prompt) -> dict[str, float]:
    """How much of each feature a prompt has. It takes no longer for a long one than for one of 3,000 characters."""
    asked = prompt.asked
    text = asked if len(asked) <= 2 * EXCERPT else f"{asked[:EXCERPT]}\n{asked[-EXCERPT:]}"
    tokens = guessed_tokens(text, prompt.characters)
    words = VOCABULARY.found(text)
    found: dict[str, float] = {"base": 1.0, **dict.fromkeys(words, 1)}
    found["demand"] = words["demand"]
    if tokens >= SHORT:
        found |= dict.fromkeys(CASUAL, 0)
    found |= _size(tokens, prompt)
    found |= _looks(text)
    return {name: min(amount, MOST.get(name, 1)) for name, amount in found.items() if amount}


def guessed_tokens(text: str, characters: int) -> float:
    """About how many tokens so many characters of this kind of text are: of a Latin one four are a token, of a Chinese
    one three are two.
    """
    sample = text[:SAMPLE]
    wide = sum(character >= "\u2e80" for character in sample)
    return characters * (0.7 * wide + (len(sample) - wide) / 4) / max(len(sample), 1)


def _size(tokens: float, prompt: Prompt) -> dict[str, float]:
    answer = prompt.max_tokens
    return {
        "very_short": tokens < SHORT,
        "long": tokens >= 120,
        "very_long": tokens >= 1_500,
        "image": prompt.images,
        "tools": max(prompt.tools - 1, 0),
        "structured": prompt.structured,
        "turns": max(prompt.turns - 3, 0),
        "short_answer": answer is not None and answer <= 32,
        "long_answer": answer is not None and answer >= 2_000,
    }


def _looks(text: str) -> dict[str, float]:
    code = len(_CODE.findall(text))
    return {
        "code": code > 0,
        "much_code": code >= 8,
        "formula": len(_FORMULA.findall(text)),
        "items": max(len(_ITEM.findall(text)) - 1, 0),
        "numbers": max(len(_NUMBER.findall(text)) - 3, 0),
        "questions": max(len(_QUESTION.findall(text)) - 1, 0),
    }
