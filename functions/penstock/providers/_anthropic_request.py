"""A chat of OpenAI's wire as a request of Anthropic's Messages API, and what of it got lost on the way."""

from __future__ import annotations

from typing import Any

from penstock.core.ports import Call
from penstock.providers._anthropic_turns import conversation
from penstock.providers._claude import Claude, traits
from penstock.providers._claude_wishes import sampling, thinking
from penstock.providers._content import closed
from penstock.providers._line import refused

Body = dict[str, Any]

_READ = frozenset(
    (  # noqa: SIM905 - a sentence of names reads better than a column of strings
        "model messages stream stream_options max_tokens max_completion_tokens tools tool_choice parallel_tool_calls "
        "reasoning_effort thinking temperature top_p top_k stop user safety_identifier response_format service_tier "
        "cache_control"
    ).split()
)
_NEUTRAL = {"n": 1, "presence_penalty": 0, "frequency_penalty": 0, "logprobs": False, "store": False, "logit_bias": {}}
"""What asks for nothing, and is not missed."""
_TIERS = {"auto": "auto", "default": "standard_only"}
_CHOICES = {"auto": "auto", "none": "none", "required": "any"}


def messages_request(call: Call, model: str) -> Body:
    """The body to send to ``model``; ``call.dropped`` tells the fields that it has no room for.

    Raises ``UpstreamRefused`` for a message that cannot be translated.
    """
    asked = {name: value for name, value in call.body.items() if value is not None}
    claude = traits(model)
    system, turns = conversation(asked["messages"])
    body: Body = {"model": model, "max_tokens": _bound(asked, call.cap, claude), "messages": turns}
    if system:
        body["system"] = system
    lost = {name for name in asked if name not in _READ and not _is_neutral(name, asked[name])}
    for part in (_tools, _thinking, _sampling, _form, _rest):  # in this order: each looks at what is there already
        lost |= part(asked, body, claude)
    call.dropped = tuple(name for name in call.body if name in lost)
    return body


def _is_neutral(name: str, value: Any) -> bool:
    return name in _NEUTRAL and _NEUTRAL[name] == value


def _bound(asked: Body, cap: int | None, claude: Claude) -> int:
    """Tokens that the answer may have: the caller's word, else the house's, else the most that the model can say."""
    own = asked.get("max_completion_tokens", asked.get("max_tokens"))
    if own is not None:
        return int(own)
    return min(cap or claude.most, claude.most)


def _tools(asked: Body, body: Body, claude: Claude) -> set[str]:
    tools = asked.get("tools")
    if not tools:
        return set()
    body["tools"] = [_tool(tool, claude, f"tools.{number}") for number, tool in enumerate(tools)]
    choice = _choice(asked.get("tool_choice", "auto"))
    lost = choice is None or (choice["type"] in ("any", "tool") and not claude.forced)
    if choice is None or lost:
        choice = {"type": "auto"}
    if asked.get("parallel_tool_calls") is False and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    if choice != {"type": "auto"}:
        body["tool_choice"] = choice
    return {"tool_choice"} if lost else set()


def _tool(tool: Body, claude: Claude, place: str) -> Body:
    """A function; another kind goes as it is, for it may be one of Anthropic's own."""
    kind = tool.get("type", "function")
    if kind == "custom" and "custom" in tool:
        raise refused(f"{place}: this provider calls functions, not custom tools.", place)
    if kind != "function":
        return tool
    function = tool["function"]
    ours: Body = {"name": function["name"]}
    if function.get("description"):
        ours["description"] = function["description"]
    ours["input_schema"] = {"type": "object", "properties": {}, **(function.get("parameters") or {})}
    if function.get("strict") and claude.schemas:
        ours["strict"] = True
    if "cache_control" in tool:
        ours["cache_control"] = tool["cache_control"]
    return ours


def _choice(asked: Any) -> Body | None:
    """Anthropic's form of a ``tool_choice``; ``None`` for one that it does not have."""
    if isinstance(asked, str):
        return {"type": _CHOICES[asked]} if asked in _CHOICES else None
    function = asked.get("function")
    return {"type": "tool", "name": function["name"]} if function else None


def _thinking(asked: Body, body: Body, claude: Claude) -> set[str]:
    forced = body.get("tool_choice", {}).get("type") in ("any", "tool")
    fields, lost = thinking(asked, claude, body["max_tokens"], barred=forced or _thoughtless(body["messages"]))
    body.update(fields)
    return lost


def _thoughtless(turns: list[Body]) -> bool:
    """Whether the thoughts before the last call were not sent back."""
    last: list[Body] = next((turn["content"] for turn in reversed(turns) if turn["role"] == "assistant"), [])
    called = any(block["type"] == "tool_use" for block in last)
    return called and last[0]["type"] not in ("thinking", "redacted_thinking")


def _sampling(asked: Body, body: Body, claude: Claude) -> set[str]:
    fields, lost = sampling(asked, claude, thinks=body.get("thinking", {}).get("type") in ("enabled", "adaptive"))
    body.update(fields)
    return lost


def _form(asked: Body, body: Body, claude: Claude) -> set[str]:
    """The form of the answer: a schema has a place, the promise of just any JSON has none."""
    form = asked.get("response_format") or {"type": "text"}
    if form["type"] == "text":
        return set()
    schema = (form.get("json_schema") or {}).get("schema")
    if form["type"] != "json_schema" or schema is None or not claude.schemas:
        return {"response_format"}
    body.setdefault("output_config", {})["format"] = {"type": "json_schema", "schema": closed(schema)}
    return set()


def _rest(asked: Body, body: Body, claude: Claude) -> set[str]:
    lost = set()
    stop = asked.get("stop")
    if stop:
        stops = [stop] if isinstance(stop, str) else stop
        body["stop_sequences"] = [text for text in stops if text.strip()]
        if len(body["stop_sequences"]) < len(stops):
            lost.add("stop")
    if user := asked.get("user") or asked.get("safety_identifier"):
        body["metadata"] = {"user_id": user}
    if tier := asked.get("service_tier"):
        if isinstance(tier, str) and tier in _TIERS:
            body["service_tier"] = _TIERS[tier]
        else:
            lost.add("service_tier")
    if "cache_control" in asked:
        body["cache_control"] = asked["cache_control"]
    return lost
