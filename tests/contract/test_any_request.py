"""Whatever stands in a request's path, query or headers, and whatever its method: answered, or refused in our form."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator

import pytest

from tests.contract.described import LONG, Description, filled, some

pytestmark = pytest.mark.timeout(900 if LONG else 240)
ODD = [
    *(
        "%00",
        "%0A",
        "%0D%0Ax:1",
        "%1b%5b31m",
        "%7f",
        "%ff",
        "%c0%80",
        "%ed%a0%80",
        "%F0%9F%98%80",
        "%e2%80%ae",
        "%C2%B2",
    ),
    *("..", ".", "%2e%2e%2f", "..%5c", "a%2Fb", "%25", "%", "%zz", "+", "*", "null", "true", "0", "-1", "1e999", "NaN"),
    *(
        "9" * 30,
        "1.5",
        "'",
        "%22",
        "{}",
        "$",
        "~",
        "a" * 4000,
        "%E9" * 500,
        "2026-02-30",
        "9999-12-31",
        "0001-01-01",
        "",
    ),
]
HEADERS = {
    "authorization": ["Bearer", "Bearer ", "Basic x", "Bearer \xe9", "Bearer " + "x" * 5000, "\xb2"],
    "x-api-key": ["", "\xe9", "x" * 5000],
    "content-type": ["", "application", "text/json", "application/json; charset=utf-16", "\xb2", "multipart/form-data"],
    "content-encoding": ["gzip", "br", "identity, gzip", "\xe9"],
    "accept": ["", "*", "application/json;q=x", "text/event-stream", "\xe9", "application/openmetrics-text; version=9"],
    "prefer": ["respond-async", "respond-async, wait=\xb2", "wait=-1", "resumable", 'respond-async; a="', "a=" * 500],
    "idempotency-key": ["\xe9", '""', "x" * 300, "a b", "key"],
    "if-none-match": ["*", '"', "W/", "\xe9"],
    "last-event-id": ["0", "-1-1", "1-\xb2", "9" * 40, "\xe9", "end"],
    "x-forwarded-for": ["::1, x", "\xe9", "1.2.3.4:99999", "," * 500],
    "forwarded": ["for=_x;proto=", "\xe9"],
    "cache-control": ["max-age=\xb2", "no-store,=", "max-age=1e9"],
    "traceparent": ["00-0-0-00", "\xe9", "00-" + "g" * 32 + "-" + "0" * 16 + "-01"],
    "x-penstock-signature": ["t=\xb2,v1=", "t=,v1=\xe9", "v1", "t=99999999999,v1=x"],
    "x-amzn-request-context": ["{", "\xe9", "[]"],
    "x-request-id": ["\xe9", "x" * 5000],
    "host": ["", "\xe9", "a b"],
    "origin": ["null", "\xe9"],
    "range": ["bytes=9-1", "bytes=\xb2-"],
}


def placed(place: str, path: str, parameters: list[str]) -> Iterator[str]:
    """The path of an operation with each odd word in the place of each parameter, one at a time."""
    for name in re.findall(r"{(\w+)", path):
        yield from (filled(re.sub(rf"{{{name}(?::path)?}}", lambda _, word=word: word, path), {}) for word in ODD)
    yield from (f"{place}?{name}={word}" for name, word in itertools.product([*parameters, "odd"], ODD))
    yield f"{place}?{'&'.join(['a=1'] * 500)}"


def body_of(description: Description, path: str, method: str) -> bytes:
    """A good body for an operation that takes one."""
    schemas = {(taken, where): schema for taken, where, schema in description.taking_json}
    return json.dumps(description.good(path, schemas[method, path])).encode() if (method, path) in schemas else b""


def test_odd_words_in_paths_and_queries(description: Description) -> None:
    found = []
    for method, path, operation in description.operations:
        names = [each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"]
        body = body_of(description, path, method)
        for place in some(placed(description.place(method, path), path, names), 11, len(path)):
            answer = description.caller.call(method, place, body)
            found += [f"{method} {place[:200]} {fault}" for fault in description.faults(path, answer)]
    assert not found, "\n".join(found)


def test_odd_headers(description: Description) -> None:
    found = []
    for method, path, _ in description.operations:
        body, place = body_of(description, path, method), description.place(method, path)
        every = [(name, value) for name, values in HEADERS.items() for value in values]
        for name, value in some(every, 11, len(path)):
            answer = description.caller.call(method, place, body, **{name: value})
            found += [f"{method} {path} {name}: {value!r} {fault}" for fault in description.faults(path, answer)]
    assert not found, "\n".join(found)


def test_methods_that_a_path_does_not_take(description: Description) -> None:
    taken = {(method, path) for method, path, _ in description.operations}
    for path in description.document["paths"]:
        for method in ("GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"):
            if (method, path) not in taken:
                answer = description.caller.call(method, description.place(method, path), b"{}")
                assert answer.status in (404, 405), (method, path, answer)
                assert not description.faults(path, answer), (method, path)
