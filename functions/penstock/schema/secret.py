"""A secret that cannot be printed."""

from __future__ import annotations

import hashlib
import hmac


class Secret:
    """A string that prints, formats, logs and pickles as ``***``; only ``reveal`` gives it away."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret itself: for an outgoing header, never for a log line."""
        return self._value

    def sha256(self) -> str:
        """Hexadecimal SHA-256, the only form in which a caller's key is stored or looked up."""
        return hashlib.sha256(self._value.encode("utf-8", "surrogatepass")).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self.sha256(), other.sha256())

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format("***", spec)

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        return Secret, ("***",)
