"""Ollama's own API, outbound: chats, texts and embeddings, streamed as lines of JSON.

Its compatible API leaves out what this one has: images in every model's form, thinking, options such as the context's
size, how long a model stays in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from penstock.core.fold import fold, read_chunk
from penstock.core.json import to_json
from penstock.core.ports import Answer, Call
from penstock.errors import UpstreamError
from penstock.outbound import HttpClient
from penstock.providers._line import MAX_LIST, Line, refused, seconds
from penstock.providers._ollama_answer import Lines, Speech, embeddings
from penstock.providers._ollama_request import chat_request, embedding_request, text_request
from penstock.providers._profiles import PROFILES
from penstock.providers._relay import Opened, Translator
from penstock.schema.model import Deployment, ModelCard
from penstock.schema.request import CHAT, COMPLETIONS, EMBEDDINGS

AT_ONCE = 8
"""Models that the server is asked about at a time."""
_ABLE = {
    "completion": ("chat", "completions"),
    "embedding": ("embeddings",),
    "tools": ("tools",),
    "vision": ("vision",),
    "thinking": ("reasoning",),
}
"""Its words for what a model can do, and ours."""


def connect(deployment: Deployment, client: HttpClient) -> Ollama:
    """A connection to one deployment; does no I/O yet."""
    return Ollama(deployment, client)


class Ollama:
    """One model of an Ollama server. Its address may end in ``/v1`` or not."""

    def __init__(self, deployment: Deployment, client: HttpClient) -> None:
        self._deployment = deployment
        self._details: dict[Any, dict[str, Any]] = {}
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

    def stream(self, call: Call) -> AsyncGenerator[list[bytes], None]:
        """Batches of chunks as the lines come; a stream without a line that says ``done`` is a cut one."""
        return self._line.relay(call, self._begin)

    async def _begin(self, call: Call) -> Opened:
        model = self._deployment.upstream_model
        if call.endpoint == CHAT:
            path, body = "/api/chat", chat_request(call, model)
        elif call.endpoint == COMPLETIONS:
            path, body = "/api/generate", text_request(call, model)
        else:
            raise refused(f"{self._deployment.provider} serves texts and embeddings, and no {call.endpoint}.", "model")
        response = await self._line.post(path, body, call)
        speech = Speech(call.endpoint, call.request_id)

        def translate(line: bytes) -> list[bytes]:
            document = read_chunk(line)
            if error := self._error_in(document):
                raise error
            return speech.read(document)

        return Opened(response, Lines(), Translator(speech, translate), "saying done")

    async def probe(self, deadline: float) -> None:
        """It must list its models."""
        await self.models(deadline)

    async def models(self, deadline: float) -> list[ModelCard]:
        """The models that the server has on its disk."""
        found = await self._line.listed("/api/tags", "models", "name", deadline)
        turns = asyncio.Semaphore(AT_ONCE)
        shown = await asyncio.gather(*(self._shown(entry, turns, deadline) for entry in found))
        self._details = {entry.get("digest"): about for entry, about in zip(found, shown, strict=True) if about}
        return [self._card(entry, about) for entry, about in zip(found, shown, strict=True)]

    async def _shown(self, entry: dict[str, Any], turns: asyncio.Semaphore, deadline: float) -> dict[str, Any]:
        """What ``/api/show`` tells of a model, asked once for each of its versions; nothing without an answer."""
        if known := self._details.get(entry.get("digest")):
            return known
        call = Call("show", {}, deadline, "")
        try:
            async with turns:
                response = await self._line.post("/api/show", {"model": entry["name"]}, call)
                return self._line.document(await response.read(MAX_LIST))
        except UpstreamError:
            return {}

    def _card(self, entry: dict[str, Any], about: dict[str, Any]) -> ModelCard:
        told, sizes = about.get("capabilities"), about.get("model_info")
        named = sizes.items() if isinstance(sizes, dict) else ()
        window = next((size for name, size in named if name.endswith(".context_length")), None)
        able = tuple(word for name in told for word in _ABLE.get(name, ())) if isinstance(told, list) else ()
        return self._line.card(entry["name"], seconds(entry.get("modified_at")), window, able=able)

    async def _embed(self, call: Call) -> dict[str, Any]:
        model = self._deployment.upstream_model
        response = await self._line.post("/api/embed", embedding_request(call, model), call)
        document = self._line.document(await response.read())
        if error := self._error_in(document):
            raise error
        return embeddings(document, model, packed=call.body.get("encoding_format") == "base64")

    def _error_in(self, document: dict[str, Any]) -> UpstreamError | None:
        return None if document.get("error") is None else self._line.fault(500, to_json(document))
