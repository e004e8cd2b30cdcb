"""OpenAI's wire, outbound: OpenAI itself, and every engine and vendor that speaks it (rows in ``_profiles``)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

from penstock.core.fold import fold
from penstock.core.json import parse, to_json
from penstock.core.ports import Answer, Call
from penstock.core.sse import EventDecoder
from penstock.errors import UpstreamError, UpstreamRefused
from penstock.outbound import HttpClient, Response
from penstock.providers._faults import frame_fault
from penstock.providers._line import MAX_ERROR, Line, refused
from penstock.providers._listing import described, engine_abilities
from penstock.providers._openai_answer import Chunks, check
from penstock.providers._own_endpoint import own_answer, own_stream
from penstock.providers._profiles import PROFILES, Profile
from penstock.providers._relay import Opened
from penstock.schema.model import Deployment, ModelCard
from penstock.schema.request import CHAT, GENERATIVE, IMAGES, INFER

NOTHING: frozenset[str] = frozenset()


def connect(deployment: Deployment, client: HttpClient) -> OpenAI:
    """A connection to one deployment; does no I/O yet."""
    return OpenAI(deployment, client, PROFILES.get(deployment.kind, PROFILES["openai"]))


class OpenAI:
    """One deployment behind OpenAI's wire."""

    def __init__(self, deployment: Deployment, client: HttpClient, profile: Profile) -> None:
        self._deployment = deployment
        self._profile = profile
        base, key = deployment.base_url.rstrip("/"), deployment.credential
        headers = [("authorization", f"Bearer {key.reveal()}")] if key else []
        self._line = Line(deployment, client, profile, base, headers)
        self._beside = Line(deployment, client, profile, base.removesuffix("/v1"), headers)
        self._lacks = profile.lacks if not profile.at_home or base == profile.base_url else NOTHING
        self._window: int | None = None
        self._generates: bool | None = None if profile.about else True

    async def complete(self, call: Call) -> Answer:
        """The whole answer, folded from a stream where the profile says so."""
        if call.endpoint == INFER:
            return await own_answer(self._line, call)
        if self._profile.always_stream and call.endpoint in GENERATIVE:
            document = await fold(self.stream(call), call.endpoint)
            return Answer(to_json(document), document)
        await self._fit(call)
        response = await self._post(call, self._body(call))
        body = await response.read()
        document = self._line.document(body)
        if error := self._judge(document):
            raise error
        check(document, call.endpoint)
        return Answer(body, document)

    def stream(self, call: Call) -> AsyncGenerator[list[bytes], None]:
        """Batches of payloads as the upstream sends them; a stream without ``[DONE]`` is a cut one."""
        return self._line.relay(call, self._begin)

    async def _begin(self, call: Call) -> Opened:
        if call.endpoint == INFER:
            return await own_stream(self._line, call)
        await self._fit(call)
        response = await self._post(call, self._streamed(call))
        await self._line.expect(response, "text/event-stream", self._judge)
        return Opened(response, EventDecoder(), Chunks(self._judge), "[DONE]")

    async def models(self, deadline: float) -> list[ModelCard]:
        """The provider's own list, ``GET {base_url}/models``, with what the engine says of itself."""
        if self._profile.foreign:
            await self.probe(deadline)
            return []
        cards = await self._listed(deadline)
        able = await self._abilities(deadline) if self._profile.about else ()
        return [replace(card, capabilities=able or card.capabilities) for card in cards]

    async def _listed(self, deadline: float) -> list[ModelCard]:
        return [
            self._line.card(entry["id"], _whole(entry.get("created")), *described(entry))
            for entry in await self._line.listed("/models", "data", "id", deadline)
        ]

    async def _abilities(self, deadline: float) -> tuple[str, ...]:
        """What the engine says that it can do; nothing where it does not say."""
        try:
            return engine_abilities(await self._beside.get(self._profile.about, deadline))
        except UpstreamError:
            return ()

    async def probe(self, deadline: float) -> None:
        """Its own word that it is ready, where it gives one; else it must list its models, or answer at all."""
        if self._profile.foreign:
            await self._line.look("/", deadline)
            return
        if not self._profile.ready:
            await self.models(deadline)
            return
        response = await self._beside.look(self._profile.ready, deadline)
        if response.status not in (200, 404):
            raise await self._beside.failure(response)
        await response.read(MAX_ERROR)
        if response.status == 404:  # an older engine, or another one behind the same wire
            await self.models(deadline)

    async def _fit(self, call: Call) -> None:
        """Keep a bound that the house has put on an answer within the model's context, where the engine tells it."""
        if call.cap is None or not self._profile.window:
            return
        if self._window is None:
            try:
                cards = await self._listed(self._soon(call))
            except UpstreamError:
                return  # it will tell another time
            upstream = self._deployment.upstream_model
            self._window = next((card.context_window or 0 for card in cards if card.upstream == upstream), 0)
        if self._window:
            call.cap = min(call.cap, max(self._window - call.prompt, self._window // 8))

    def written(self, call: Call) -> dict[str, Any]:
        """The body of a call that another makes: of a stream, where there can be one."""
        return self._streamed(call) if call.endpoint in GENERATIVE else self._body(call)

    def _streamed(self, call: Call) -> dict[str, Any]:
        body = self._body(call)
        body["stream"] = True
        if self._profile.stream_usage:
            body["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
        return body

    def _body(self, call: Call) -> dict[str, Any]:
        """The body to send: the caller's, under the upstream's model name, with the fields that the profile knows."""
        known, lacks = self._profile.fields if call.endpoint != IMAGES else None, self._lacks
        if known is not None:
            body = {name: value for name, value in call.body.items() if name in known}
            call.dropped = tuple(name for name in call.body if name not in known)
        elif lacks and not lacks.isdisjoint(call.body):
            body = {name: value for name, value in call.body.items() if name not in lacks}
            call.dropped = tuple(name for name in call.body if name in lacks)
        else:
            body = dict(call.body)
        body["model"] = self._deployment.upstream_model
        if self._deployment.pass_priority and call.endpoint in GENERATIVE:
            body["priority"] = -call.priority if self._profile.lower_first else call.priority
        if call.cap is not None:
            body[self._profile.cap if call.endpoint == CHAT else "max_tokens"] = call.cap
        return body

    async def _post(self, call: Call, body: dict[str, Any]) -> Response:
        if self._deployment.path:
            raise refused(f"The model {call.body.get('model')!r} is served by POST /infer alone.", "model")
        if self._generates is not True and call.endpoint in GENERATIVE:
            await self._check_kind(call)
        return await self._line.post(f"/{call.endpoint}", body, call)

    def _soon(self, call: Call) -> float:
        """When a question before the call must be answered: no place may take longer for it than for the call."""
        return min(call.deadline, asyncio.get_running_loop().time() + min(5.0, self._deployment.timeout))

    def _judge(self, document: Any) -> UpstreamError | None:
        """The failure that a document stands for, if it does for one."""
        return frame_fault(document, self._deployment, self._profile)

    async def _check_kind(self, call: Call) -> None:
        """Refuse a chat with an engine that only embeds, before it is sent."""
        if self._generates is None:
            response = await self._beside.look(self._profile.about, self._soon(call))
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


def _whole(created: Any) -> int:
    return created if isinstance(created, int) else int(time.time())
