"""A wire to DynamoDB whose answers are written down beforehand, behind the shape of Penstock's HTTP client."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.laws.stores.moto_in_process import Answer

Said = tuple[int, object] | Exception


def refuses(kind: str, message: str = "", **more: object) -> Said:
    """What DynamoDB answers when it refuses a call."""
    return 400, {"__type": f"com.amazonaws.dynamodb.v20120810#{kind}", "message": message, **more}


@dataclass
class Wire:
    """Gives its answers in turn, and the last one for ever; keeps what was asked."""

    answers: list[Said] = field(default_factory=lambda: [(200, {})])
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    closed: bool = False

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        deadline: float,
        connect_timeout: float = 5.0,
    ) -> Answer:
        """Give the next answer."""
        self.urls.append(url)
        self.headers.append(dict(headers))
        self.asked.append((dict(headers)["x-amz-target"].partition(".")[2], json.loads(body)))
        said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(said, Exception):
            raise said
        status, answer = said
        return Answer(status, answer if isinstance(answer, bytes) else json.dumps(answer).encode())

    async def aclose(self) -> None:
        """Remember it."""
        self.closed = True

    @property
    def actions(self) -> list[str]:
        """What was called, in order."""
        return [action for action, _ in self.asked]
