"""One record of what a request took: the only source of log line, metrics, ledger and receipt."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.schema.trace import Trace

OK = "ok"
FAILED = "failed"
CANCELLED = "cancelled"
CACHE = "cache"
"""Where an answer came from for which nobody was called."""
REFUSED = "upstream_refused"
"""The code of an attempt that was no fault of the provider's: the request itself is wrong, it says."""


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
class Failure:
    """An attempt that failed: at which deployment, with which code, after how many seconds."""

    deployment: str
    code: str
    seconds: float

    def text(self) -> str:
        """The failure in one line."""
        return f"{self.code} {self.seconds!r} {self.deployment}"


def failure(text: str) -> Failure:
    """The failure that a line tells of."""
    code, seconds, deployment = text.split(" ", 2)
    return Failure(deployment, code, float(seconds))


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one request ended. Times in seconds; ``started_at`` since the epoch; ``ttft`` to the first token.

    ``deployment`` is the last one tried, or ``CACHE``; ``failures`` are the attempts that failed, in order.
    ``cost_nanos`` is in nano-dollars (``schema/price``), and ``None`` where no price is known. ``marks`` are lines that
    say what was done to it that is not done to all. Its ``trace`` is not kept.
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
    failures: tuple[Failure, ...] = ()
    marks: tuple[str, ...] = ()
    trace: Trace | None = None

    @property
    def cached(self) -> bool:
        """Whether it was served a kept answer: its tokens and its cost are those of nobody's work, none."""
        return self.deployment == CACHE
