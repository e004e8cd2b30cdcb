"""A chat of OpenAI's wire as a request of Anthropic's Messages API, and what of it got lost on the way."""

from __future__ import annotations

from typing import Any

from penstock.core.ports import Call
from penstock.providers._anthropic_turns import conversation
from penstock.providers._claude import Claude, traits
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
_BUDGETS = {"minimal": 1024, "low": 4096, "medium": 8192, "high": 16_384, "xhigh": 32_768, "max": 32_768}
_LEAST_BUDGET = 1024
_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}
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
    """Thinking as ``reasoning_effort`` asks for it; the vendor's own field goes before it."""
    effort = asked.get("reasoning_effort")
    if "thinking" in asked:
        if not isinstance(asked["thinking"], dict):
            raise refused("thinking: must be an object, as Anthropic defines it.", "thinking")
        body["thinking"] = asked["thinking"]
        return {"reasoning_effort"} if effort else set()
    if effort is None:
        return set()
    if not isinstance(effort, str):
        return {"reasoning_effort"}
    if effort == "none":
        if claude.quiet:
            body["thinking"] = {"type": claude.quiet}
        return {"reasoning_effort"} if claude.quiet is None else set()
    if claude.thinks == "adaptive" and effort in _EFFORTS:
        wanted = _EFFORTS[effort]
        body["thinking"] = {"type": "adaptive", "display": "summarized"}
        body["output_config"] = {"effort": "high" if wanted == "xhigh" and not claude.xhigh else wanted}
        return set()
    budget = min(_BUDGETS.get(effort, 0), body["max_tokens"] // 2)
    if claude.thinks != "budget" or budget < _LEAST_BUDGET or _stands_against_thinking(body):
        return {"reasoning_effort"}
    body["thinking"] = {"type": "enabled", "budget_tokens": budget}
    return set()


def _stands_against_thinking(body: Body) -> bool:
    """Whether a budget is refused: where a tool is forced, or the thoughts before a call were not sent back."""
    if body.get("tool_choice", {}).get("type") in ("any", "tool"):
        return True
    turns: list[Body] = body["messages"]
    last: list[Body] = next((turn["content"] for turn in reversed(turns) if turn["role"] == "assistant"), [])
    called = any(block["type"] == "tool_use" for block in last)
    return called and last[0]["type"] not in ("thinking", "redacted_thinking")


def _sampling(asked: Body, body: Body, claude: Claude) -> set[str]:
    """Temperature and its kin, as far as the model takes them; 1 is what it has by itself."""
    found: Body = {name: asked[name] for name in ("temperature", "top_p", "top_k") if name in asked}
    thinks = body.get("thinking", {}).get("type") in ("enabled", "adaptive")
    lost: set[str] = set()
    if thinks or not claude.samples:
        lost = {name for name, value in found.items() if value != 1 or name == "top_k"}
        found = {}
    elif "temperature" in found:
        found["temperature"] = min(found["temperature"], 1)
        if "top_p" in found and not claude.both:
            lost = {"top_p"} if found.pop("top_p") != 1 else set()
    body.update(found)
    return lost


def _form(asked: Body, body: Body, claude: Claude) -> set[str]:
    """The form of the answer: a schema has a place, the promise of just any JSON has none."""
    form = asked.get("response_format") or {"type": "text"}
    if form["type"] == "text":
        return set()
    schema = (form.get("json_schema") or {}).get("schema")
    if form["type"] != "json_schema" or schema is None or not claude.schemas:
        return {"response_format"}
    body.setdefault("output_config", {})["format"] = {"type": "json_schema", "schema": _closed(schema)}
    return set()


def _closed(schema: Any) -> Any:
    """The schema with its objects closed, as Anthropic demands and OpenAI assumes."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: value if name in ("enum", "const", "default") else _closed(value) for name, value in schema.items()}
    kind = schema.get("type")
    if kind == "object" or (isinstance(kind, list) and "object" in kind):
        closed.setdefault("additionalProperties", False)
    return closed


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
