"""Anthropic's Messages API, outbound: what callers say in OpenAI's words is said to Claude in its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from penstock.core.fold import read_chunk
from penstock.core.json import to_json
from penstock.core.ports import Answer, Call
from penstock.core.sse import DONE, EventDecoder
from penstock.errors import UpstreamError
from penstock.outbound import HttpClient
from penstock.providers._anthropic_answer import Events, answer
from penstock.providers._anthropic_request import messages_request
from penstock.providers._line import Line, refused, seconds
from penstock.providers._profiles import PROFILES
from penstock.providers._relay import Opened, Translator
from penstock.schema.model import Deployment, ModelCard
from penstock.schema.request import CHAT

VERSION = "2023-06-01"
"""The last version of the API that takes a temperature, for the models that do; a custom header may name another."""
_STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""What the kinds of errors would be with a status of their own, which a stream cannot give them any more."""


def connect(deployment: Deployment, client: HttpClient) -> Anthropic:
    """A connection to one deployment; does no I/O yet."""
    return Anthropic(deployment, client)


class Anthropic:
    """One deployment behind Anthropic's wire. Its address may end in ``/v1`` or not."""

    def __init__(self, deployment: Deployment, client: HttpClient) -> None:
        self._deployment = deployment
        headers = [("anthropic-version", VERSION)]
        if deployment.credential:
            headers.append(("x-api-key", deployment.credential.reveal()))
        base = deployment.base_url.rstrip("/").removesuffix("/v1")
        self._line = Line(deployment, client, PROFILES["anthropic"], base, headers)

    async def complete(self, call: Call) -> Answer:
        """The whole answer."""
        response = await self._line.post("/v1/messages", self._body(call), call)
        message = self._line.document(await response.read())
        if error := self._error_in(message):
            raise error
        document = answer(message)
        return Answer(to_json(document), document)

    def stream(self, call: Call) -> AsyncGenerator[list[bytes], None]:
        """Batches of chunks as the events come; a stream without ``message_stop`` is a cut one."""
        return self._line.relay(call, self._begin)

    async def _begin(self, call: Call) -> Opened:
        response = await self._line.post("/v1/messages", {**self._body(call), "stream": True}, call)
        await self._line.expect(response, "text/event-stream", self._error_in)
        events = Events()

        def translate(payload: bytes) -> list[bytes]:
            if payload == DONE:  # some who copy this wire end it as OpenAI does
                return []
            event = read_chunk(payload)
            if error := self._error_in(event):
                raise error
            return events.read(event)

        return Opened(response, EventDecoder(), Translator(events, translate), "message_stop")

    async def probe(self, deadline: float) -> None:
        """It must list its models."""
        await self.models(deadline)

    async def models(self, deadline: float) -> list[ModelCard]:
        """Anthropic's own list, without the models that are no more."""
        listed = await self._line.listed("/v1/models?limit=1000", "data", "id", deadline)
        return [self._card(entry) for entry in listed if entry.get("lifecycle") != "retired"]

    def _card(self, entry: dict[str, Any]) -> ModelCard:
        window, longest = entry.get("max_input_tokens"), entry.get("max_tokens")
        made = seconds(entry.get("created_at"))
        return self._line.card(entry["id"], made, window, longest, _able(entry.get("capabilities")))

    def _body(self, call: Call) -> dict[str, Any]:
        if call.endpoint != CHAT:
            raise refused(f"{self._deployment.provider} serves chat completions, and no {call.endpoint}.", "model")
        return messages_request(call, self._deployment.upstream_model)

    def _error_in(self, document: dict[str, Any]) -> UpstreamError | None:
        """The failure that a document stands for, if it is one of an error."""
        if document.get("type") != "error":
            return None
        inner = document.get("error")
        kind = str(inner.get("type")) if isinstance(inner, dict) else ""
        return self._line.fault(_STATUSES.get(kind, 500), to_json(document))


def _able(told: Any) -> tuple[str, ...]:
    """What Anthropic's list says that a model can do; nothing where it does not say."""
    if not isinstance(told, dict):
        return ()
    known = {"image_input": "vision", "thinking": "reasoning"}
    supported = [name for name, flag in told.items() if isinstance(flag, dict) and flag.get("supported") is True]
    return ("chat", "tools", *(word for name, word in known.items() if name in supported))
