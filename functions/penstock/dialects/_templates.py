"""A chat request that names a template, made one that does not, before anything else looks at it."""

from __future__ import annotations

from typing import Any

from penstock.core.json import write
from penstock.dialects._exchange import Exchange
from penstock.errors import InvalidRequest

FIELDS = ("template", "template_variables")


async def fill_template(exchange: Exchange, document: dict[str, Any]) -> None:
    """Put what the template says among the messages. Raises ``InvalidRequest`` or ``TemplateBroken``."""
    if document.get("template") is None:
        if document.get("template_variables"):
            raise InvalidRequest("template: is missing, and there are template_variables.", param="template")
        for name in FIELDS:
            document.pop(name, None)
        return
    templates = exchange.house.templates
    if templates is None:
        raise InvalidRequest(
            "template: this gateway has no templates; its operator names their directory under 'templates' in the"
            " configuration.",
            param="template",
        )
    await templates.fill(document)
    exchange.size = len(write(document))  # what the prompt may cost is told by it
