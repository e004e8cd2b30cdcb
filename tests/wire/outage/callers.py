"""Those who ask: with OpenAI's own client, and with a bare one that looks at every byte."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
from openai import APIError, APIStatusError, AsyncOpenAI, DefaultAsyncHttpxClient

from tests.wire.gateway import KEY, PATIENCE, Reply
from tests.wire.outage.answers import Way, answer, vector


@dataclass(slots=True)
class Told:
    """What a caller got. ``code`` names the failure, if there was one; ``begun`` is whether the answer had begun."""

    status: int = 200
    code: str = ""
    text: str = ""
    vector: list[float] = field(default_factory=list)
    begun: bool = False
    attempts: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)

    def right(self, number: int, way: Way) -> bool:
        """Whether this is the whole, right answer."""
        said = self.vector == vector(number) if way.embeds else self.text == answer(number)
        return said and self.status == 200 and not self.code


Ask = Callable[[Way, str, int], Awaitable[Told]]
"""Asks a model the question with this number."""


@asynccontextmanager
async def bare(url: str) -> AsyncIterator[Ask]:
    """Ask over HTTP alone."""
    headers = {"authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=PATIENCE, verify=False) as client:
        yield partial(_ask_barely, client)


@asynccontextmanager
async def official(url: str) -> AsyncIterator[Ask]:
    """Ask with OpenAI's client."""
    http = DefaultAsyncHttpxClient(timeout=PATIENCE, verify=False)
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, http_client=http, max_retries=0) as client:
        yield partial(_ask_officially, client)


async def _ask_barely(client: httpx.AsyncClient, way: Way, model: str, number: int) -> Told:
    body = {"model": model, **way.body(number)}
    async with client.stream("POST", way.path, json=body) as response:
        reply = Reply(response.status_code, response.headers)
        try:
            reply.body = await response.aread()
        except httpx.RemoteProtocolError:
            reply.whole = False
    told = Told(reply.status, headers=reply.headers, attempts=int(reply.headers.get("x-penstock-attempts", 0)))
    if reply.status != 200:
        told.code = reply.error["code"]
    elif way.stream:
        _read_stream(reply, told)
    else:
        _read_document(reply.json, told)
    return told


def _read_stream(reply: Reply, told: Told) -> None:
    choices = [choice for event in reply.events for choice in event.get("choices", ())]
    told.text = "".join(choice.get("text") or choice.get("delta", {}).get("content") or "" for choice in choices)
    told.begun = True
    if reply.ended_well():
        assert any(choice.get("finish_reason") for choice in choices), "it ended well, and nobody says why"
    else:
        told.code = reply.failed_with()["code"]


def _read_document(document: Any, told: Told) -> None:
    [first] = document.get("choices") or document["data"]
    told.text = first.get("text") or first.get("message", {}).get("content") or ""
    told.vector = first.get("embedding", [])


async def _ask_officially(client: AsyncOpenAI, way: Way, model: str, number: int) -> Told:
    told = Told()
    try:
        await _listen(client, way, model, number, told)
    except APIStatusError as error:
        told.status, told.code, told.headers = error.status_code, str(error.code), error.response.headers
    except APIError as error:
        told.code = str(error.code)
    return told


async def _listen(client: AsyncOpenAI, way: Way, model: str, number: int, told: Told) -> None:
    body: Any = way.body(number)
    resource: Any = client.embeddings if way.embeds else client.chat.completions if way.chat else client.completions
    raw = await resource.with_raw_response.create(model=model, **body)
    told.headers, told.attempts = raw.headers, int(raw.headers["x-penstock-attempts"])
    parsed: Any = raw.parse()
    if way.embeds:
        told.vector = parsed.data[0].embedding
    elif not way.stream:
        [choice] = parsed.choices
        told.text = (choice.message.content if way.chat else choice.text) or ""
    else:
        told.begun = True
        async for chunk in parsed:
            for choice in chunk.choices:
                told.text += (choice.delta.content if way.chat else choice.text) or ""
