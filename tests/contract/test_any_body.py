"""Whatever the body of a request is, on any route that takes one: refused in the route's own form, or taken."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest

from tests.contract.described import LONG, Caller, Description, some
from tests.contract.wrong_json import odd, wrong

pytestmark = pytest.mark.timeout(900 if LONG else 240)


def faults(description: Description, method: str, path: str, bodies: Iterable[bytes]) -> list[str]:
    """What went wrong with bodies that were sent to an operation."""
    found: list[str] = []
    place = description.place(method, path)
    for body in bodies:
        answer = description.caller.call(method, place, body)
        wrongs = description.faults(path, answer)
        found += [f"{method} {path} {each}, of {body[:80]!r}…{body[-80:]!r}" for each in wrongs]
    return found


@pytest.mark.row("P5", "C2")
def test_what_is_no_json_is_refused_on_every_route(description: Description) -> None:
    for method, path, schema in description.taking_json:
        for body in wrong(description.good(path, schema)):
            answer = description.caller.call(method, description.place(method, path), body)
            assert 400 <= answer.status < 500, (method, path, body[:80], body[-80:], answer)
            assert not description.faults(path, answer), (method, path, body[:80], body[-80:])


@pytest.mark.row("P5")
def test_odd_values_in_any_field_are_taken_or_refused(description: Description) -> None:
    found = []
    for method, path, schema in description.taking_json:
        bodies = some(odd(description.good(path, schema), list(schema.get("properties", ()))), 3, len(path))
        found += faults(description, method, path, bodies)
    assert not found, "\n".join(found)


def test_good_bodies_are_good(description: Description) -> None:
    """Else the tests here would look at nothing but refusals."""
    fresh = Caller(description.server.url, description.caller.made("/api/v1/apikeys")["api_key"])
    refused = []
    for method, path, schema in description.taking_json:
        body = json.dumps(description.good(path, schema)).encode()
        answer = fresh.call(method, description.place(method, path), body)
        if answer.status in (400, 401, 403, 405, 415) or (answer.status >= 500 and answer.status != 501):
            refused.append(f"{method} {path} {body.decode()}: {answer}")
    fresh.close()
    assert not refused, "\n".join(refused)
