"""What a cached value is found by: a digest of all that could change it, and of whom it belongs to."""

from __future__ import annotations

import hashlib

VERSION = b"1"


def key_of(*parts: bytes) -> str:
    """A digest of these parts, each by itself: none is a prompt any more, and no two lists of parts have the same."""
    digest = hashlib.sha256(VERSION)
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.hexdigest()
