"""The lines of a batch's input: read one after the other, and looked at before any of them is run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

from penstock.core.json import parse
from penstock.errors import InvalidRequest
from penstock.schema.request import CHAT, COMPLETIONS

LONGEST_ID = 512
"""Characters of a ``custom_id``."""
DROPPED = ("stream", "stream_options", "template", "template_variables")
"""Fields of a request that mean nothing in a line."""


class Line(NamedTuple):
    """A line that is not blank: its ``number`` among these from 0, its ``row`` in the file from 1, its end in bytes."""

    number: int
    row: int
    end: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong with an input, and where, as OpenAI's clients know it."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None

    def told(self) -> dict[str, Any]:
        """The mistake as JSON."""
        return {"code": self.code, "line": self.line, "message": self.message, "param": self.param}


class LineTooLong(Exception):
    """A line is longer than any request may be; ``row`` is its place in the file."""

    def __init__(self, row: int) -> None:
        super().__init__(row)
        self.row = row


async def read_lines(
    pieces: AsyncIterable[bytes], *, longest: int, offset: int = 0, number: int = 0
) -> AsyncGenerator[Line, None]:
    """The lines of a document from byte ``offset`` on, where line ``number`` begins. Raises ``LineTooLong``."""
    rest, row = b"", 0
    async for piece in pieces:
        *ended, rest = (rest + piece).split(b"\n")
        for raw in ended:
            row, offset = row + 1, offset + len(raw) + 1
            if len(raw) > longest:
                raise LineTooLong(row)
            if raw and not raw.isspace():
                yield Line(number, row, offset, raw)
                number += 1
        if len(rest) > longest:
            raise LineTooLong(row + 1)
    if rest and not rest.isspace():
        yield Line(number, row + 1, offset + len(rest), rest)


class Inspection:
    """Looks at the lines of one input for ``endpoint``, such as ``/v1/embeddings``; remembers whom they name."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._seen: set[bytes] = set()

    def mistake(self, line: Line) -> Mistake | None:
        """What is wrong with a line, so that no batch can be made of its file."""
        found = self._look(line.raw)
        return Mistake(found[0], found[1], line.row, found[2]) if found else None

    def _look(self, raw: bytes) -> tuple[str, str, str | None] | None:
        try:
            document = parse(raw)
        except ValueError as error:
            return "invalid_json_line", f"This line is not valid JSON: {error}.", None
        if not isinstance(document, dict):
            return "invalid_json_line", "This line is not a JSON object.", None
        for look in (self._identity, self._address, self._body):
            if found := look(document):
                return found
        return None

    def _identity(self, document: dict[str, Any]) -> tuple[str, str, str] | None:
        custom_id = document.get("custom_id")
        if not isinstance(custom_id, str) or not 0 < len(custom_id) <= LONGEST_ID:
            words = f"custom_id: must be a string of 1 to {LONGEST_ID} characters."
            return "missing_required_parameter" if custom_id is None else "invalid_value", words, "custom_id"
        digest = blake2b(custom_id.encode(), digest_size=16).digest()
        if digest in self._seen:
            return "duplicate_custom_id", f"custom_id: {custom_id!r} stands in an earlier line as well.", "custom_id"
        self._seen.add(digest)
        return None

    def _address(self, document: dict[str, Any]) -> tuple[str, str, str] | None:
        if document.get("method") != "POST":
            return "invalid_method", "method: must be 'POST'.", "method"
        if document.get("url") != self._endpoint:
            return "invalid_url", f"url: must be {self._endpoint!r}, the endpoint of this batch.", "url"
        return None

    def _body(self, document: dict[str, Any]) -> tuple[str, str, str] | None:
        body = document.get("body")
        if not isinstance(body, dict):
            return "missing_required_parameter", "body: must be the request, a JSON object.", "body"
        if not isinstance(body.get("model"), str):
            return "missing_required_parameter", "body.model: must be the name of a model.", "body.model"
        return None


def custom_id(raw: bytes) -> str:
    """Whom a line names that was inspected."""
    name: str = parse(raw)["custom_id"]
    return name


def request_of(raw: bytes, endpoint: str) -> dict[str, Any]:
    """The request in a line that was inspected. Raises ``InvalidRequest`` as it would be told whoever sent it alone."""
    from penstock.schema.checked import check, refuse_controls  # noqa: PLC0415 - pydantic, which doors without batches start without
    from penstock.schema.wire import ChatBody, CompletionBody, EmbeddingBody, Wire  # noqa: PLC0415

    body: dict[str, Any] = parse(raw)["body"]
    schema: type[Wire] = ChatBody if endpoint == CHAT else CompletionBody if endpoint == COMPLETIONS else EmbeddingBody
    if b"\\u00" in raw:
        refuse_controls(body)
    if endpoint == CHAT and body.get("template") is not None:
        raise InvalidRequest("template: the lines of a batch take messages alone.", param="template")
    check(body, schema)
    return {name: value for name, value in body.items() if name not in DROPPED}
