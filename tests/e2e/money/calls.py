"""One call of the fuzz: what its client wants, and what client and upstream saw of it. Times in epoch nanoseconds."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from penstock.schema.key import VirtualKey
from penstock.schema.meter import SECOND
from tests.e2e.money.gateways import TIMEOUT, Gateway

QUICK, SLOW, STALL, SILENT, LEAVE, ERROR, BUSY, CUT = (
    "quick",
    "slow",
    "stall",
    "silent",
    "leave",
    "error",
    "busy",
    "cut",
)
"""How the upstream answers. At ``STALL`` it streams a part and its client leaves, at ``SILENT`` nobody leaves but the
gateway, when its time is over; at ``LEAVE`` the client leaves while a plain answer is worked on, which goes on."""

INPUT, OUTPUT = 1000, 4000
"""Nano-dollars of a token."""
TEMPLATE = 256
"""Tokens that the gateway adds to the bytes of a body for its bound."""
MODEL = "tiny"


@dataclass(frozen=True, slots=True)
class Client:
    """Who calls: a key's record, and the key itself."""

    key: VirtualKey
    secret: str


@dataclass(slots=True, eq=False)
class Call:
    """A request and all that is known of it. ``tokens`` is the answer's length, ``part`` what comes before a stall."""

    number: int
    client: Client
    behaviour: str = QUICK
    stream: bool = False
    tokens: int = 20
    part: int = 0
    pace: float = 0.0
    gateway: Gateway | None = None
    sent: int = 0
    left: int = 0
    status: int = 0
    code: str = ""
    retry_after: float = 0.0
    seen: int = 0
    whole: bool = False
    arrivals: list[int] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    request_id: str = ""
    ended: int = 0
    produced: int = 0

    @property
    def body(self) -> bytes:
        """What is sent; the text says its number, so that the upstream knows what it is about."""
        text = f"{self.number} " + "and so on " * 12
        document: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": text}]}
        document |= {"max_tokens": self.tokens, "stream": self.stream}
        return json.dumps(document).encode()

    @property
    def prompt(self) -> int:
        """Tokens of the prompt, as the upstream counts them: four bytes of its text are one."""
        return (len(str(self.number)) + 121) // 4

    @property
    def bound(self) -> int:
        """The nano-dollars that a gateway has to reserve for it."""
        return (len(self.body) + TEMPLATE) * INPUT + self.tokens * OUTPUT

    @property
    def served(self) -> int:
        """The nano-dollars that the upstream has worked for, whoever read it."""
        return self._cost(self.produced)

    @property
    def certain(self) -> int:
        """The nano-dollars that the gateway must know of, too: a plain answer's, a stream's as far as its client saw.

        What a stream wrote just before it was cut may have reached nobody.
        """
        return self.served if self.whole or not self.stream else self._cost(self.seen)

    @property
    def usage(self) -> int:
        """The tokens of ``certain``."""
        return (self.certain - self.prompt * INPUT) // OUTPUT + self.prompt if self.certain else 0

    @property
    def under_way(self) -> tuple[int, int]:
        """From when until when it was certainly open at the gateway, as seen at the upstream."""
        ends = [self.ended, self.left, self.gateway.killed if self.gateway else 0, self.sent + int(TIMEOUT * SECOND)]
        return self.arrivals[0], min(end for end in ends if end)

    def _cost(self, tokens: int) -> int:
        return self.prompt * INPUT + tokens * OUTPUT if tokens else 0
