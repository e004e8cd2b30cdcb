"""A request on its way through the house, after its dialect has read it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from penstock.schema.condensed import Condensed
from penstock.schema.freshness import Freshness
from penstock.schema.key import Caller
from penstock.schema.limit import Standing
from penstock.schema.model import Deployment
from penstock.schema.trace import Trace

if TYPE_CHECKING:
    from penstock.schema.decision import Decision

CHAT = "chat/completions"
COMPLETIONS = "completions"
EMBEDDINGS = "embeddings"
IMAGES = "images/generations"
INFER = "infer"
"""An engine's own endpoint: whatever JSON it takes and answers."""
MODELS = "models"
GENERATIVE = frozenset({CHAT, COMPLETIONS})
"""The endpoints whose answer is a text: it has a bound, may be streamed, and is folded."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One deployment tried, and how it failed; ``seconds`` it took. ``injected``: on purpose."""

    deployment: str
    code: str
    message: str
    seconds: float
    injected: bool = False

    def told(self) -> dict[str, Any]:
        """What callers are told of it."""
        told = {"deployment": self.deployment, "code": self.code, "seconds": round(self.seconds, 3)}
        return told | {"injected": True} if self.injected else told


@dataclass(slots=True)
class Request:
    """A validated request. ``body`` is OpenAI's wire, unknown fields included; ``deadline`` is on the loop's clock.

    ``address`` is the caller's, ``size`` the bytes of the body, ``comment`` tells a caller who waits for a stream one
    line of plain text. The rest is filled on the way: who answers, who failed,
    which fields the answering engine does not know, the ``cap`` on an answer's tokens where the request names none and
    a limit needs one, how the caller's limits stand, and whether it holds a slot.

    A job's request was ``admitted`` when the job was accepted: what its limits of requests say is done with. ``tell``
    gets the batches of SSE payloads of its answer as they come; from the first on, a failure does not move on. The
    answer is given to ``keep`` before anything is settled, which tells whether this try is the one that counts. One
    that is ``abandoned`` leaves its hold to whoever runs the same ``id`` again; ``reservations`` counts those made. One
    that becomes a job where it is served has ``accepted``, which writes the job: awaited before anybody is called.

    Where traces are kept, it has its place in one: ``trace``.

    A ``worker`` has taken the job by itself, and has ``worked`` so many seconds on what it answers. ``injected`` are
    faults that were put into its calls on purpose. One that is ``whole`` is not made shorter, or not once more;
    ``condensed`` tells that it was.

    Where there is a cache of answers, ``freshness`` is what the request says of it; ``cache`` says afterwards whether
    it was served from there, with an answer of what ``age``.
    One that named an alias is ``classified``: from then on it is for the model that was chosen. A ``local`` one goes to
    local places alone. A job's has ``chosen`` one already.
    """

    id: str
    endpoint: str
    model: str
    body: dict[str, Any]
    stream: bool
    caller: Caller
    deadline: float
    address: str = ""
    size: int = 0
    comment: Callable[[str], None] | None = None
    deployment: str = ""
    provider: str = ""
    attempts: list[Attempt] = field(default_factory=list)
    dropped: tuple[str, ...] = ()
    cap: int | None = None
    standing: Standing | None = None
    slotted: bool = False
    admitted: bool = False
    keep: Callable[[bytes], Awaitable[bool]] | None = None
    tell: Callable[[list[bytes]], None] | None = None
    accepted: Callable[[], Awaitable[None]] | None = None
    abandoned: bool = False
    reservations: int = 0
    worker: Deployment | None = None
    worked: float = 0.0
    trace: Trace | None = None
    injected: list[str] = field(default_factory=list)
    freshness: Freshness | None = None
    cache: str = ""
    age: float = 0.0
    classified: Decision | None = None
    local: bool = False
    chosen: str = ""
    whole: bool = False
    condensed: Condensed | None = None

    @property
    def wants_usage(self) -> bool:
        """Whether the caller asked for the usage of a stream."""
        options = self.body.get("stream_options")
        return isinstance(options, dict) and options.get("include_usage") is True
