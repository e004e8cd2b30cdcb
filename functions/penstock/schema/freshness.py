"""What a request says of answers that are kept (RFC 9111, 5.2.1), and how it was served."""

from __future__ import annotations

from dataclasses import dataclass

HIT, MISS, BYPASS = "HIT", "MISS", "BYPASS"


@dataclass(frozen=True, slots=True)
class Freshness:
    """An answer may be so many seconds old (``max_age``), ``None`` for any age. With ``only_kept`` none is to be made.

    Without ``store`` neither is a kept one wanted, nor shall this one be kept. A request has ``asked`` for one that is
    kept if it says how old that may be.
    """

    store: bool = True
    max_age: float | None = None
    only_kept: bool = False

    @property
    def asked(self) -> bool:
        """Whether the caller wants a kept answer although another might be different."""
        return self.only_kept or bool(self.max_age)


USUAL = Freshness()
"""Of a request that says nothing."""
