"""Which requests may share an answer, and which answers are safe to be told again."""

from __future__ import annotations

from typing import Any

from penstock.core.cache.keys import key_of
from penstock.core.json import to_json
from penstock.schema.key import EVERY, Caller
from penstock.schema.request import EMBEDDINGS, Request

KEY, OWNER, EVERYONE = "key", "owner", "everyone"
_ASIDE = frozenset({"model", "stream", "stream_options", "user"})
"""Fields that change no word of an answer; the model counts by its public name."""
_OUTSIDE = ("web_search_options", "search_parameters")
"""Fields that have a vendor look at a world that changes."""


def key_for(request: Request, shared_between: str) -> str:
    """What the answer to this request is kept under: two that differ in anything that could change it share none.

    The order of the outermost members changes nothing. The order of others may: engines write a tool's schema into the
    prompt as it comes, and answer in a schema's order.
    """
    body = request.body
    said = {name: body[name] for name in sorted(body) if name not in _ASIDE}
    caller = request.caller
    providers = () if caller.providers == EVERY else sorted(caller.providers)
    return key_of(
        b"answer",
        tenant(caller, shared_between).encode(),
        to_json(providers),
        request.endpoint.encode(),
        request.model.encode(),
        to_json(said),
    )


def tenant(caller: Caller, shared_between: str) -> str:
    """Among whom an answer is shared."""
    if shared_between == EVERYONE:
        return EVERYONE
    if shared_between == OWNER and caller.owner:
        return f"{OWNER}:{caller.owner}"
    return f"{KEY}:{caller.key_id}"


def is_safe(request: Request) -> bool:
    """Whether the answer would be the same if it was made again: embeddings, and what is told to be without chance.

    What looks at the world outside may answer differently tomorrow: a link, a vendor's search or other of its tools.
    """
    body = request.body
    if request.endpoint == EMBEDDINGS:
        return True
    temperature = body.get("temperature")
    if temperature is None or temperature != 0 or any(body.get(name) is not None for name in _OUTSIDE):
        return False
    if any(tool.get("type", "function") != "function" for tool in _objects(body.get("tools"))):
        return False
    return not any(_links(message.get("content")) for message in _objects(body.get("messages")))


def may_be_kept(request: Request) -> bool:
    """Whether its answer may be kept at all: not if its vendor shall keep it, which a hit would not make it do."""
    return request.body.get("store") is not True


def _links(content: Any) -> bool:
    """Whether a message links to something that is not sent along."""
    for part in _objects(content):
        for name, value in part.items():
            url = value.get("url") if isinstance(value, dict) else value
            if name.endswith("_url") and not (isinstance(url, str) and url.startswith("data:")):
                return True
    return False


def _objects(value: Any) -> list[dict[str, Any]]:
    """The objects in a list; none in what is no list, as another endpoint's field may be, which nobody has checked."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
