"""What callers wish of a Claude model's thinking and choice of words, in fields of Anthropic's own.

Bedrock takes the same fields, in other places.
"""

from __future__ import annotations

from typing import Any

from penstock.providers._claude import Claude
from penstock.providers._line import refused

Fields = dict[str, Any]

_BUDGETS = {"minimal": 1024, "low": 4096, "medium": 8192, "high": 16_384, "xhigh": 32_768, "max": 32_768}
_LEAST_BUDGET = 1024
_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}


def thinking(asked: Fields, claude: Claude, bound: int, *, barred: bool) -> tuple[Fields, set[str]]:
    """Thinking as ``reasoning_effort`` asks for it, and the fields that are lost; the vendor's own goes before it.

    ``bound`` is the most tokens of the answer. ``barred`` says that a budget would be refused: where a tool is forced,
    or the thoughts before a call were not sent back.
    """
    effort = asked.get("reasoning_effort")
    if "thinking" in asked:
        if not isinstance(asked["thinking"], dict):
            raise refused("thinking: must be an object, as Anthropic defines it.", "thinking")
        return {"thinking": asked["thinking"]}, {"reasoning_effort"} if effort else set()
    if effort is None:
        return {}, set()
    if not isinstance(effort, str):
        return {}, {"reasoning_effort"}
    if effort == "none":
        quiet = {"thinking": {"type": claude.quiet}} if claude.quiet else {}
        return quiet, {"reasoning_effort"} if claude.quiet is None else set()
    if claude.thinks == "adaptive" and effort in _EFFORTS:
        wanted = _EFFORTS[effort]
        return {
            "thinking": {"type": "adaptive", "display": "summarized"},
            "output_config": {"effort": "high" if wanted == "xhigh" and not claude.xhigh else wanted},
        }, set()
    budget = min(_BUDGETS.get(effort, 0), bound // 2)
    if claude.thinks != "budget" or budget < _LEAST_BUDGET or barred:
        return {}, {"reasoning_effort"}
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}, set()


def sampling(asked: Fields, claude: Claude, *, thinks: bool) -> tuple[Fields, set[str]]:
    """Temperature and its kin, as far as the model takes them, and what is lost; 1 is what it has by itself."""
    found: Fields = {name: asked[name] for name in ("temperature", "top_p", "top_k") if name in asked}
    if thinks or not claude.samples:
        return {}, {name for name, value in found.items() if value != 1 or name == "top_k"}
    if "temperature" in found:
        found["temperature"] = min(found["temperature"], 1)
        if "top_p" in found and not claude.both and found.pop("top_p") != 1:
            return found, {"top_p"}
    return found, set()
