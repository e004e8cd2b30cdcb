"""A chat of OpenAI's wire as a request of Bedrock's Converse, and what of it got lost on the way."""

from __future__ import annotations

from typing import Any

from penstock.core.json import to_json
from penstock.core.ports import Call
from penstock.providers._bedrock_turns import cache_point, conversation
from penstock.providers._claude import STRANGER, Claude, traits
from penstock.providers._claude_wishes import sampling, thinking
from penstock.providers._content import closed
from penstock.providers._line import refused

Body = dict[str, Any]

_OWN = ("additionalModelRequestFields", "guardrailConfig", "performanceConfig", "requestMetadata")
"""Fields of Converse's that go as they are."""
_READ = frozenset(
    (  # noqa: SIM905 - a sentence of names reads better than a column of strings
        "model messages stream stream_options max_tokens max_completion_tokens tools tool_choice reasoning_effort "
        "thinking temperature top_p top_k stop response_format service_tier"
    ).split()
) | frozenset(_OWN)
_NEUTRAL = {
    **{"n": 1, "presence_penalty": 0, "frequency_penalty": 0, "logprobs": False, "store": False, "logit_bias": {}},
    "parallel_tool_calls": True,
}
"""What asks for nothing, and is not missed."""
_TIERS = ("default", "flex", "priority", "reserved")
_EFFORTS = ("low", "medium", "high")
"""Those that OpenAI's open models know."""
_CHOICES: dict[str, Body] = {"auto": {"auto": {}}, "required": {"any": {}}}


def converse_request(call: Call, model: str) -> Body:
    """The body to send to ``model``; ``call.dropped`` tells the fields that it has no room for.

    Raises ``UpstreamRefused`` for a message that cannot be translated.
    """
    asked = {name: value for name, value in call.body.items() if value is not None}
    claude = traits(model)
    system, turns = conversation(asked["messages"], claude=claude is not STRANGER)
    body: Body = {"messages": turns, **{name: asked[name] for name in _OWN if name in asked}}
    if not isinstance(asked.get(_OWN[0], {}), dict):
        raise refused(f"{_OWN[0]}: must be an object.", _OWN[0])
    if system:
        body["system"] = system
    bound = asked.get("max_completion_tokens", asked.get("max_tokens", call.cap))
    lost = {name for name in asked if name not in _READ and not _is_neutral(name, asked[name])}
    lost |= _tools(asked, body, claude) | _form(asked, body, claude) | _tier(asked, body)
    if claude is STRANGER:
        lost |= _words(asked, body, model, bound)
    else:
        lost |= _wishes(asked, body, claude, bound)
    call.dropped = tuple(name for name in call.body if name in lost)
    return body


def _is_neutral(name: str, value: Any) -> bool:
    return name in _NEUTRAL and _NEUTRAL[name] == value


def _tools(asked: Body, body: Body, claude: Claude) -> set[str]:
    """The tools, and those that are only spoken of: Converse wants each that was called to be declared."""
    tools, choice = asked.get("tools") or [], asked.get("tool_choice", "auto")
    spoken_of = _called(body["messages"])
    if choice == "none" and not spoken_of:
        return set()
    told: list[Body] = []
    for number, tool in enumerate(tools):
        told += [_tool(tool, claude, f"tools.{number}"), *cache_point(tool)]
    declared = {tool["toolSpec"]["name"] for tool in told if "toolSpec" in tool}
    told += [_spec({"name": name}) for name in spoken_of if name not in declared]
    if not told:
        return set()
    body["toolConfig"] = {"tools": told}
    wanted = _choice(choice)
    if wanted is None or ("auto" not in wanted and not claude.forced):
        return {"tool_choice"}
    if "auto" not in wanted:
        body["toolConfig"]["toolChoice"] = wanted
    return set()


def _called(turns: list[Body]) -> list[str]:
    """The names of the tools that were called in the conversation, each once."""
    calls = (block["toolUse"]["name"] for turn in turns for block in turn["content"] if "toolUse" in block)
    return list(dict.fromkeys(calls))


def _tool(tool: Body, claude: Claude, place: str) -> Body:
    if tool.get("type", "function") != "function":
        raise refused(f"{place}: this provider calls functions, and no {tool['type']!r:.100}.", place)
    spec = _spec(tool["function"])
    if tool["function"].get("strict") and claude.schemas:
        spec["toolSpec"]["strict"] = True
    return spec


def _spec(function: Body) -> Body:
    about = {"description": function["description"]} if function.get("description") else {}
    schema = {"type": "object", "properties": {}, **(function.get("parameters") or {})}
    return {"toolSpec": {"name": function["name"], **about, "inputSchema": {"json": schema}}}


def _choice(asked: Any) -> Body | None:
    """Converse's form of a ``tool_choice``; ``None`` for one that it does not have."""
    if isinstance(asked, str):
        return _CHOICES.get(asked)
    function = asked.get("function")
    return {"tool": {"name": function["name"]}} if function else None


def _form(asked: Body, body: Body, claude: Claude) -> set[str]:
    """The form of the answer: a schema has a place, the promise of just any JSON has none."""
    form = asked.get("response_format") or {"type": "text"}
    if form["type"] == "text":
        return set()
    told = form.get("json_schema") or {}
    known = claude is STRANGER or claude.schemas
    if form["type"] != "json_schema" or told.get("schema") is None or not known:
        return {"response_format"}
    about = {name: told[name] for name in ("name", "description") if told.get(name)}
    schema = {"schema": to_json(closed(told["schema"])).decode(), **about}
    body["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": schema}}}
    return set()


def _tier(asked: Body, body: Body) -> set[str]:
    tier = asked.get("service_tier", "auto")
    if tier in _TIERS:
        body["serviceTier"] = {"type": tier}
    return set() if tier in ("auto", *_TIERS) else {"service_tier"}


def _wishes(asked: Body, body: Body, claude: Claude, bound: int | None) -> set[str]:
    """How Claude is to think and to choose its words."""
    forced = "toolChoice" in body.get("toolConfig", {})
    barred = forced or _thoughtless(body["messages"])
    fields, lost = thinking(asked, claude, bound or claude.most, barred=barred)
    if "budget_tokens" in fields.get("thinking", {}):
        bound = bound or claude.most  # else it is Bedrock's, which may be less than the budget
    words, unsaid = sampling(asked, claude, thinks=fields.get("thinking", {}).get("type") in ("enabled", "adaptive"))
    if "top_k" in words:
        fields["top_k"] = words.pop("top_k")
    _add(body, fields)
    return lost | unsaid | _infer(asked, body, bound, words)


def _thoughtless(turns: list[Body]) -> bool:
    """Whether the thoughts before the last call were not sent back."""
    last: list[Body] = next((turn["content"] for turn in reversed(turns) if turn["role"] == "assistant"), [])
    return any("toolUse" in block for block in last) and "reasoningContent" not in last[0]


def _words(asked: Body, body: Body, model: str, bound: int | None) -> set[str]:
    """How another model is to think and to choose its words, as far as it is known."""
    lost = {name for name in ("thinking", "reasoning_effort", "top_k") if name in asked}
    if "openai." in model and asked.get("reasoning_effort") in _EFFORTS:
        _add(body, {"reasoning_effort": asked["reasoning_effort"]})
        lost.discard("reasoning_effort")
    if "amazon.nova" in model and "top_k" in asked:
        _add(body, {"inferenceConfig": {"topK": asked["top_k"]}})
        lost.discard("top_k")
    words: Body = {name: asked[name] for name in ("temperature", "top_p") if name in asked}
    if "temperature" in words:
        words["temperature"] = min(words["temperature"], 1)
    return lost | _infer(asked, body, bound, words)


def _add(body: Body, fields: Body) -> None:
    """Fields of the model's own; what the caller has put there himself goes before them."""
    if fields:
        body[_OWN[0]] = {**fields, **body.get(_OWN[0], {})}


def _infer(asked: Body, body: Body, bound: int | None, words: Body) -> set[str]:
    """The bounds that Converse has for every model; a stop that cannot be seen has no place."""
    stop = asked.get("stop") or []
    stops = [stop] if isinstance(stop, str) else stop
    seen = [text for text in stops if text.strip()]
    told = {
        "maxTokens": bound,
        "temperature": words.get("temperature"),
        "topP": words.get("top_p"),
        "stopSequences": seen or None,
    }
    if config := {name: value for name, value in told.items() if value is not None}:
        body["inferenceConfig"] = config
    return {"stop"} if len(seen) < len(stops) else set()
