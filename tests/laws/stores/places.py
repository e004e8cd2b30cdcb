"""Where each store plug is put to the test: every plug that the folder holds needs a place, or its laws fail."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock import plugs
from penstock.core.ports import Store
from tests.laws.stores.moto_in_process import InProcess

ENDPOINT = os.environ.get("PENSTOCK_TEST_DYNAMODB_ENDPOINT", "")
"""Another server than moto's, such as LocalStack: ``http://127.0.0.1:4566``."""


@dataclass(frozen=True, slots=True)
class Place:
    """A fresh, empty store. ``client`` carries its calls where no socket does."""

    plug: str
    url: str
    client: Any = None

    def connect(self) -> Store:
        """A store at this place, as bootstrap would make it."""
        store: Store = plugs.load("stores", self.plug).connect(self.url, self.client)
        return store


def _sqlite(folder: Path, _: Callable[[], str]) -> Place:
    return Place("sqlite", f"sqlite:///{folder}/state.db")


def _dynamodb_in_process(_: Path, __: Callable[[], str]) -> Place:
    return Place("dynamodb", f"dynamodb://{_prefix()}?endpoint=http://dynamodb.eu-west-1.amazonaws.com", InProcess())


def _dynamodb_over_http(_: Path, moto: Callable[[], str]) -> Place:
    return Place("dynamodb", f"dynamodb://{_prefix()}?endpoint={ENDPOINT or moto()}&region=eu-west-1")


def _prefix() -> str:
    return f"laws-{uuid.uuid4().hex[:12]}"


_PLACES = {
    "sqlite": _sqlite,
    "dynamodb-in-process": _dynamodb_in_process,
    "dynamodb-over-http": _dynamodb_over_http,
}

SHARED = [
    "sqlite",
    "dynamodb-over-http",
    *(name for name in plugs.names("stores") if name not in ("sqlite", "dynamodb")),
]
"""Places that other processes reach too."""

ALL = [*SHARED, "dynamodb-in-process"]


def make(name: str, folder: Path, moto: Callable[[], str]) -> Place:
    """A new place. A plug that nobody listed is reached at ``PENSTOCK_TEST_<NAME>_URL``; ``{}`` in it makes it new."""
    if name in _PLACES:
        return _PLACES[name](folder, moto)
    variable = f"PENSTOCK_TEST_{name.upper()}_URL"
    url = os.environ.get(variable)
    assert url, f"the store plug {name!r} has no place to be tested at: set {variable}, or add one to places.py"
    return Place(name, url.replace("{}", _prefix()))
