"""The section ``classification`` of a configuration."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from penstock.schema.bounded_pattern import mistake_in
from penstock.schema.bounds import require
from penstock.schema.model import MODEL_NAME, MODEL_NAMES

ALWAYS = ("email", "phone", "card", "iban", "ssn", "secret")
KINDS = (*ALWAYS, "medical", "legal", "image")
"""Kinds of sensitive things that are known."""
HEAVIEST = 5.0


@dataclass(frozen=True, slots=True)
class SensitiveSection:
    """What stays local: ``kinds`` of things that are known, and an operator's own ``keywords`` and ``patterns``, which
    go by a name.
    """

    kinds: list[str] = field(default_factory=lambda: list(ALWAYS))
    keywords: list[str] = field(default_factory=list)
    patterns: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require("kinds", set(self.kinds) <= set(KINDS), f"a list of these: {', '.join(KINDS)}")
        require("keywords", _are_words(self.keywords), "words of 2 to 100 characters, at most 1000")
        _require_patterns("patterns", self.patterns.values())
        require("patterns", all(name.isidentifier() for name in self.patterns), "named by letters, digits and _")


@dataclass(frozen=True, slots=True)
class RuleSection:
    """How the classifier ``rules`` scores. ``weights`` stand in the place of its own, by the names of its features;
    ``keywords`` and ``patterns`` add points, or take them away. A prompt belongs to the first tier whose threshold is
    above its score.
    """

    thresholds: list[float] = field(default_factory=list)
    weights: dict[str, float] = field(default_factory=dict)
    keywords: dict[str, float] = field(default_factory=dict)
    patterns: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("weights", "keywords", "patterns"):
            points = getattr(self, name).values()
            require(name, all(abs(each) <= HEAVIEST for each in points), f"worth from -{HEAVIEST:g} to {HEAVIEST:g}")
        require("thresholds", all(0 < each < 1 for each in self.thresholds), "more than 0 and less than 1")
        require("thresholds", sorted(set(self.thresholds)) == self.thresholds, "in rising order")
        require("keywords", _are_words(self.keywords), "words of 2 to 100 characters, at most 1000")
        _require_patterns("patterns", self.patterns)


@dataclass(frozen=True, slots=True)
class ExampleSection:
    """What the classifier ``examples`` compares with: ``prompts`` by tier. The ``model`` makes embeddings, within
    ``timeout`` seconds, and the ``nearest`` so many vote.
    """

    model: str = ""
    prompts: dict[str, list[str]] = field(default_factory=dict)
    nearest: int = 5
    timeout: float = 5.0

    def __post_init__(self) -> None:
        require(
            "model", not self.model or bool(MODEL_NAME.fullmatch(self.model)), MODEL_NAMES.replace("names", "a name")
        )
        said = [prompt for prompts in self.prompts.values() for prompt in prompts]
        require(
            "prompts", all(prompt.strip() for prompt in said) and len(said) <= 1000, "at most 1000, none of them empty"
        )
        require("nearest", 1 <= self.nearest <= 100, "from 1 to 100")
        require("timeout", 0 < self.timeout <= 60, "more than 0 and at most 60 seconds")


@dataclass(frozen=True, slots=True)
class JudgeSection:
    """Whom the classifier ``judge`` asks: a ``model``, which has ``timeout`` seconds. ``constrained`` says whether its
    answer is held to a JSON schema, or asked for as one word.
    """

    model: str = ""
    timeout: float = 5.0
    constrained: bool = True

    def __post_init__(self) -> None:
        require(
            "model", not self.model or bool(MODEL_NAME.fullmatch(self.model)), MODEL_NAMES.replace("names", "a name")
        )
        require("timeout", 0 < self.timeout <= 60, "more than 0 and at most 60 seconds")


@dataclass(frozen=True, slots=True)
class AliasSection:
    """A name that stands for models: its ``tiers``, from that for easy prompts to that for hard ones, each with models.
    Requests of ``local_tiers`` stay local whatever they hold. Where the classifier fails, ``default`` is the tier;
    without one the request is refused.
    """

    tiers: dict[str, list[str]]
    classifier: str = "rules"
    local_tiers: list[str] = field(default_factory=list)
    default: str | None = None
    rules: RuleSection = field(default_factory=RuleSection)
    examples: ExampleSection = field(default_factory=ExampleSection)
    judge: JudgeSection = field(default_factory=JudgeSection)
    options: dict[str, float | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        models = [model for tier in self.tiers.values() for model in tier]
        require("tiers", bool(self.tiers) and all(self.tiers.values()), "at least one, each with at least one model")
        require("tiers", all(name.isidentifier() for name in self.tiers), "named by letters, digits and _")
        require("tiers", all(map(MODEL_NAME.fullmatch, models)), f"lists of models: {MODEL_NAMES}")
        require("local_tiers", set(self.local_tiers) <= set(self.tiers), "some of the tiers")
        require("default", self.default is None or self.default in self.tiers, "one of the tiers")
        wanted = len(self.tiers) - 1
        require("rules", len(self.rules.thresholds) in (0, wanted), f"with {wanted} thresholds, between the tiers")
        self._check_classifier()

    def _check_classifier(self) -> None:
        require("examples", set(self.examples.prompts) <= set(self.tiers), "with prompts of the alias's own tiers")
        if self.classifier == "examples":
            require("examples", bool(self.examples.model), "with a model that makes embeddings")
            require("examples", set(self.examples.prompts) == set(self.tiers), "with prompts of every tier")
            require("examples", all(self.examples.prompts.values()), "with prompts of every tier")
        if self.classifier == "judge":
            require("judge", bool(self.judge.model), "with a model that is asked")


@dataclass(frozen=True, slots=True)
class ClassificationSection:
    """Names that stand for models, chosen for each prompt. ``local`` are globs of the providers that count as local:
    where it is not said, those on this machine and in private networks, the workers and the simulated one.
    """

    aliases: dict[str, AliasSection] = field(default_factory=dict)
    sensitive: SensitiveSection = field(default_factory=SensitiveSection)
    local: list[str] | None = None

    def __post_init__(self) -> None:
        require("aliases", all(map(MODEL_NAME.fullmatch, self.aliases)), MODEL_NAMES)
        for name, alias in self.aliases.items():
            asked = (alias.examples.model, alias.judge.model, *(each for tier in alias.tiers.values() for each in tier))
            wrong = set(asked) & set(self.aliases)
            require("aliases", not wrong, f"of models and not of other aliases, as {name!r} is of {sorted(wrong)}")


def _are_words(words: Iterable[str]) -> bool:
    found = list(words)
    return len(found) <= 1000 and all(len(word.strip()) >= 2 and len(word) <= 100 for word in found)


def _require_patterns(name: str, patterns: Iterable[str]) -> None:
    found = list(patterns)
    require(name, len(found) <= 100 and all(len(each) <= 500 for each in found), "at most 100, of 500 characters each")
    for pattern in found:
        wrong = mistake_in(pattern)
        require(name, wrong is None, f"{wrong}; {pattern[:60]!r} is not")
