"""What the core asks of a provider, and what it tells one of a call."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from penstock.schema.model import Deployment, ModelCard


@dataclass(slots=True)
class Call:
    """One call to one deployment: ``body`` is the caller's own, not to be changed, under the public model name.

    ``deadline`` is on the event loop's clock, in seconds. ``cap`` bounds the tokens of an answer that names no bound of
    its own; ``prompt`` is no fewer tokens than the prompt has, where that is known. The provider lists in ``dropped``
    the fields it left out, and counts in ``payloads`` what it received of a stream, also of one that it folds;
    ``streamed`` says that it asked for one. ``trace`` are headers that tell of the trace that the call is a part of.
    ``key_id`` is whose it is; ``injected`` lists faults that chaos brings. ``images`` were made.
    ``priority`` is that of the caller's key.
    """

    endpoint: str
    body: dict[str, Any]
    deadline: float
    request_id: str
    cap: int | None = None
    prompt: int = 0
    dropped: tuple[str, ...] = ()
    payloads: int = 0
    streamed: bool = False
    trace: tuple[tuple[str, str], ...] = ()
    key_id: str = ""
    injected: list[str] = field(default_factory=list)
    images: int = 0
    priority: int = 0


class Answer(NamedTuple):
    """A whole answer of OpenAI's wire: the bytes as they came, and the same parsed."""

    body: bytes
    document: dict[str, Any]


class Posted(NamedTuple):
    """What a worker says of a call that it has made by itself: the engine's status (0: none came), the content type and
    the bytes of its answer, and what ended the call too early, if something did: ``unavailable``, ``timeout`` or
    ``stopped``.
    """

    status: int = 0
    content_type: str = ""
    body: bytes = b""
    trouble: str = ""


class Correspondence(Protocol):
    """Calls to engines that nobody can reach: told to their worker, and answered by what it posts."""

    def written(self, place: Deployment, call: Call) -> dict[str, Any]:
        """The body as the place shall see it."""
        ...

    def bound(self, place: Deployment, call: Call) -> str | None:
        """The field of the body that holds a bound which the house has put on the answer, if it has."""
        ...

    def read(self, place: Deployment, posted: Posted) -> Connection:
        """A connection that answers what was posted."""
        ...


class Connection(Protocol):
    """A deployment that can be called: what a provider's ``connect(deployment, client)`` answers.

    Both calls raise ``UpstreamError``; cancelling them, or closing the generator, closes the call upstream at once.
    """

    async def complete(self, call: Call) -> Answer:
        """The whole answer."""
        ...

    def stream(self, call: Call) -> AsyncGenerator[list[bytes], None]:
        """Batches of SSE data payloads of OpenAI's wire, without ``[DONE]``; ending means that the upstream said so."""
        ...

    async def models(self, deadline: float) -> list[ModelCard]:
        """What the provider says that it serves."""
        ...

    async def probe(self, deadline: float) -> None:
        """Return if the provider seems able to serve; costs nothing, and no GPU's time. Raises ``UpstreamError``."""
        ...
