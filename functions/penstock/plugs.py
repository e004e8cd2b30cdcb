"""Plugs: parts found by their file's name when they are first used, and by entry points for strangers."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from penstock.errors import SettingsError

_HOUSE = Path(__file__).parent


def names(room: str) -> list[str]:
    """The plugs of a room (``providers``, ``dialects``, ``stores``, …): its files and folders without an underscore."""
    found = {path.stem for path in (_HOUSE / room).iterdir() if path.suffix == ".py" or path.is_dir()}
    found |= {point.name for point in entry_points(group=f"penstock.{room}")}
    return sorted(name for name in found if not name.startswith("_"))


def load(room: str, name: str) -> ModuleType:
    """Import a plug. Raises ``SettingsError`` naming what there is when there is none of this name."""
    if not name.startswith("_") and name.isidentifier():
        path = _HOUSE / room / name
        if path.with_suffix(".py").exists() or path.is_dir():
            return import_module(f"penstock.{room}.{name}")
    for point in entry_points(group=f"penstock.{room}", name=name):
        module = point.load()
        assert isinstance(module, ModuleType), f"entry point {point.value} is not a module"
        return module
    raise SettingsError(f"there is no {name!r} in {room}; there are {', '.join(names(room))}")
