"""Canaries: a prompt and keys that nobody has but the test, and every place in which they could be left behind."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3

PROMPT = "canaryPrompt4f9cSings"
KEY = "canaryKey7d21OfTheEnvironment"
WRONG = "psk-canaryWrongKey5e77ThatNobodyMade"
CANARIES = {"prompt": PROMPT, "key": KEY, "wrong key": WRONG}


def found_in(text: str | bytes, **more: str) -> set[str]:
    """Which canaries sing in a text."""
    data = text.encode() if isinstance(text, str) else text
    return {name for name, canary in {**CANARIES, **more}.items() if canary.encode() in data}


def kept(state_url: str, **more: str) -> dict[str, set[str]]:
    """Every column or attribute of the state that holds a canary: ``table.column``, and whose."""
    found: dict[str, set[str]] = {}
    cells = _sqlite(state_url.removeprefix("sqlite:///")) if "sqlite" in state_url else _dynamodb(state_url)
    for place, value in cells:
        data = value if isinstance(value, bytes) else str(value).encode()
        if singing := found_in(data, **more):
            found.setdefault(place, set()).update(singing)
    return found


def _sqlite(path: str) -> Iterator[tuple[str, Any]]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as sql:
        tables = [name for (name,) in sql.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            rows = sql.execute(f"SELECT * FROM {table}")
            names = [column[0] for column in rows.description]
            for row in rows:
                yield from ((f"{table}.{name}", value) for name, value in zip(names, row, strict=True))


def _dynamodb(state_url: str) -> Iterator[tuple[str, Any]]:
    parts = urlsplit(state_url)
    prefix, options = parts.netloc, parse_qs(parts.query)
    client = boto3.client(
        "dynamodb",
        region_name=options["region"][0],
        endpoint_url=options["endpoint"][0],
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
    tables = [name for page in client.get_paginator("list_tables").paginate() for name in page["TableNames"]]
    for table in tables:
        if table.startswith(f"{prefix}-"):
            for page in client.get_paginator("scan").paginate(TableName=table):
                for item in page["Items"]:
                    for name, value in item.items():
                        yield f"{table.removeprefix(f'{prefix}-')}.{name}", next(iter(value.values()))


def files(folder: Path, **more: str) -> dict[str, set[str]]:
    """Every file below a folder that holds a canary, and whose."""
    found = {str(path.relative_to(folder)): found_in(path.read_bytes(), **more) for path in _files(folder)}
    return {name: singing for name, singing in found.items() if singing}


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
