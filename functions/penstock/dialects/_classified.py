"""What an answer says of the model that was chosen for it, as headers."""

from __future__ import annotations

import re

from penstock.schema.decision import Decision

MOST = 5
_UNSAFE = re.compile(r"[^ !#-\[\]-~]")


def classified_headers(decision: Decision) -> list[tuple[bytes, bytes]]:
    """The decision as an item with parameters, and its reasons as a list of tokens with their points (RFC 9651)."""
    score = "" if decision.score is None else f";score={decision.score:.3f}"
    failed = f';failed="{_plain(decision.failed)}"' if decision.failed else ""
    headers = [
        (
            b"x-penstock-classified",
            f'"{_plain(decision.model)}";alias="{_plain(decision.alias)}";tier="{decision.tier}"'
            f';classifier="{_plain(decision.classifier)}"{score};local=?{decision.local:d}'
            f";seconds={decision.seconds:.6f}{failed}".encode(),
        )
    ]
    if decision.reasons:
        told = (f'"{_plain(reason.feature)}";points={reason.points:.3f}' for reason in decision.reasons[:MOST])
        headers.append((b"x-penstock-classified-by", ", ".join(told).encode()))
    if decision.sensitive:
        headers.append((b"x-penstock-sensitive", ", ".join(decision.sensitive).encode("ascii", "replace")))
    return headers


def _plain(text: str) -> str:
    return _UNSAFE.sub("?", text)
