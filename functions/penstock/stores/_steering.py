"""What all processes are told of configurations, in the words of both stores."""

from __future__ import annotations

from penstock.core.json import parse, to_json
from penstock.schema.config_version import Steering


def dump(steering: Steering) -> str:
    """The steering as JSON, its revision aside."""
    instead = {str(number): other for number, other in steering.instead.items()}
    return to_json({"pushed": steering.pushed, "instead": instead, "reloads": steering.reloads}).decode()


def load(revision: int, text: str) -> Steering:
    """The steering of this revision."""
    told = parse(text)
    instead = {int(number): other for number, other in told["instead"].items()}
    return Steering(revision, told["pushed"], instead, told["reloads"])
