"""Lines of an input: the same however its bytes come, and found again at the byte where another turn left off."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.batches.answers import answered
from penstock.core.batches.lines import Line, LineTooLong, read_lines
from penstock.schema.job import Job

DOCUMENTS = st.lists(st.sampled_from([b"{}", b"a", b"", b" ", b"\t\r", b"\xff\0", b"long " * 9])).map(b"\n".join)


async def pieces(document: bytes, size: int) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(document), size):
        yield document[start : start + size]


async def read(document: bytes, size: int = 7, **begin: int) -> list[Line]:
    return [line async for line in read_lines(pieces(document, size), longest=100, **begin)]


@given(DOCUMENTS, st.integers(1, 30))
async def test_lines_are_those_of_the_document_that_are_not_blank(document: bytes, size: int) -> None:
    found = await read(document, size)
    expected = [(row, raw) for row, raw in enumerate(document.split(b"\n"), 1) if raw.strip()]
    assert [(line.row, line.raw) for line in found] == expected
    assert [line.number for line in found] == list(range(len(expected)))


@given(DOCUMENTS, st.integers(1, 30))
async def test_the_rest_is_read_from_the_end_of_any_line(document: bytes, size: int) -> None:
    found = await read(document, size)
    for line in found:
        rest = await read(document[line.end :], size, offset=line.end, number=line.number + 1)
        assert [each[2:] for each in rest] == [each[2:] for each in found[line.number + 1 :]]
        assert [each.number for each in rest] == [each.number for each in found[line.number + 1 :]]


@pytest.mark.parametrize("end", [b"", b"\n", b"\nmore"])
async def test_a_line_that_never_ends_is_not_held(end: bytes) -> None:
    with pytest.raises(LineTooLong) as caught:
        await read(b"short\n" + b"x" * 101 + end)
    assert caught.value.row == 2


def test_an_answer_of_several_lines_becomes_one() -> None:
    document = {"text": "two\nlines", "list": [1, 2]}
    job = Job("batch_1-0", "key_1", "chat/completions", b"", 0.0)
    line = answered("batch_1-0", 'a "name"', job, json.dumps(document, indent=1).replace("\n", "\r\n").encode())
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    told = json.loads(line)
    assert (told["id"], told["custom_id"]) == ("batch_req_1-0", 'a "name"')
    assert told["response"] == {"status_code": 200, "request_id": "batch_1-0.0", "body": document}
