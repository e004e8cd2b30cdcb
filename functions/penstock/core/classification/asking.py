"""What a classifier asks of models, as requests of the caller whose prompt it looks at."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from random import getrandbits
from typing import Any, Protocol

from penstock.core.json import parse, write
from penstock.errors import ClassifierError, UpstreamTimeout
from penstock.schema.key import EVERY, Caller
from penstock.schema.request import CHAT, EMBEDDINGS, Request

OF_THE_HOUSE = Caller("classification")
"""Who pays for what is asked about the configuration's own texts: none of the callers."""


class Serving(Protocol):
    """The gateway, as far as classifiers use it."""

    async def complete(self, request: Request) -> bytes:
        """A whole answer."""

    async def settled(self, request: Request) -> None:
        """Wait until what it took is written, where that matters."""


class Asked:
    """Asks models about one prompt. They may be such as its caller may not name, for who pays is told by the ledger;
    a prompt that stays local is shown to local ones alone.
    """

    def __init__(self, gateway: Serving, request: Request, *, local: bool) -> None:
        self._gateway = gateway
        self._request = request
        self._local = local

    async def chat(self, model: str, body: dict[str, Any], *, timeout: float) -> str:
        """The text that a model answers. Raises ``PenstockError``."""
        answer = await self._answer(CHAT, {**body, "model": model}, self._request.caller, timeout, "judge")
        text = answer["choices"][0]["message"].get("content")
        if not isinstance(text, str):
            raise ClassifierError(f"{model!r} answered without a text.")
        return text

    async def embed(
        self, model: str, texts: Sequence[str], *, timeout: float, house: bool = False
    ) -> list[list[float]]:
        """A vector for each text. Raises ``PenstockError``."""
        body = {"model": model, "input": list(texts), "encoding_format": "float"}
        caller, end = (OF_THE_HOUSE, "examples") if house else (self._request.caller, "embedding")
        answer = await self._answer(EMBEDDINGS, body, caller, timeout, end)
        rows = sorted(answer["data"], key=lambda row: row.get("index", 0))
        if len(rows) != len(texts):
            raise ClassifierError(f"{model!r} answered {len(rows)} vectors for {len(texts)} texts.")
        return [row["embedding"] for row in rows]

    async def _answer(self, endpoint: str, body: dict[str, Any], caller: Caller, timeout: float, end: str) -> Any:
        asking = self._request
        now = asyncio.get_running_loop().time()
        of_house = caller is OF_THE_HOUSE
        again = f"-{getrandbits(24):06x}" if of_house or asking.admitted else ""  # may be asked twice, and each is paid
        request = Request(
            id=f"{asking.id}.{end}{again}",
            endpoint=endpoint,
            model=body["model"],
            body=body,
            stream=False,
            caller=replace(caller, models=EVERY),
            deadline=min(asking.deadline, now + timeout),
            address="" if of_house else asking.address,
            size=len(write(body)),
            admitted=of_house or asking.admitted,
            local=self._local and not of_house,
        )
        try:
            async with asyncio.timeout_at(request.deadline):
                answer = await self._gateway.complete(request)
        except TimeoutError:
            raise UpstreamTimeout(f"{request.model!r} did not answer within {timeout:g} seconds") from None
        finally:
            await self._gateway.settled(request)
        return parse(answer)
