"""Lists in pages, as OpenAI's clients turn them."""

from __future__ import annotations

from typing import Any


def page(found: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    """A page of a list; one more than ``limit`` was looked for, to tell whether there is another page."""
    shown = found[:limit]
    first, last = (shown[0]["id"], shown[-1]["id"]) if shown else (None, None)
    return {"object": "list", "data": shown, "first_id": first, "last_id": last, "has_more": len(found) > limit}
