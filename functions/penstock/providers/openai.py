"""OpenAI's wire, outbound: OpenAI itself, and every engine and vendor that speaks it (rows in ``_profiles``)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any

from penstock.core.fold import fold
from penstock.core.json import parse, to_json, write
from penstock.core.ports import Answer, Call
from penstock.core.sse import EventDecoder
from penstock.errors import UpstreamError, UpstreamProtocolError, UpstreamRefused, UpstreamUnavailable
from penstock.outbound import HttpClient, Response, Target
from penstock.providers._faults import fault, frame_fault
from penstock.providers._openai_answer import Chunks, check
from penstock.providers._profiles import PROFILES, Profile
from penstock.schema.model import Deployment, ModelCard
from penstock.schema.request import CHAT, EMBEDDINGS

MAX_ERROR = 64 * 1024


def connect(deployment: Deployment, client: HttpClient) -> OpenAI:
    """A connection to one deployment; does no I/O yet."""
    return OpenAI(deployment, client, PROFILES.get(deployment.kind, PROFILES["openai"]))


class OpenAI:
    """One deployment behind OpenAI's wire."""

    def __init__(self, deployment: Deployment, client: HttpClient, profile: Profile) -> None:
        self._deployment = deployment
        self._client = client
        self._profile = profile
        self._base = deployment.base_url.rstrip("/")
        headers = [("content-type", "application/json"), ("accept-encoding", "identity")]
        if deployment.credential:
            headers.append(("authorization", f"Bearer {deployment.credential.reveal()}"))
        self._headers = (*headers, *deployment.headers)
        self._targets: dict[str, Target] = {}
        self._window: int | None = None
        self._generates: bool | None = None if profile.about else True

    async def complete(self, call: Call) -> Answer:
        """The whole answer, folded from a stream where the profile says so."""
        if self._profile.always_stream and call.endpoint != EMBEDDINGS:
            document = await fold(self.stream(call), call.endpoint)
            return Answer(to_json(document), document)
        await self._fit(call)
        response = await self._post(call, self._body(call))
        body = await response.read()
        try:
            document = parse(body)
        except ValueError:
            raise UpstreamProtocolError(f"{self._deployment.provider} answered 200 without valid JSON") from None
        if not isinstance(document, dict):
            raise UpstreamProtocolError(f"{self._deployment.provider} answered 200 without a JSON object")
        if error := self._judge(document):
            raise error
        check(document, call.endpoint)
        return Answer(body, document)

    async def stream(self, call: Call) -> AsyncGenerator[list[bytes], None]:
        """Batches of payloads as the upstream sends them; a stream without ``[DONE]`` is a cut one."""
        call.streamed = True
        await self._fit(call)
        body = self._body(call)
        body["stream"] = True
        if self._profile.stream_usage:
            body["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
        response = await self._post(call, body)
        try:
            kind = response.headers.get("content-type", "")
            if not kind.startswith("text/event-stream"):
                raise await self._not_a_stream(response, kind)
            decoder, chunks = EventDecoder(), Chunks(self._judge)
            while not chunks.done:
                data = await response.chunk()
                batch, error = chunks.read(decoder.feed(data) if data else decoder.last())
                call.payloads = chunks.count
                if batch:
                    yield batch
                if error:
                    raise error
                if not data and not chunks.done:
                    raise UpstreamProtocolError(f"{self._deployment.provider} ended the stream without [DONE]")
            await self._finish(response)
        finally:
            response.close()

    async def models(self, deadline: float) -> list[ModelCard]:
        """The provider's own list, ``GET {base_url}/models``."""
        response = await self._client.request(
            "GET", f"{self._base}/models", headers=self._headers, deadline=deadline, connect_timeout=2.0
        )
        body = await response.read(4 * 1024 * 1024)
        if response.status != 200:
            raise fault(response.status, response.headers, body, self._deployment, self._profile)
        try:
            listed = parse(body)["data"]
            return [
                self._card(entry) for entry in listed if isinstance(entry, dict) and isinstance(entry.get("id"), str)
            ]
        except (ValueError, KeyError, TypeError):
            raise UpstreamProtocolError(f"{self._base}/models is no list of models") from None

    async def probe(self, deadline: float) -> None:
        """Its own word that it is ready, where it gives one; else it must list its models."""
        if not self._profile.ready:
            await self.models(deadline)
            return
        url = self._base.removesuffix("/v1") + self._profile.ready
        response = await self._client.request(
            "GET", url, headers=self._headers, deadline=deadline, connect_timeout=self._deployment.connect_timeout
        )
        body = await response.read(MAX_ERROR)
        if response.status == 404:  # an older engine, or another one behind the same wire
            await self.models(deadline)
        elif response.status != 200:
            raise fault(response.status, response.headers, body, self._deployment, self._profile)

    def _card(self, entry: dict[str, Any]) -> ModelCard:
        created = entry.get("created")
        window = entry.get("max_model_len")
        return ModelCard(
            id=entry["id"],
            owned_by=self._deployment.provider,
            provider_type=self._deployment.kind,
            created=created if isinstance(created, int) else int(time.time()),
            upstream=entry["id"],
            context_window=window if isinstance(window, int) else None,
        )

    async def _fit(self, call: Call) -> None:
        """Keep a bound that the house has put on an answer within the model's context, where the engine tells it."""
        if call.cap is None or not self._profile.window:
            return
        if self._window is None:
            try:
                cards = await self.models(min(call.deadline, asyncio.get_running_loop().time() + 5.0))
            except UpstreamError:
                return  # it will tell another time
            upstream = self._deployment.upstream_model
            self._window = next((card.context_window or 0 for card in cards if card.upstream == upstream), 0)
        if self._window:
            call.cap = min(call.cap, max(self._window - call.prompt, self._window // 8))

    def _body(self, call: Call) -> dict[str, Any]:
        """The body to send: the caller's, under the upstream's model name, with the fields that the profile knows."""
        known = self._profile.fields
        if known is None:
            body = dict(call.body)
        else:
            body = {name: value for name, value in call.body.items() if name in known}
            call.dropped = tuple(name for name in call.body if name not in known)
        body["model"] = self._deployment.upstream_model
        if call.cap is not None:
            body[self._profile.cap if call.endpoint == CHAT else "max_tokens"] = call.cap
        return body

    async def _post(self, call: Call, body: dict[str, Any]) -> Response:
        deployment = self._deployment
        if self._generates is not True and call.endpoint != EMBEDDINGS:
            await self._check_kind(call)
        target = self._targets.get(call.endpoint)
        if target is None:
            target = self._targets[call.endpoint] = Target("POST", f"{self._base}/{call.endpoint}", self._headers)
        response = await self._client.send(
            target,
            write(body),
            request_id=call.request_id,
            deadline=min(call.deadline, asyncio.get_running_loop().time() + deployment.timeout),
            connect_timeout=deployment.connect_timeout,
        )
        if response.status != 200:
            try:
                detail = await response.read(MAX_ERROR)
            except UpstreamProtocolError:
                detail = b""
            raise fault(response.status, response.headers, detail, deployment, self._profile)
        return response

    def _judge(self, document: Any) -> UpstreamError | None:
        """The failure that a document stands for, if it does for one."""
        return frame_fault(document, self._deployment, self._profile)

    async def _check_kind(self, call: Call) -> None:
        """Refuse a chat with an engine that only embeds, before it is sent."""
        if self._generates is None:
            deadline = min(call.deadline, asyncio.get_running_loop().time() + 5.0)
            url = self._base.removesuffix("/v1") + self._profile.about
            response = await self._client.request("GET", url, headers=self._headers, deadline=deadline)
            body = await response.read(MAX_ERROR)
            if response.status not in (200, 404):  # it will tell another time
                return
            try:
                self._generates = response.status == 404 or parse(body).get("is_generation") is not False
            except (ValueError, AttributeError):
                self._generates = True
        if not self._generates:
            raise UpstreamRefused(
                f"The model {call.body.get('model')!r} only makes embeddings.", status=400, param="model"
            )

    async def _not_a_stream(self, response: Response, kind: str) -> Exception:
        """What to say of a 200 that is no event stream: its own error where it holds one."""
        try:
            document = parse(await response.read(MAX_ERROR))
        except (ValueError, UpstreamProtocolError):
            document = None
        return self._judge(document) or UpstreamProtocolError(
            f"{self._deployment.provider} answered a stream with content type {kind or 'none'}"
        )

    async def _finish(self, response: Response) -> None:
        """Read what little follows ``[DONE]``, so that the connection can be used again."""
        try:
            async with asyncio.timeout(0.05):
                await response.read(1024)
        except (TimeoutError, UpstreamProtocolError, UpstreamUnavailable):
            response.close()
