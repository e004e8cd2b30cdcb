"""What the engines of wires other than OpenAI's say: as the plug ``simulated`` does, and told so by the same words."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from penstock.providers._example import example

SIGN = "simulate: "


def tell(body: dict[str, Any]) -> dict[str, Any]:
    """The body with its field ``simulate``, for which the wire has no place, in a system message."""
    rest = {name: value for name, value in body.items() if name != "simulate"}
    if "simulate" in body:
        rest["messages"] = [{"role": "system", "content": SIGN + json.dumps(body["simulate"])}, *body["messages"]]
    return rest


@dataclass
class Speech:
    """What to say, a word at a time, and how badly to behave; ``limit`` is the most words."""

    prompt: str
    system: str = ""
    limit: int | None = None
    schema: Any = None
    tools: list[tuple[str, Any]] = field(default_factory=list)

    @property
    def simulate(self) -> dict[str, Any]:
        """How badly."""
        told: dict[str, Any] = json.loads(self.system.removeprefix(SIGN)) if self.system.startswith(SIGN) else {}
        return told

    @property
    def words(self) -> list[str]:
        """The answer."""
        said = f"[simulated] {self.prompt}" if self.schema is None else json.dumps(example(self.schema))
        return re.findall(r"\s*\S+|\s+$", said)[: self.limit]

    @property
    def cut(self) -> bool:
        """Whether the limit cuts the answer."""
        return self.limit is not None and self.limit == len(self.words)

    @property
    def calls(self) -> list[tuple[str, Any]]:
        """The tools to call, with arguments that their schemas admit."""
        return [(name, example(schema)) for name, schema in self.tools]

    @property
    def pause(self) -> float:
        """Seconds between two words."""
        return 1 / self.simulate["tokens_per_second"] if "tokens_per_second" in self.simulate else 0.0
