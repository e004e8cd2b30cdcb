"""Ollama's own API, outbound: chats, texts and embeddings, streamed as lines of JSON.

Its compatible API leaves out what this one has: images in every model's form, thinking, options such as the context's
size, how long a model stays in memory.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from penstock.core.fold import fold, read_chunk
from penstock.core.json import to_json
from penstock.core.ports import Answer, Call
from penstock.errors import UpstreamError, UpstreamProtocolError
from penstock.outbound import HttpClient
from penstock.providers._line import Line, seconds
from penstock.providers._ollama_answer import Lines, Speech, embeddings
from penstock.providers._ollama_request import chat_request, embedding_request, text_request
from penstock.providers._profiles import PROFILES
from penstock.schema.model import Deployment, ModelCard
from penstock.schema.request import CHAT, EMBEDDINGS


def connect(deployment: Deployment, client: HttpClient) -> Ollama:
    """A connection to one deployment; does no I/O yet."""
    return Ollama(deployment, client)


class Ollama:
    """One model of an Ollama server. Its address may end in ``/v1`` or not."""

    def __init__(self, deployment: Deployment, client: HttpClient) -> None:
        self._deployment = deployment
        key = deployment.credential
        headers = [("authorization", f"Bearer {key.reveal()}")] if key else []
        base = deployment.base_url.rstrip("/").removesuffix("/v1")
        self._line = Line(deployment, client, PROFILES["ollama"], base, headers)

    async def complete(self, call: Call) -> Answer:
        """The whole answer, folded from a stream: closing one frees the engine at once."""
        if call.endpoint == EMBEDDINGS:
            document = await self._embed(call)
        else:
            document = await fold(self.stream(call), call.endpoint)
        return Answer(to_json(document), document)

    async def stream(self, call: Call) -> AsyncGenerator[list[bytes], None]:
        """Batches of chunks as the lines come; a stream without a line that says ``done`` is a cut one."""
        call.streamed = True
        model = self._deployment.upstream_model
        if call.endpoint == CHAT:
            path, body = "/api/chat", chat_request(call, model)
        else:
            path, body = "/api/generate", text_request(call, model)
        response = await self._line.post(path, body, call)
        try:
            lines, speech, begun = Lines(), Speech(call.endpoint, call.request_id), False
            while not speech.done:
                data = await response.chunk()
                batch, error = self._chunks(lines.feed(data) if data else lines.rest(), speech)
                call.payloads += len(batch)
                if batch and (begun or not error):  # a stream that has not begun moves on as a whole
                    begun = True
                    yield batch
                if error:
                    raise error
                if not data and not speech.done:
                    raise UpstreamProtocolError(f"{self._deployment.provider} ended the stream without saying done")
            await self._line.finish(response)
        finally:
            response.close()

    async def probe(self, deadline: float) -> None:
        """It must list its models."""
        await self.models(deadline)

    async def models(self, deadline: float) -> list[ModelCard]:
        """The models that the server has on its disk."""
        listed = (await self._line.get("/api/tags", deadline)).get("models")
        if not isinstance(listed, list):
            raise UpstreamProtocolError(f"{self._deployment.provider} lists no models at /api/tags")
        found = [entry for entry in listed if isinstance(entry, dict) and isinstance(entry.get("name"), str)]
        return [self._card(entry) for entry in found]

    def _card(self, entry: dict[str, Any]) -> ModelCard:
        return ModelCard(
            id=entry["name"],
            owned_by=self._deployment.provider,
            provider_type=self._deployment.kind,
            created=seconds(entry.get("modified_at")),
            upstream=entry["name"],
        )

    async def _embed(self, call: Call) -> dict[str, Any]:
        model = self._deployment.upstream_model
        response = await self._line.post("/api/embed", embedding_request(call, model), call)
        document = self._line.document(await response.read())
        if error := self._error_in(document):
            raise error
        return embeddings(document, model, packed=call.body.get("encoding_format") == "base64")

    def _chunks(self, lines: list[bytes], speech: Speech) -> tuple[list[bytes], UpstreamError | None]:
        """The chunks of some lines, and the failure that ended them, if one did."""
        batch: list[bytes] = []
        for line in lines:
            if speech.done:
                break
            try:
                document = read_chunk(line)
                if error := self._error_in(document):
                    return batch, error
                batch += speech.read(document)
            except UpstreamProtocolError as error:
                return batch, error
        return batch, None

    def _error_in(self, document: dict[str, Any]) -> UpstreamError | None:
        return None if document.get("error") is None else self._line.fault(500, to_json(document))
