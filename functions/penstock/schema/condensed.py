"""What a conversation was before it was condensed, and what it is now."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Condensed:
    """Messages and tokens of a conversation before and after. Tokens are the provider's count where it told one, else
    they are estimated. ``cached``: the summary was there already.
    """

    messages_before: int
    messages_after: int
    tokens_before: int
    tokens_after: int
    cached: bool

    def told(self) -> dict[str, Any]:
        """The same for callers."""
        return asdict(self)

    def header(self) -> str:
        """The same as a dictionary of RFC 9651."""
        return ", ".join(f"{n}=?{v:d}" if isinstance(v, bool) else f"{n}={v}" for n, v in asdict(self).items())
