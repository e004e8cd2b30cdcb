"""What was used, summed up."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UsageLine:
    """The outcomes of one day (UTC, ``YYYY-MM-DD``), key, owner and model together.

    ``failed`` of the ``requests`` ended with an error. Cached tokens are a part of the prompt's. ``cost_nanos`` is in
    nano-dollars and leaves out the ``unpriced`` requests: those whose price nobody knows.
    """

    day: str
    key_id: str
    owner: str
    model: str
    requests: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost_nanos: int = 0
    unpriced: int = 0
