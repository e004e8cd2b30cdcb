"""The ``app`` section of ``config.yaml``: what this gateway calls itself."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.schema.bounds import require


@dataclass(frozen=True, slots=True)
class AppSection:
    """``name`` is the title of ``/docs``; ``version`` is the document's own, beside its number in the state; with
    ``environment`` both are in ``/health``.
    """

    name: str = "Penstock"
    version: str | None = None
    environment: str | None = None

    def __post_init__(self) -> None:
        for key in ("name", "version", "environment"):
            value = getattr(self, key)
            require(
                key, value is None or (0 < len(value) <= 100 and value.isprintable()), "1 to 100 printable characters"
            )
