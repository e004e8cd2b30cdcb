"""Forms with a file in them (multipart/form-data), read as they come: no file is ever held as a whole."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from penstock.errors import InvalidRequest

LONGEST = 16 * 1024
"""Bytes that all fields but the file may have together."""


class Form:
    """A form whose one file is read when its caller wants it. ``fields`` fill up as they come, before it or after."""

    def __init__(self, content_type: str, body: AsyncIterator[bytes]) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise InvalidRequest("Send the file as a form: Content-Type: multipart/form-data.", param="Content-Type")
        self.fields: dict[str, str] = {}
        self.filename = ""
        self._body = body
        self._pieces: deque[bytes] = deque()
        self._in_file = self._file_began = self._file_over = self._whole = False
        self._name = ""
        self._header = self._header_value = b""
        self._value = bytearray()
        self._taken = 0
        self._parser = MultipartParser(
            options[b"boundary"],
            {
                "on_part_begin": self._part_begins,
                "on_header_field": self._header_goes_on,
                "on_header_value": self._header_value_goes_on,
                "on_header_end": self._header_ends,
                "on_headers_finished": self._headers_end,
                "on_part_data": self._part_goes_on,
                "on_part_end": self._part_ends,
                "on_end": self._end,
            },
        )

    async def file(self) -> AsyncGenerator[bytes, None]:
        """The file's bytes in pieces. Raises ``InvalidRequest`` if the form has no file, or is none."""
        while not self._file_over:
            while self._pieces:
                yield self._pieces.popleft()
            if not self._file_over and not await self._more():
                break
        while self._pieces:
            yield self._pieces.popleft()
        if not self._file_began:
            raise InvalidRequest("file: is required.", param="file")

    async def rest(self) -> dict[str, str]:
        """Read what stands after the file; answers all the fields."""
        while await self._more():
            pass
        return self.fields

    async def _more(self) -> bool:
        """Read on; ``False`` at the form's end."""
        piece = await anext(self._body, b"")
        if not piece:
            if not self._whole:
                raise InvalidRequest("The form breaks off before its end.")
            return False
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise InvalidRequest(f"The body is not a form: {error}.") from None
        return True

    # what the parser calls

    def _part_begins(self) -> None:
        self._name, self._in_file = "", False
        self._header = self._header_value = b""
        self._value.clear()

    def _header_goes_on(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value_goes_on(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _header_ends(self) -> None:
        if self._header.lower() == b"content-disposition":
            _, options = parse_options_header(self._header_value)
            self._name = options.get(b"name", b"").decode("utf-8", "replace")
            self._in_file = self._name == "file"
            if self._in_file:
                self.filename = options.get(b"filename", b"").decode("utf-8", "replace")
        self._header = self._header_value = b""

    def _headers_end(self) -> None:
        if self._in_file and self._file_began:
            raise InvalidRequest("file: is there twice.", param="file")
        self._file_began |= self._in_file

    def _part_goes_on(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._pieces.append(data[start:end])
            return
        self._taken += end - start
        if self._taken > LONGEST:
            raise InvalidRequest(f"{self._name}: the fields of the form are longer than {LONGEST} bytes.")
        self._value += data[start:end]

    def _part_ends(self) -> None:
        if self._in_file:
            self._file_over = True
        elif self._name:
            self.fields[self._name] = self._value.decode("utf-8", "replace")

    def _end(self) -> None:
        self._whole = True
