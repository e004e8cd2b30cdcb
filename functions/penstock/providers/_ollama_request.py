"""Requests of OpenAI's wire in the words of Ollama's own API, and what of them got lost on the way."""

from __future__ import annotations

from typing import Any

from penstock.core.ports import Call
from penstock.providers._content import called, image_url, inline
from penstock.providers._line import refused

Body = dict[str, Any]

_OPTIONS = {
    **{name: name for name in ("temperature", "top_p", "top_k", "min_p", "typical_p", "seed", "repeat_penalty")},
    **{name: name for name in ("presence_penalty", "frequency_penalty", "repeat_last_n", "num_ctx", "num_keep")},
    "repetition_penalty": "repeat_penalty",
}
"""Fields that bear on sampling, the common ones of other engines included, and Ollama's names for them."""
_READ = frozenset(
    (  # noqa: SIM905 - a sentence of names reads better than a column of strings
        "model stream stream_options options keep_alive max_tokens max_completion_tokens stop reasoning_effort think"
    ).split()
)
_CHAT = frozenset(
    (  # noqa: SIM905
        "messages tools tool_choice parallel_tool_calls response_format logprobs top_logprobs"
    ).split()
)
_NEUTRAL = {"n": 1, "best_of": 1, "echo": False, "store": False, "logit_bias": {}, "encoding_format": "float"}
"""What asks for nothing, and is not missed."""
_EFFORTS = {"none": False, "minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high"}
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}


def chat_request(call: Call, model: str) -> Body:
    """The body for ``/api/chat``; ``call.dropped`` tells the fields that it has no room for.

    Raises ``UpstreamRefused`` for a message that cannot be translated.
    """
    asked = _asked(call)
    body: Body = {"model": model, "messages": _messages(asked["messages"]), "stream": True}
    lost = _lost(asked, _CHAT) | _tools(asked, body) | _common(asked, body, call.cap)
    form = asked.get("response_format") or {"type": "text"}
    if form["type"] == "json_object":
        body["format"] = "json"
    elif form["type"] == "json_schema" and (form.get("json_schema") or {}).get("schema") is not None:
        body["format"] = form["json_schema"]["schema"]
    elif form["type"] != "text":
        lost.add("response_format")
    if asked.get("logprobs"):
        body |= {name: asked[name] for name in ("logprobs", "top_logprobs") if name in asked}
    call.dropped = tuple(name for name in call.body if name in lost)
    return body


def text_request(call: Call, model: str) -> Body:
    """The body for ``/api/generate``."""
    asked = _asked(call)
    prompt = asked["prompt"]
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise refused("prompt: this provider takes one text.", "prompt")
    body: Body = {"model": model, "prompt": prompt, "stream": True}
    if asked.get("suffix"):
        body["suffix"] = asked["suffix"]
    lost = _lost(asked, frozenset({"prompt", "suffix"})) | _common(asked, body, call.cap)
    call.dropped = tuple(name for name in call.body if name in lost)
    return body


def embedding_request(call: Call, model: str) -> Body:
    """The body for ``/api/embed``."""
    asked = _asked(call)
    texts = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
    if not all(isinstance(text, str) for text in texts):
        raise refused("input: this provider takes texts, and no tokens.", "input")
    body: Body = {"model": model, "input": texts}
    body |= {name: asked[name] for name in ("dimensions", "truncate", "keep_alive", "options") if name in asked}
    lost = _lost(asked, frozenset(body) | {"encoding_format"})
    call.dropped = tuple(name for name in call.body if name in lost)
    return body


def _asked(call: Call) -> Body:
    return {name: value for name, value in call.body.items() if value is not None}


def _lost(asked: Body, read: frozenset[str]) -> set[str]:
    """The fields that nobody reads, and that ask for something."""
    unread = asked.keys() - _READ - read - _OPTIONS.keys()
    return {name for name in unread if not (name in _NEUTRAL and _NEUTRAL[name] == asked[name])}


def _common(asked: Body, body: Body, cap: int | None) -> set[str]:
    """Options, thinking and how long the model stays in memory; answers the fields that were lost."""
    lost: set[str] = set()
    options = asked.get("options", {})
    if not isinstance(options, dict):
        raise refused("options: must be an object, as Ollama defines it.", "options")
    options = {**options, **{theirs: asked[ours] for ours, theirs in _OPTIONS.items() if ours in asked}}
    if bound := asked.get("max_completion_tokens", asked.get("max_tokens", cap)):
        options["num_predict"] = bound
    if stop := asked.get("stop"):
        options["stop"] = [stop] if isinstance(stop, str) else stop
    if options:
        body["options"] = options
    effort = asked.get("reasoning_effort")
    if "think" in asked:
        body["think"] = asked["think"]
        lost = {"reasoning_effort"} if effort else lost
    elif isinstance(effort, str) and effort in _EFFORTS:
        body["think"] = _EFFORTS[effort]
    elif effort is not None:
        lost = {"reasoning_effort"}
    if "keep_alive" in asked:
        body["keep_alive"] = asked["keep_alive"]
    return lost


def _tools(asked: Body, body: Body) -> set[str]:
    """The tools; Ollama cannot be made to use one, nor kept from using two."""
    tools, choice = asked.get("tools"), asked.get("tool_choice", "auto")
    if not tools or choice == "none":
        return set()
    body["tools"] = tools
    lost = {"tool_choice"} if choice != "auto" else set()
    return lost | ({"parallel_tool_calls"} if asked.get("parallel_tool_calls") is False else set())


def _messages(messages: list[Body]) -> list[Body]:
    names: dict[str, str] = {}
    return [_message(message, names, f"messages.{number}") for number, message in enumerate(messages)]


def _message(message: Body, names: dict[str, str], place: str) -> Body:
    """One message. ``names`` are the functions called so far by the ids of their calls: results go by both."""
    role = _ROLES.get(message["role"])
    if role is None:
        raise refused(f"{place}.role: this provider has no role {message['role']!r:.100}.", f"{place}.role")
    text, images = _content(message.get("content"), place)
    ours: Body = {"role": role, "content": text}
    if images:
        ours["images"] = images
    thought = message.get("reasoning_content") or message.get("reasoning")
    if role == "assistant" and isinstance(thought, str):
        ours["thinking"] = thought
    calls = []
    for number, call in enumerate(message.get("tool_calls") or ()):
        name, arguments = called(call, f"{place}.tool_calls.{number}")
        call_id = str(call.get("id") or "")
        names[call_id] = name
        calls.append({"id": call_id, "function": {"name": name, "arguments": arguments}})
    if calls:
        ours["tool_calls"] = calls
    if role == "tool":
        call_id = message.get("tool_call_id") or ""
        ours |= {"tool_call_id": call_id, "tool_name": names.get(call_id) or message.get("name") or ""}
    return ours


def _content(content: Any, place: str) -> tuple[str, list[str]]:
    """The text of a message, its parts on lines of their own, and its images in base64."""
    if content is None or isinstance(content, str):
        return content or "", []
    texts, images = [], []
    for number, part in enumerate(content):
        kind = part.get("type")
        where = f"{place}.content.{number}"
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind == "image_url" and (data := inline(image_url(part))):
            images.append(data[1])
        elif kind == "image_url":
            raise refused(f"{where}: this provider fetches no images: send it as data:image/png;base64,…", where)
        else:
            raise refused(f"{where}: this provider takes no part of type {kind!r:.100} in this form.", where)
    return "\n".join(texts), images
