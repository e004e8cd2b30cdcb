"""The wire to DynamoDB: signed here, carried by Penstock's own HTTP client, repeated within a budget of time.

An answer may get lost after its write was made, and the write be sent again. So every conditional write puts a token
into its item (``written_by``): where the condition fails and the token is there, it was this very call that wrote it.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from aiodynamo import errors as aws
from aiodynamo.credentials import Credentials
from aiodynamo.http.types import Request, RequestFailed, Response

from penstock.aws import at_home, send, signature, usual
from penstock.errors import StateConflict, StateError, UpstreamError
from penstock.stores._breaker import Answered, Breaker
from penstock.stores._items import Item

if TYPE_CHECKING:
    from penstock.outbound import HttpClient

BUDGET = 2.0  # seconds for one call with its repeats
ATTEMPT = 0.9  # seconds for one attempt
CONNECT = 0.6  # seconds of an attempt for the connection
PAUSES = (0.02, 0.05, 0.1, 0.2, 0.4)  # seconds at most before each repeat
OPENING = 20.0  # seconds for a server of one's own to wake up (LocalStack starts its DynamoDB when first called)
LOOK = 0.1  # seconds between two looks at it

_PASSING = (
    aws.ExpiredToken,
    aws.InternalDynamoError,
    aws.ProvisionedThroughputExceeded,
    aws.RequestLimitExceeded,
    aws.ServiceUnavailable,
    aws.Throttled,
    aws.TransactionConflict,
    aws.TransactionInProgress,
    UpstreamError,
)
_UNSIGNED = (
    aws.ExpiredToken,
    aws.IncompleteSignature,
    aws.MissingAuthenticationToken,
    aws.NoCredentialsFound,
    aws.UnrecognizedClient,
)
_AWAY = (*_UNSIGNED, aws.InternalDynamoError, aws.ServiceUnavailable, TimeoutError, UpstreamError, ValueError)


class Connection:
    """Tables named ``{prefix}-{kind}`` in a region, or at an endpoint of one's own, where missing ones are made.

    ``tables`` maps each kind to what ``CreateTable`` needs to know of it. ``clock`` answers seconds since the epoch.
    """

    def __init__(
        self,
        prefix: str,
        tables: Mapping[str, dict[str, Any]],
        *,
        region: str,
        endpoint: str | None,
        client: HttpClient | None,
    ) -> None:
        self._prefix = prefix
        self._tables = tables
        self._region = region
        self._endpoint = endpoint
        self._address = (endpoint or f"https://dynamodb.{region}.amazonaws.com").rstrip("/") + "/"
        self._http = client
        self._owned: HttpClient | None = None
        self._credentials: Credentials | None = None
        self._budget, self._attempt = BUDGET, ATTEMPT
        self.breaker = Breaker("dynamodb")
        self.clock: Callable[[], float] = time.time

    def table(self, kind: str) -> str:
        """The name of a table."""
        return f"{self._prefix}-{kind}"

    async def open(self) -> None:
        """Find credentials and look for the tables; make missing ones, but only at an endpoint of one's own."""
        if self._credentials is not None:
            return
        if self._http is None:
            from penstock.outbound import HttpClient  # noqa: PLC0415 - only where nobody lends one

            self._http = self._owned = HttpClient()
        self._credentials = at_home() if self._endpoint else usual()
        self.breaker = Breaker("dynamodb")
        try:
            if self._endpoint:
                self._budget = self._attempt = OPENING
                await asyncio.gather(*map(self._make_table, self._tables))
            else:
                await self.get("registry", {"id": {"S": "ping"}})
        except StateError:
            await self.close()
            raise
        finally:
            self._budget, self._attempt = BUDGET, ATTEMPT

    async def close(self) -> None:
        """Let go of what ``open`` took; idempotent."""
        self._credentials = None
        owned, self._owned = self._owned, None
        if owned is not None:
            self._http = None
            await owned.aclose()

    async def call(self, action: str, payload: dict[str, Any]) -> dict[str, Any]:
        """One operation of DynamoDB's API, repeated after passing failures.

        Raises ``StateConflict`` if a condition did not hold and ``StateError`` if there is no answer in time.
        """
        with self.breaker.turn():
            return await self._call(action, payload)

    async def _call(self, action: str, payload: dict[str, Any]) -> dict[str, Any]:
        failure: Exception = TimeoutError()
        try:
            async with asyncio.timeout(self._budget):
                for pause in (*PAUSES, 0.0):
                    try:
                        return await self._attempt_once(action, payload)
                    except (aws.AIODynamoError, RequestFailed) as error:
                        failure = error.inner if isinstance(error, RequestFailed) else error
                        if not _passes(failure):
                            break
                    await asyncio.sleep(random.uniform(0, pause))
        except TimeoutError:
            pass
        except ValueError as error:
            failure = error
        raise explain(failure, f"{action} on {payload.get('TableName', self.table('*'))}", self._where()) from failure

    async def get(self, kind: str, key: Item) -> Item | None:
        """The item with this key as it is now, or ``None``."""
        answer = await self.call("GetItem", {"TableName": self.table(kind), "Key": key, "ConsistentRead": True})
        item: Item | None = answer.get("Item")
        return item

    async def put(
        self,
        kind: str,
        item: Item,
        condition: str,
        values: Item | None = None,
        *,
        names: dict[str, str] | None = None,
    ) -> None:
        """Write a whole item, once, if the condition holds of the one that is there; else ``StateConflict``."""
        token = uuid4().hex
        payload = {
            "TableName": self.table(kind),
            "Item": item | {"written_by": {"S": token}},
            "ConditionExpression": condition,
        }
        if values:
            payload["ExpressionAttributeValues"] = values
        if names:
            payload["ExpressionAttributeNames"] = names
        parts = [part["AttributeName"] for part in self._tables[kind]["KeySchema"]]
        try:
            await self.call("PutItem", payload)
        except StateConflict:
            if not await self.wrote(kind, {part: item[part] for part in parts}, token):
                raise

    async def update(
        self, kind: str, key: Item, change: str, condition: str, *, values: Item, names: dict[str, str] | None = None
    ) -> Item:
        """Change an item, once, if the condition holds of it; answers the item after it, else ``StateConflict``."""
        token = uuid4().hex
        payload = {
            "TableName": self.table(kind),
            "Key": key,
            "UpdateExpression": f"{change}, written_by = :written_by",
            "ConditionExpression": condition,
            "ExpressionAttributeValues": values | {":written_by": {"S": token}},
            "ReturnValues": "ALL_NEW",
        }
        if names:
            payload["ExpressionAttributeNames"] = names
        try:
            item: Item = (await self.call("UpdateItem", payload))["Attributes"]
            return item
        except StateConflict:
            if written := await self.wrote(kind, key, token):
                return written
            raise

    async def wrote(self, kind: str, key: Item, token: str) -> Item | None:
        """The item, if it was last written with this token: then an earlier attempt of the same call has done it."""
        item = await self.get(kind, key)
        return item if item and item.get("written_by") == {"S": token} else None

    async def pages(self, action: str, payload: dict[str, Any]) -> AsyncIterator[list[Item]]:
        """The pages of a ``Query`` or ``Scan``, each a call of its own."""
        while True:
            answer = await self.call(action, payload)
            yield answer["Items"]
            if "LastEvaluatedKey" not in answer:
                return
            payload = payload | {"ExclusiveStartKey": answer["LastEvaluatedKey"]}

    async def batch(self, action: str, requests: dict[str, Any], undone: str) -> list[dict[str, Any]]:
        """The answers to a batch, sent again for what the server left; ``undone`` names that in its answer."""
        answers = []
        for pause in (*PAUSES, 0.0):
            answers.append(await self.call(action, {"RequestItems": requests}))
            requests = answers[-1].get(undone) or {}
            if not requests:
                return answers
            await asyncio.sleep(random.uniform(0, pause))
        raise StateError(f"{action}: {self._where()} left a part of the batch undone each time: it is too busy")

    async def ping(self) -> None:
        """Raise ``StateError`` unless a write and a read work now."""
        key = {"id": {"S": "ping"}}
        table = {"TableName": self.table("registry")}
        with self.breaker.turn():  # one for both, so that a ping may be the probe
            await asyncio.gather(
                self._call("PutItem", table | {"Item": key | {"at": {"N": repr(self.clock())}}}),
                self._call("GetItem", table | {"Key": key, "ConsistentRead": True}),
            )

    async def _attempt_once(self, action: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Sign and send."""
        if self._credentials is None:
            raise StateError(f"the state at {self._where()} is not open")
        key = await self._credentials.get_key(self._send)
        if key is None:
            raise aws.NoCredentialsFound
        headers = {"content-type": "application/x-amz-json-1.0", "x-amz-target": f"DynamoDB_20120810.{action}"}
        body = json.dumps(payload, separators=(",", ":")).encode()
        now = datetime.now(UTC)
        signed = signature(
            "POST", self._address, headers, body, key=key, region=self._region, service="dynamodb", at=now
        )
        response = await self._send(Request("POST", self._address, headers | dict(signed), body))
        if response.status == 200:
            answer: dict[str, Any] = json.loads(response.body)
            return answer
        error = aws.exception_from_response(response.status, response.body)
        if isinstance(error, aws.ExpiredToken):
            self._credentials.invalidate()
        raise error

    def _where(self) -> str:
        return self._endpoint or f"DynamoDB in {self._region}"

    async def _send(self, request: Request) -> Response:
        """What aiodynamo wants of an HTTP client."""
        assert self._http is not None
        return await send(self._http, request, seconds=self._attempt, connect_timeout=CONNECT)

    async def _make_table(self, kind: str) -> None:
        name = self.table(kind)
        status = await self._status(name) or await self._create(name, self._tables[kind])
        try:
            async with asyncio.timeout(OPENING):
                while status != "ACTIVE":
                    await asyncio.sleep(LOOK)
                    status = await self._status(name)
        except TimeoutError:
            raise StateError(f"the new table {name} at {self._where()} is not ready after {OPENING:g} s") from None

    async def _status(self, name: str) -> str:
        """The state of a table; empty if there is none."""
        try:
            return str((await self._call("DescribeTable", {"TableName": name}))["Table"]["TableStatus"])
        except StateError as error:
            if isinstance(error.__cause__, aws.TableNotFound):
                return ""
            raise

    async def _create(self, name: str, shape: dict[str, Any]) -> str:
        """Make a table; answers its state. Another process may make it at the same moment."""
        expiry = {"AttributeName": "expires", "Enabled": True}
        try:
            made = await self._call("CreateTable", {"TableName": name, "BillingMode": "PAY_PER_REQUEST", **shape})
            await self._call("UpdateTimeToLive", {"TableName": name, "TimeToLiveSpecification": expiry})
        except StateError as error:
            if isinstance(error.__cause__, aws.ResourceInUse | aws.TableInUse):
                return "CREATING"
            raise
        return str(made["TableDescription"]["TableStatus"])


def _passes(error: Exception) -> bool:
    """Whether the same call may well succeed a moment later."""
    if isinstance(error, aws.TransactionCanceled):
        return "ConditionalCheckFailed" not in _reasons(error) and not {"ValidationError"} & _reasons(error)
    if isinstance(error, aws.UnknownError):
        return error.status == 429 or error.status >= 500
    return isinstance(error, _PASSING)


def _reasons(error: aws.TransactionCanceled) -> set[str]:
    return {reason.code for reason in error.cancellation_reasons if reason}


def explain(error: Exception, doing: str, where: str) -> StateError:
    """What went wrong with a call, and what a person can do."""
    if isinstance(error, aws.ConditionalCheckFailed) or (
        isinstance(error, aws.TransactionCanceled) and "ConditionalCheckFailed" in _reasons(error)
    ):
        return StateConflict(f"a condition of {doing} did not hold")
    kind = StateError if _is_away(error) else Answered
    if isinstance(error, aws.TableNotFound):
        return kind(
            f"{doing}: there is no such table at {where}; it is made by the stack of infra/state.yaml, which belongs to"
            " template.yaml: deploy that with `sam deploy`, or correct the prefix and region in PENSTOCK_STATE_URL"
        )
    if isinstance(error, aws.AccessDenied):
        return kind(f"{doing}: AWS does not allow it; add it to the policy of this role{_said(error)}")
    if isinstance(error, _UNSIGNED):
        return kind(
            f"{doing}: AWS credentials are missing or refused at {where}; set AWS_ACCESS_KEY_ID and"
            f" AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the machine a role{_said(error)}"
        )
    if isinstance(error, TimeoutError | UpstreamError):
        return kind(f"{doing}: no answer from {where}{_said(error)}; see that it runs and can be reached")
    if isinstance(error, aws.UnknownError | ValueError):
        return kind(f"{doing}: what answers at {where} is not DynamoDB; correct the endpoint in PENSTOCK_STATE_URL")
    return kind(f"{doing}: {where} refused it ({type(error).__name__}){_said(error)}")


def _is_away(error: Exception) -> bool:
    """Whether this is no answer of DynamoDB's; a refusal is one, and so is "too busy"."""
    if isinstance(error, aws.UnknownError):
        return error.status != 429
    return isinstance(error, _AWAY)


def _said(error: Exception) -> str:
    """The server's own words, where there are any."""
    answer = error.args[0] if error.args else ""
    words = answer.get("message") or answer.get("Message") if isinstance(answer, dict) else answer
    return f": {words}" if words else ""
