"""Rules and alerts as flat values: the form in which every store keeps them."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import Any, TypeVar, cast

from penstock.schema.alert import Alert, Rule, Telling, Watch

T = TypeVar("T")


def dump(watch: Watch) -> str:
    """What is kept under a rule's name, as JSON; its name and revision stand beside."""
    rule = asdict(watch.rule) if watch.rule else None
    kept = {"rule": rule, "alerts": [asdict(alert) for alert in watch.alerts], "told_at": watch.told_at}
    return json.dumps(kept, separators=(",", ":"))


def load(name: str, revision: int, text: str) -> Watch:
    """The watch that this was made of; what a newer version added to it is passed over."""
    kept = json.loads(text)
    rule = _record(Rule, {**kept["rule"], "channels": tuple(kept["rule"]["channels"])}) if kept["rule"] else None
    return Watch(name, revision, rule, tuple(map(_alert, kept["alerts"])), kept["told_at"])


def _alert(values: dict[str, Any]) -> Alert:
    return _record(Alert, {**values, "tellings": tuple(_record(Telling, each) for each in values["tellings"])})


def _record(kind: type[T], values: dict[str, Any]) -> T:
    known = {field.name for field in fields(cast(Any, kind))}
    return kind(**{name: value for name, value in values.items() if name in known})
