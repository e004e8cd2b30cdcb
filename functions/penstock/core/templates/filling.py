"""What a request's ``template`` says, with its ``template_variables`` in it, as one of the request's messages."""

from __future__ import annotations

import asyncio
import logging
import re
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.core.counters import Counter
from penstock.core.json import to_json
from penstock.errors import InvalidRequest, PenstockError, TemplateBroken
from penstock.schema.template_section import TemplateSection

if TYPE_CHECKING:
    from penstock.core.templates.sandbox import Sandbox

log = logging.getLogger("penstock.templates")

LONGEST = 1024 * 1024
"""Bytes of a request's variables at most."""
INSTRUCTIONS = ("system", "developer")
_NAME = re.compile(r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9._/-]{0,127}")
_NAMES = "the name of a template: 1 to 128 of the characters A-Z a-z 0-9 . _ / -, without '..'"

FILLED = Counter("penstock_templates_total", "Requests with a template. result: filled, refused, broken.", ("result",))


class Templates:
    """The templates in a directory. What they are made of is imported, and read, when the first request names one."""

    def __init__(self, section: TemplateSection, directory: Path) -> None:
        self._section = section
        self._directory = directory
        if not directory.is_dir():
            log.warning("the directory of templates is not there: %s", directory)

    async def fill(self, document: dict[str, Any]) -> None:
        """Put a message in the place of the fields ``template`` and ``template_variables`` of a chat request.

        It is the user's where the request has no other message; else it comes before them, as instructions.
        Raises ``InvalidRequest``, or ``TemplateBroken`` for what its author must mend.
        """
        try:
            text = await self._text(document.pop("template"), document.pop("template_variables", None))
        except PenstockError as error:
            FILLED.add("broken" if isinstance(error, TemplateBroken) else "refused")
            raise
        FILLED.add("filled")
        given = document.get("messages")
        document["messages"] = _before(text, given) if given else [{"role": "user", "content": text}]

    async def _text(self, name: Any, variables: Any) -> str:
        if not isinstance(name, str) or not _NAME.fullmatch(name) or "/." in name:
            raise InvalidRequest(f"template: must be {_NAMES}.", param="template")
        values = {} if variables is None else variables
        if not isinstance(values, dict):
            raise InvalidRequest("template_variables: must be an object.", param="template_variables")
        if len(to_json(values)) > LONGEST:
            raise InvalidRequest(f"template_variables: must have at most {LONGEST} bytes.", param="template_variables")
        return await asyncio.to_thread(self._sandbox.render, name, values)

    @cached_property
    def _sandbox(self) -> Sandbox:
        from penstock.core.templates.sandbox import Sandbox  # noqa: PLC0415 - Jinja is for those who use it

        return Sandbox(self._directory, self._section.cache_size, reload=self._section.auto_reload)


def _before(text: str, given: Any) -> Any:
    """A request's messages with instructions before them. Engines take one such message, so its own is joined to it."""
    if not isinstance(given, list):
        return given  # it is refused with the rest of the request
    first = given[0]
    if isinstance(first, dict) and first.get("role") in INSTRUCTIONS and isinstance(first.get("content"), str):
        return [{**first, "content": f"{text}\n\n{first['content']}"}, *given[1:]]
    return [{"role": "system", "content": text}, *given]
