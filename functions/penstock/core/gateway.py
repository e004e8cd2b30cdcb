"""The story of a request on one page: admit, route, call, settle."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from penstock.core.json import to_json
from penstock.core.metering import Ledger
from penstock.core.ports import Call
from penstock.core.registry import ModelRegistry
from penstock.core.streams import Relay, read_usage
from penstock.errors import (
    NoDeploymentAvailable,
    PenstockError,
    PermissionDenied,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamRefused,
)
from penstock.schema.model import Deployment
from penstock.schema.outcome import CANCELLED, FAILED, OK, Outcome, Usage
from penstock.schema.request import EMBEDDINGS, Attempt, Request


class Gateway:
    """Serves requests that a dialect has read, and writes one outcome for each."""

    def __init__(self, registry: ModelRegistry, ledger: Ledger, *, attempts: int = 3) -> None:
        self.registry = registry
        self.ledger = ledger
        self._attempts = attempts

    async def complete(self, request: Request) -> bytes:
        """A whole answer, as JSON under the public model's name.

        Tries the model's deployments in order until one answers; each at most once, all under one deadline.
        Raises ``CallerError``, ``UpstreamError`` or ``NoDeploymentAvailable``.
        """
        with _Account(request, self.ledger) as account:
            for deployment in await self._admit(request):
                with _Attempting(account, deployment):
                    call = account.call = Call(request.endpoint, request.body, request.deadline, request.id)
                    body, document = await self.registry.connection(deployment).complete(call)
                    request.dropped = call.dropped
                    if not document.get("data" if request.endpoint == EMBEDDINGS else "choices"):
                        raise UpstreamProtocolError(f"{deployment.provider} answered 200 without an answer in it")
                    account.usage = read_usage(document.get("usage"))
                    if document.get("model") != request.model:
                        document["model"] = request.model
                        body = to_json(document)
                    return body
            raise account.exhausted()

    async def stream(self, request: Request) -> AsyncGenerator[list[bytes], None]:
        """Batches of SSE payloads under the public model's name; ending means that the answer is whole.

        Until the first batch a failure moves the request on to the next deployment; after it, it is raised.
        Closing the generator closes the upstream call at once and settles what was produced.
        """
        with _Account(request, self.ledger) as account:
            for deployment in await self._admit(request):
                with _Attempting(account, deployment):
                    call = account.call = Call(request.endpoint, request.body, request.deadline, request.id)
                    relay = account.relay = Relay(request.model, show_usage=request.wants_usage)
                    async with aclosing(self.registry.connection(deployment).stream(call)) as batches:
                        async for batch in batches:
                            if out := relay.see(batch):
                                if account.first_at is None:
                                    account.first_at = time.perf_counter()
                                    request.dropped = call.dropped
                                yield out
                    if account.first_at is None:
                        raise UpstreamProtocolError(f"{deployment.provider} sent a stream without a single chunk")
                    return
            raise account.exhausted()

    async def _admit(self, request: Request) -> tuple[Deployment, ...]:
        self.ledger.check()
        if not request.caller.may_use(request.model):
            raise PermissionDenied(f"This API key may not use the model {request.model!r}.", param="model")
        return (await self.registry.candidates(request.model))[: self._attempts]


class _Account:
    """What one request has taken so far, and the outcome that it becomes."""

    __slots__ = ("_began", "_ledger", "_started", "call", "first_at", "last", "relay", "request", "usage")

    def __init__(self, request: Request, ledger: Ledger) -> None:
        self.request = request
        self._ledger = ledger
        self._started = time.time()
        self._began = time.perf_counter()
        self.first_at: float | None = None
        self.call: Call | None = None
        self.relay: Relay | None = None
        self.usage: Usage | None = None
        self.last: UpstreamError | None = None

    def __enter__(self) -> _Account:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._ledger.record(self._outcome(error))

    def exhausted(self) -> PenstockError:
        """The error of a request that no deployment could serve: the only one's own, or all of them told."""
        attempts = self.request.attempts
        if len(attempts) == 1 and self.last is not None:
            return self.last
        told = "; ".join(f"{attempt.deployment}: {attempt.code}" for attempt in attempts)
        return NoDeploymentAvailable(
            f"No deployment of {self.request.model!r} could answer ({told}).",
            attempts=tuple(
                {"deployment": a.deployment, "code": a.code, "seconds": round(a.seconds, 3)} for a in attempts
            ),
            retry_after=self.last.retry_after if self.last else None,
        )

    def _outcome(self, error: BaseException | None) -> Outcome:
        request, now = self.request, time.perf_counter()
        ended, status, code = _ending(error)
        usage = self.usage or (self.relay.usage if self.relay else None)
        return Outcome(
            request_id=request.id,
            started_at=self._started,
            duration=now - self._began,
            key_id=request.caller.key_id,
            owner=request.caller.owner,
            endpoint=request.endpoint,
            model=request.model,
            deployment=request.deployment,
            ended=ended,
            status=status,
            code=code,
            stream=request.stream,
            attempts=max(1, len(request.attempts) + (ended == OK)),
            ttft=self.first_at - self._began if self.first_at is not None else None,
            usage=usage or Usage(completion_tokens=self.call.payloads if self.call else 0),
            usage_reported=usage is not None,
        )


def _ending(error: BaseException | None) -> tuple[str, int, str]:
    """How a request ended: word, HTTP status and code. 499 is nginx's word for a client that left."""
    if error is None:
        return OK, 200, ""
    if isinstance(error, PenstockError):
        return FAILED, error.status, error.code
    if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        return CANCELLED, 499, "client_closed_request"
    return FAILED, 500, PenstockError.code


class _Attempting:
    """A block that tries one deployment: a failure that leaves the request whole ends the block, not the request."""

    __slots__ = ("_account", "_began", "_deployment")

    def __init__(self, account: _Account, deployment: Deployment) -> None:
        self._account = account
        self._deployment = deployment
        account.request.deployment = deployment.id
        self._began = time.perf_counter()

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        if error is None or not isinstance(error, UpstreamError):
            return False
        account = self._account
        account.last = error
        seconds = time.perf_counter() - self._began
        account.request.attempts.append(Attempt(self._deployment.id, error.code, error.message, seconds))
        if isinstance(error, UpstreamRefused) or account.first_at is not None:
            return False
        return asyncio.get_running_loop().time() < account.request.deadline
