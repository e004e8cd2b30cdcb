"""How well the classifier ``rules`` does on labelled prompts: one part that it was tuned on, one that it never was."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from penstock.classifiers.rules import Rules, connect
from penstock.core.classification.prompt import read
from penstock.core.classification.sensitive import Sensitive
from penstock.schema.classification_section import AliasSection, SensitiveSection
from penstock.schema.key import ANONYMOUS
from penstock.schema.request import CHAT, Request

ROOT = Path(__file__).parents[2]
PARTS = ("tuning", "held_out")
ALIAS = AliasSection(tiers={"easy": ["small"], "hard": ["large"]})


@dataclass(frozen=True)
class Row:
    """A labelled prompt: ``label`` is the tier that a person gave it, ``sensitive`` what it holds."""

    label: str
    language: str
    kind: str
    body: dict[str, Any] = field(repr=False)
    sensitive: tuple[str, ...] = ()

    @property
    def request(self) -> Request:
        """The request that it would be."""
        return Request("row", CHAT, "auto", self.body, False, ANONYMOUS, 0.0)

    @property
    def words(self) -> str:
        """Its prompt, as a person wrote it."""
        text: str = self.body["messages"][0]["content"][0]["text"]
        return text


@dataclass
class Matrix:
    """Counts of rows by their label and the tier that was chosen, and the rows that were wrong."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: list[tuple[Row, float]] = field(default_factory=list)

    def rate(self, label: str) -> float:
        """The share of the rows with this label that went to the other tier."""
        other = "hard" if label == "easy" else "easy"
        return self.counts[label, other] / max(self.counts[label, other] + self.counts[label, label], 1)


def rows(part: str) -> list[Row]:
    """The labelled prompts of one part."""
    lines = (Path(__file__).parent / f"{part}.txt").read_text(encoding="utf-8").splitlines()
    return [_row(line) for line in lines if line and not line.startswith("#")]


def _row(line: str) -> Row:
    head, _, text = line.partition(" | ")
    label, language, kind, *options = head.split()
    said = dict(option.partition("=")[::2] for option in options if "=" in option)
    sensitive = next((option[1:].split(",") for option in options if option.startswith("!")), [])
    text = text.replace("\\n", "\n")
    if "with" in said:
        text += "\n\n" + (ROOT / said["with"]).read_text(encoding="utf-8")
    picture = {"type": "image_url", "image_url": {"url": "https://pictures.test/one.png"}}
    content = [{"type": "text", "text": text}, *[picture] * int(said.get("images", 0))]
    tool = {"type": "function", "function": {"name": "tool", "parameters": {"type": "object"}}}
    body: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": content}]}
    if "tools" in said:
        body["tools"] = [tool] * int(said["tools"])
    return Row(label, language, kind, body, tuple(sensitive))


def judged(found: Sequence[Row], rules: Rules | None = None) -> Matrix:
    """What the rules make of these rows."""
    rules = rules or connect(ALIAS)
    matrix = Matrix()
    for row in found:
        verdict = rules.judged(read(row.request))
        matrix.counts[row.label, verdict.tier] += 1
        if verdict.tier != row.label:
            matrix.wrong.append((row, verdict.score or 0.0))
    return matrix


def seen(found: Sequence[Row]) -> dict[str, Counter[str]]:
    """Of each kind of sensitive thing how often it was found, missed, and found where there is none."""
    sensitive = Sensitive(SensitiveSection())
    told: dict[str, Counter[str]] = {}

    async def look() -> None:
        for row in found:
            kinds = set(await sensitive.found(read(row.request).texts))
            for kind in kinds | set(row.sensitive):
                result = (
                    "found"
                    if kind in row.sensitive and kind in kinds
                    else "missed"
                    if kind in row.sensitive
                    else "false"
                )
                told.setdefault(kind, Counter())[result] += 1

    asyncio.run(look())
    return told


async def _seconds(requests: Sequence[Request], rounds: int = 5) -> list[float]:
    """What each request takes to be read, looked through and scored: the best of some rounds, in rising order."""
    rules, sensitive = connect(ALIAS), Sensitive(SensitiveSection())
    best = []
    for request in requests:
        took = []
        for _ in range(rounds):
            began = time.perf_counter()
            prompt = read(request)
            await sensitive.found(prompt.texts)
            rules.judged(prompt)
            took.append(time.perf_counter() - began)
        best.append(min(took))
    return sorted(best)


def ordinary() -> list[float]:
    """Seconds for each labelled prompt of less than 2,000 characters, in rising order."""
    found = [row.request for part in PARTS for row in rows(part) if len(row.words) < 2_000]
    return asyncio.run(_seconds(found))


def huge(unit: str = "The quick brown fox, 12 of 34, jumps over. ") -> float:
    """Seconds for a prompt of a million characters."""
    text = unit * (1_000_000 // len(unit))
    body = {"model": "auto", "messages": [{"role": "user", "content": text}]}
    return asyncio.run(_seconds([Request("row", CHAT, "auto", body, False, ANONYMOUS, 0.0)], 2))[0]


def tables() -> Iterator[str]:
    """The matrices, as Markdown."""
    for part in PARTS:
        found = rows(part)
        matrix = judged(found)
        languages = len({row.language for row in found})
        yield f"**{part.replace('_', ' ')}**: {len(found)} prompts in {languages} languages"
        yield ""
        yield "| labelled | to `small` | to `large` | wrong |"
        yield "|---|---|---|---|"
        for label, name in (
            ("easy", "easy to the large model (costly)"),
            ("hard", "hard to the small model (dangerous)"),
        ):
            easy, hard = matrix.counts[label, "easy"], matrix.counts[label, "hard"]
            yield f"| {label} | {easy} | {hard} | {matrix.rate(label):.1%} {name} |"
        yield ""
        yield "| sensitive | found | missed | found where there is none |"
        yield "|---|---|---|---|"
        for kind, counts in sorted(seen(found).items()):
            yield f"| {kind} | {counts['found']} | {counts['missed']} | {counts['false']} |"
        yield ""


def page() -> Iterator[str]:
    """The matrices, and the time that it takes."""
    yield from tables()
    took = ordinary()
    middle, nearly = took[len(took) // 2], took[len(took) * 99 // 100]
    yield f"Read, looked through and scored: {middle * 1e6:.0f} µs (median), {nearly * 1e6:.0f} µs (99 %)."
    yield f"A prompt of a million characters: {huge() * 1e3:.0f} ms."
