"""A queue of Amazon SQS: ``sqs://sqs.eu-west-1.amazonaws.com/123456789012/jobs``, and ``?endpoint=http://host:port``
(with ``&region=``) for another server that speaks like it.

AWS's JSON protocol, signed here and carried by Penstock's own HTTP client. SQS knows no priorities: with
``?urgent=name`` what has one above 0 goes through a second queue of the same account, which is looked at first.
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/
"""

from __future__ import annotations

import asyncio
import random
import re
from datetime import UTC, datetime
from math import ceil
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from penstock.core.json import parse, to_json
from penstock.core.ports import Message
from penstock.errors import SettingsError, StateError, UpstreamError

if TYPE_CHECKING:
    from penstock.aws import Identity
    from penstock.outbound import HttpClient

BUDGET = 5.0
"""Seconds for one call with its repeats, waiting for messages aside."""
CONNECT = 1.0
PAUSES = (0.05, 0.2, 0.5)
"""Seconds at most before each repeat."""
MOST = 10
LONGEST_DELAY = 900
LONGEST_WAIT = 20
LONGEST_LEASE = 43_200
GLANCE = 2.0
"""Seconds for which the usual queue is waited for before the urgent one is looked at again."""
URGENT = "!"
"""Begins the receipt of a message of the urgent queue."""
_REGION = re.compile(r"sqs\.([a-z0-9-]+)\.")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")
_PATH = re.compile(r"/[^/\s]+/[^/\s]+")
_STALE = ("ExpiredToken", "UnrecognizedClient", "InvalidClientTokenId")
_GONE = ("ReceiptHandleIsInvalid", "MessageNotInflight", "InvalidParameterValue")
"""What SQS says of a message whose lease is over."""


class SqsQueue:
    """A ``Queue`` of SQS at ``endpoint``, in a region; perhaps with another one for what is ``urgent``."""

    def __init__(
        self,
        queue_url: str,
        endpoint: str,
        region: str,
        client: HttpClient,
        identity: Identity,
        *,
        urgent: str | None = None,
    ) -> None:
        self._queue_url = queue_url
        self._urgent = urgent
        self._endpoint = endpoint
        self._region = region
        self._client = client
        self._identity = identity

    async def open(self) -> None:
        """Nothing: the queue is made with the stack, and whether it is there shows when it is used."""

    async def close(self) -> None:
        """Nothing: the client is closed by whom it belongs to."""

    async def send(self, job_id: str, *, priority: int = 0, delay: float = 0.0) -> None:
        """Have a job's message delivered after ``delay``, of which SQS takes a quarter of an hour at most."""
        body = to_json({"job_id": job_id}).decode()
        queue = self._urgent if self._urgent and priority > 0 else self._queue_url
        await self._call(queue, "SendMessage", MessageBody=body, DelaySeconds=min(ceil(delay), LONGEST_DELAY))

    async def receive(self, *, most: int, lease: float, wait: float = 0.0) -> list[Message]:
        """Up to ``most`` messages, ten at most, waiting for the first up to ``wait``, 20 seconds at most."""
        if self._urgent is None:
            return await self._receive(self._queue_url, most, lease, wait)
        loop = asyncio.get_running_loop()
        end = loop.time() + wait
        while True:
            found = await self._receive(self._urgent, most, lease, 0.0)
            if len(found) < most:
                patience = 0.0 if found else max(min(end - loop.time(), GLANCE), 0.0)
                found += await self._receive(self._queue_url, most - len(found), lease, patience)
            if found or loop.time() >= end:
                return found

    async def _receive(self, queue: str, most: int, lease: float, wait: float) -> list[Message]:
        wait = min(ceil(wait), LONGEST_WAIT)
        answer = await self._call(
            queue,
            "ReceiveMessage",
            wait,
            MaxNumberOfMessages=min(most, MOST),
            VisibilityTimeout=min(ceil(lease), LONGEST_LEASE),
            WaitTimeSeconds=wait,
            MessageSystemAttributeNames=["ApproximateReceiveCount"],
        )
        mark = URGENT if queue == self._urgent else ""
        return [_message(told, mark) for told in answer.get("Messages") or ()]

    async def release(self, message: Message, delay: float = 0.0) -> None:
        """Give a message back, to be delivered again after ``delay``; a receipt whose lease is over is no error."""
        queue, receipt = self._delivery(message)
        seconds = min(ceil(delay), LONGEST_LEASE)
        await self._call(queue, "ChangeMessageVisibility", ReceiptHandle=receipt, VisibilityTimeout=seconds)

    async def done(self, message: Message) -> None:
        """Deliver a message no more; a receipt whose lease is over is no error."""
        queue, receipt = self._delivery(message)
        await self._call(queue, "DeleteMessage", ReceiptHandle=receipt)

    def _delivery(self, message: Message) -> tuple[str, str]:
        """The queue that a message came from, and its receipt there."""
        if self._urgent and message.receipt.startswith(URGENT):
            return self._urgent, message.receipt.removeprefix(URGENT)
        return self._queue_url, message.receipt

    async def _call(self, queue: str, action: str, wait: float = 0.0, **fields: Any) -> dict[str, Any]:
        """One operation, repeated after passing failures. Raises ``StateError`` if there is no good answer in time."""
        body = to_json({"QueueUrl": queue, **fields})
        failure = ""
        for pause in (*PAUSES, 0.0):
            try:
                status, answer = await self._attempt(action, body, BUDGET + wait)
            except UpstreamError as error:
                failure = error.message
            else:
                if status == 200:
                    return answer
                kind = str(answer.get("__type", "")).rpartition("#")[2].rpartition(".")[2]
                if kind.startswith(_GONE) and "ReceiptHandle" in fields:
                    return {}
                failure = f"{kind or status}: {answer.get('message') or answer.get('Message') or 'no more is told'}"
                if kind.startswith(_STALE):
                    self._identity.forget()
                elif status < 500 and "Throttl" not in kind:
                    break
            await asyncio.sleep(random.uniform(0, pause))
        raise StateError(f"{action} on {queue} failed: {failure}")

    async def _attempt(self, action: str, body: bytes, seconds: float) -> tuple[int, dict[str, Any]]:
        from penstock.aws import signature  # noqa: PLC0415 - brings aiodynamo along

        headers = {"content-type": "application/x-amz-json-1.0", "x-amz-target": f"AmazonSQS.{action}"}
        signed = signature(
            "POST",
            self._endpoint,
            headers,
            body,
            key=await self._identity.key(),
            region=self._region,
            service="sqs",
            at=datetime.now(UTC),
        )
        response = await self._client.request(
            "POST",
            self._endpoint,
            headers=[*headers.items(), *signed],
            body=body,
            deadline=asyncio.get_running_loop().time() + seconds,
            connect_timeout=CONNECT,
        )
        content = await response.read()
        try:
            answer = parse(content)
        except ValueError:
            answer = None
        return response.status, answer if isinstance(answer, dict) else {}


def connect(url: str, client: HttpClient | None) -> SqsQueue:
    """The queue that ``url`` names; nothing is sent before it is used. ``client`` carries the calls.

    Raises ``SettingsError`` if the URL is malformed.
    """
    from penstock.aws import Identity, at_home  # noqa: PLC0415 - brings aiodynamo along
    from penstock.outbound import HttpClient  # noqa: PLC0415

    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    endpoint, region, urgent = (options.pop(name, None) for name in ("endpoint", "region", "urgent"))
    if parts.scheme != "sqs" or not parts.netloc or not _PATH.fullmatch(parts.path) or options:
        raise _wrong(f"{url!r} names no queue: write sqs://sqs.eu-west-1.amazonaws.com/123456789012/name")
    if endpoint is not None and not re.fullmatch(r"https?://[^/\s]+/?", endpoint):
        raise _wrong(f"the endpoint in {url!r} must look like http://host:port")
    if urgent is not None and not _NAME.fullmatch(urgent):
        raise _wrong(f"the urgent queue in {url!r} must be a name of letters, digits, dashes and underscores")
    named = _REGION.match(parts.netloc)
    region = region or (named[1] if named else "us-east-1" if endpoint else None)
    if region is None:
        raise _wrong(f"{url!r} names no region: add ?region=eu-west-1")
    base = (endpoint or f"https://{parts.netloc}").rstrip("/")
    client = client or HttpClient()
    queue_url = f"{base}{parts.path}"
    return SqsQueue(
        *(queue_url, f"{base}/", region, client, Identity(client, at_home() if endpoint else None)),
        urgent=f"{queue_url.rpartition('/')[0]}/{urgent}" if urgent else None,
    )


def _message(told: dict[str, Any], mark: str) -> Message:
    """A message as SQS tells it; one that names no job keeps an empty name, which nobody finds."""
    try:
        job_id = parse(told["Body"])["job_id"]
    except (ValueError, KeyError, TypeError):
        job_id = ""
    count = int((told.get("Attributes") or {}).get("ApproximateReceiveCount", 1))
    return Message(job_id if isinstance(job_id, str) else "", mark + told["ReceiptHandle"], count)


def _wrong(message: str) -> SettingsError:
    return SettingsError(message, setting="PENSTOCK_QUEUE_URL")
