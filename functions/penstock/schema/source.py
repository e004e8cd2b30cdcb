"""A configuration as text, under the name by which its mistakes are told."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Source:
    """``name`` is a path, or says which version of the state's it is."""

    name: str
    text: str = field(repr=False)
