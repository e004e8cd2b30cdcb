"""Amazon Bedrock, outbound: what callers say in OpenAI's words is said to its models in those of Converse.

Requests are signed with the AWS credentials of the process, or carry a Bedrock API key where the provider has one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import quote

from penstock.aws import Identity
from penstock.core.fold import read_chunk
from penstock.core.json import to_json
from penstock.core.ports import Answer, Call
from penstock.errors import UpstreamError, UpstreamRefused
from penstock.outbound import HttpClient, Response
from penstock.providers._bedrock_answer import Events, answer
from penstock.providers._bedrock_request import converse_request
from penstock.providers._event_stream import Frames, Message
from penstock.providers._line import Line, refused, seconds
from penstock.providers._profiles import PROFILES
from penstock.providers._relay import Opened, Translator, Whole
from penstock.providers._signed_line import SignedLine
from penstock.schema.model import Deployment, ModelCard
from penstock.schema.request import CHAT

STREAM = "application/vnd.amazon.eventstream"
PROFILES_OF_AWS = "/inference-profiles?maxResults=1000&type=SYSTEM_DEFINED"
_UNSTREAMED = re.compile(r"in streaming mode|(unsupported for|n't support) streaming", re.I)
_STATUSES = {
    "validationException": 400,
    "accessDeniedException": 403,
    "resourceNotFoundException": 404,
    "modelTimeoutException": 408,
    "modelStreamErrorException": 424,
    "modelErrorException": 424,
    "throttlingException": 429,
    "modelNotReadyException": 429,
    "serviceUnavailableException": 503,
}
"""What the kinds of exceptions would be with a status of their own, which a stream cannot give them any more."""


def connect(deployment: Deployment, client: HttpClient) -> Bedrock:
    """A connection to one deployment; does no I/O yet."""
    return Bedrock(deployment, client)


class Bedrock:
    """One model of Bedrock's, in the region of AWS that the options name."""

    def __init__(self, deployment: Deployment, client: HttpClient) -> None:
        self._deployment = deployment
        profile, runtime, identity = PROFILES["bedrock"], deployment.base_url.rstrip("/"), Identity(client)

        def line(base: str) -> Line:
            if key := deployment.credential:
                return Line(deployment, client, profile, base, [("authorization", f"Bearer {key.reveal()}")])
            return SignedLine(deployment, client, profile, base, identity)

        self._line = line(runtime)
        self._catalogue = line(runtime.replace("bedrock-runtime", "bedrock"))  # another service, where it is AWS's own
        self._unstreamed: set[bool] = set()
        self._path = f"/model/{quote(deployment.upstream_model, safe='')}"

    async def complete(self, call: Call) -> Answer:
        """The whole answer."""
        response = await self._line.post(f"{self._path}/converse", self._body(call), call)
        told = self._line.document(await response.read())
        document = answer(told, *self._named(response, call))
        return Answer(to_json(document), document)

    def stream(self, call: Call) -> AsyncGenerator[list[bytes], None]:
        """Batches of chunks as the events come; a stream without ``metadata`` after its end is a cut one.

        A model that cannot be streamed, as some cannot with tools, answers in one piece.
        """
        return self._line.relay(call, self._begin)

    async def _begin(self, call: Call) -> Opened:
        body = self._body(call)
        tooled = "toolConfig" in body
        if tooled not in self._unstreamed:
            try:
                return await self._begin_stream(body, call)
            except UpstreamRefused as refusal:
                if not _UNSTREAMED.search(refusal.message):
                    raise
                self._unstreamed.add(tooled)
        response = await self._line.post(f"{self._path}/converse", body, call)
        events = Events(*self._named(response, call))
        return Opened(
            response, Whole(), Translator(events, lambda told: events.retell(self._line.document(told))), "an answer"
        )

    async def _begin_stream(self, body: dict[str, Any], call: Call) -> Opened:
        response = await self._line.post(f"{self._path}/converse-stream", body, call)
        await self._line.expect(response, STREAM, lambda _: None)
        events = Events(*self._named(response, call))

        def translate(message: Message) -> list[bytes]:
            if error := self._error_in(message):
                raise error
            return events.read(str(message.headers.get(":event-type")), read_chunk(message.payload))

        return Opened(response, Frames(), Translator(events, translate), "its metadata")

    async def probe(self, deadline: float) -> None:
        """It must be there, and we be able to sign: a role that may call models need not be one that may list them."""
        response = await self._line.look("/", deadline)
        if response.status >= 500:
            raise await self._line.failure(response)
        response.close()

    async def models(self, deadline: float) -> list[ModelCard]:
        """The models that speak, by themselves where they are served on demand, and by the profiles of regions."""
        speaking, profiles = await asyncio.gather(
            self._catalogue.listed("/foundation-models?byOutputModality=TEXT", "modelSummaries", "modelId", deadline),
            self._catalogue.listed(PROFILES_OF_AWS, "inferenceProfileSummaries", "inferenceProfileId", deadline),
        )
        names = {entry["modelId"] for entry in speaking}
        alone = [
            self._line.card(entry["modelId"], seconds(_inside(entry.get("modelLifecycle"), "startOfLifeTime")))
            for entry in speaking
            if "ON_DEMAND" in str(entry.get("inferenceTypesSupported"))
        ]
        regional = [
            self._line.card(entry["inferenceProfileId"], seconds(entry.get("createdAt")))
            for entry in profiles
            if entry["inferenceProfileId"].partition(".")[2] in names  # eu.anthropic.claude-…
        ]
        return alone + regional

    def _body(self, call: Call) -> dict[str, Any]:
        if call.endpoint != CHAT:
            raise refused(f"{self._deployment.provider} serves chat completions, and no {call.endpoint}.", "model")
        return converse_request(call, self._deployment.upstream_model)

    def _named(self, response: Response, call: Call) -> tuple[str, str]:
        """The answer's id and model, neither of which Bedrock tells in it."""
        number = response.headers.get("x-amzn-requestid") or call.request_id
        return f"chatcmpl-{number}", self._deployment.upstream_model

    def _error_in(self, message: Message) -> UpstreamError | None:
        """The failure that a message stands for, if it is one of an exception or an error."""
        match message.headers.get(":message-type"):
            case "exception":
                kind = str(message.headers.get(":exception-type"))
                return self._line.fault(_STATUSES.get(kind, 500), message.payload)
            case "error":
                told = {"message": str(message.headers.get(":error-message") or message.headers.get(":error-code"))}
                return self._line.fault(500, to_json(told))
        return None


def _inside(document: Any, name: str) -> Any:
    return document.get(name) if isinstance(document, dict) else None
