"""Anthropic's Messages API, outbound: what callers say in OpenAI's words is said to Claude in its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from penstock.core.fold import read_chunk
from penstock.core.json import to_json
from penstock.core.ports import Answer, Call
from penstock.core.sse import DONE, EventDecoder
from penstock.errors import UpstreamError, UpstreamProtocolError
from penstock.outbound import HttpClient, Response
from penstock.providers._anthropic_answer import Events, answer
from penstock.providers._anthropic_request import messages_request
from penstock.providers._line import MAX_ERROR, Line, refused, seconds
from penstock.providers._profiles import PROFILES
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

    async def stream(self, call: Call) -> AsyncGenerator[list[bytes], None]:
        """Batches of chunks as the events come; a stream without ``message_stop`` is a cut one."""
        call.streamed = True
        response = await self._line.post("/v1/messages", {**self._body(call), "stream": True}, call)
        try:
            kind = response.headers.get("content-type", "")
            if not kind.startswith("text/event-stream"):
                raise await self._not_a_stream(response, kind)
            decoder, events, begun = EventDecoder(), Events(), False
            while not events.done and (data := await response.chunk()):
                batch, error = self._chunks(decoder.feed(data), events)
                call.payloads += len(batch)
                if batch and (begun or not error):  # a stream that has not begun moves on as a whole
                    begun = True
                    yield batch
                if error:
                    raise error
            if not events.done:
                raise UpstreamProtocolError(f"{self._deployment.provider} ended the stream without message_stop")
            await self._line.finish(response)
        finally:
            response.close()

    async def probe(self, deadline: float) -> None:
        """It must list its models."""
        await self.models(deadline)

    async def models(self, deadline: float) -> list[ModelCard]:
        """Anthropic's own list, without the models that are no more."""
        listed = (await self._line.get("/v1/models?limit=1000", deadline)).get("data")
        if not isinstance(listed, list):
            raise UpstreamProtocolError(f"{self._deployment.provider} lists no models at /v1/models")
        found = [entry for entry in listed if isinstance(entry, dict) and isinstance(entry.get("id"), str)]
        return [self._card(entry) for entry in found if entry.get("lifecycle") != "retired"]

    def _card(self, entry: dict[str, Any]) -> ModelCard:
        window = entry.get("max_input_tokens")
        return ModelCard(
            id=entry["id"],
            owned_by=self._deployment.provider,
            provider_type=self._deployment.kind,
            created=seconds(entry.get("created_at")),
            upstream=entry["id"],
            context_window=window if isinstance(window, int) else None,
        )

    def _body(self, call: Call) -> dict[str, Any]:
        if call.endpoint != CHAT:
            raise refused(f"{self._deployment.provider} serves chat completions, and no {call.endpoint}.", "model")
        return messages_request(call, self._deployment.upstream_model)

    def _chunks(self, payloads: list[bytes], events: Events) -> tuple[list[bytes], UpstreamError | None]:
        """The chunks of a batch of events, and the failure that ended it, if one did."""
        batch: list[bytes] = []
        for payload in payloads:
            if payload == DONE or events.done:  # some who copy this wire end it as OpenAI does
                continue
            try:
                event = read_chunk(payload)
                if error := self._error_in(event):
                    return batch, error
                batch += events.read(event)
            except UpstreamProtocolError as error:
                return batch, error
        return batch, None

    def _error_in(self, document: dict[str, Any]) -> UpstreamError | None:
        """The failure that a document stands for, if it is one of an error."""
        if document.get("type") != "error":
            return None
        inner = document.get("error")
        kind = str(inner.get("type")) if isinstance(inner, dict) else ""
        return self._line.fault(_STATUSES.get(kind, 500), to_json(document))

    async def _not_a_stream(self, response: Response, kind: str) -> UpstreamError:
        """What to say of a 200 that is no event stream: its own error where it holds one."""
        cut = UpstreamProtocolError(f"{self._deployment.provider} answered a stream with content type {kind or 'none'}")
        try:
            return self._error_in(self._line.document(await response.read(MAX_ERROR))) or cut
        except UpstreamProtocolError:
            return cut
