"""One record of what a request took: the only source of log line, metrics, ledger and receipt."""

from __future__ import annotations

from dataclasses import dataclass

OK = "ok"
FAILED = "failed"
CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider counted them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together; cached tokens are a part of the prompt's."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one request ended. Times in seconds; ``started_at`` since the epoch; ``ttft`` to the first token.

    ``cost_nanos`` is in nano-dollars (``schema/price``), and ``None`` where no price is known.
    """

    request_id: str
    started_at: float
    duration: float
    key_id: str
    owner: str
    endpoint: str
    model: str
    deployment: str
    ended: str
    status: int
    code: str = ""
    stream: bool = False
    attempts: int = 1
    ttft: float | None = None
    usage: Usage = Usage()
    usage_reported: bool = False
    cost_nanos: int | None = None
