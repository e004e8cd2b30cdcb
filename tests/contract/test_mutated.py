"""Good bodies with something in them changed by chance, on every route: never a failure, a hang, or a leak."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from tests.contract.described import LONG, Description
from tests.contract.wrong_json import NO_UTF_8, ODD_VALUES
from tests.e2e.test_mutations import FULL, places

MUTATIONS = 10_000 if LONG else 800
GROWTH = 32 * 1024 * 1024
"""Bytes that a process may grow by while it is asked the same all over again: 3 KB a request where there are 10,000."""
VALUES = [
    json.loads(value) for value in ODD_VALUES if len(value) < 1000 and "999" not in value and "\\u0000" not in value
]

pytestmark = [
    pytest.mark.timeout(1800 if LONG else 240),
    pytest.mark.parametrize("store", ["sqlite", "dynamodb"] if LONG else ["sqlite"], indirect=True),
]


def restructured(body: dict[str, Any], chance: random.Random) -> bytes:
    """A document with one to three of its values replaced, removed, copied elsewhere or joined by others."""
    document: dict[str, Any] = {"": copy.deepcopy(body)}
    for _ in range(chance.randint(1, 3)):
        *way, last = chance.choice(places(document)[1:])
        holder: Any = document
        for key in way:
            holder = holder[key]
        act = chance.choice(["replace", "replace", "remove", "add", "copy"])
        if act == "replace":
            holder[last] = copy.deepcopy(chance.choice(VALUES))
        elif act == "remove" and way:
            del holder[last]
        elif act == "copy":
            holder[last] = copy.deepcopy(document[""])
        elif isinstance(holder[last], dict):
            holder[last][chance.choice(["", "odd", "model", "stream", "n", "id"])] = copy.deepcopy(
                chance.choice(VALUES)
            )
    return json.dumps(document[""]).encode()


def scrambled(body: dict[str, Any], chance: random.Random) -> bytes:
    """The bytes of a document with some flipped, cut out, put in, or doubled."""
    content = bytearray(json.dumps(body).encode())
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(content) + 1)
        end = min(start + chance.randint(0, 12), len(content))
        put = chance.choice(
            [b"", chance.randbytes(3), chance.choice(NO_UTF_8), bytes(content[start:end]) * 2, b'"', b"}"]
        )
        content[start:end] = put
    return bytes(content)


ACTS: list[Callable[[dict[str, Any], random.Random], bytes]] = [restructured, scrambled]


def bodies(description: Description) -> list[tuple[str, str, bytes]]:
    """As many as are wanted, the same in each run: the method, the path and the body of each."""
    chance = random.Random(7)
    found = []
    for number in range(MUTATIONS):
        method, path, schema = description.taking_json[number % len(description.taking_json)]
        body = description.good(path, schema)
        body = {**body, **description.optional(schema)} if chance.random() < 0.5 else body
        found.append((method, path, chance.choice(ACTS)(FULL.get(path, body), chance)))
    return found


def test_no_change_of_a_good_body_harms_the_gateway(description: Description) -> None:
    process = psutil.Process(description.server.process.pid)
    every = bodies(description)
    found: list[str] = []
    sizes: list[int] = []
    for _ in range(3):
        for method, path, body in every:
            answer = description.caller.call(method, description.place(method, path), body)
            found += [f"{method} {path} {fault}, of {body[:300]!r}" for fault in description.faults(path, answer)]
        assert not found, "\n".join(found[:20])
        sizes.append(process.memory_info().rss)
    assert sizes[2] - sizes[1] < GROWTH, f"the process grew: {sizes}"
    print(f"{3 * len(every)} bodies; resident bytes after each round: {sizes}")
