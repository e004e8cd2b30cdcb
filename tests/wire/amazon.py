"""What AWS does at its end of a wire, by botocore: it checks signatures and reads answers. Frames are made here.

The frames are written by the specification, and not by what Penstock reads them with.
"""

from __future__ import annotations

import base64
import io
import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any
from zlib import crc32

import botocore.session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.eventstream import EventStream
from botocore.model import OperationModel, Shape
from botocore.parsers import EventStreamJSONParser, create_parser
from botocore.validate import ParamValidator

from tests.wire.upstream import Call

FRAMES = "application/vnd.amazon.eventstream"
REGION = "eu-west-1"
ID, SECRET, TOKEN = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "IQoJb3JpZ2luX2VjEXAMPLE"
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": ID, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": TOKEN}
"""Credentials that a process finds around it."""

Document = dict[str, Any]


def frame(payload: bytes, **headers: str) -> bytes:
    """One frame; ``message_type`` stands for the header ``:message-type``, and so on."""
    names = {f":{name.replace('_', '-')}".encode(): value.encode() for name, value in headers.items()}
    told = b"".join(
        struct.pack("!B", len(name)) + name + struct.pack("!BH", 7, len(value)) + value for name, value in names.items()
    )
    prelude = struct.pack("!II", 16 + len(told) + len(payload), len(told))
    whole = prelude + struct.pack("!I", crc32(prelude)) + told + payload
    return whole + struct.pack("!I", crc32(whole))


def event(kind: str, document: Document) -> bytes:
    """An event as Bedrock frames it, with its padding."""
    payload = json.dumps({**document, "p": "abcdefghijk"[: len(kind)]}, ensure_ascii=False, separators=(",", ":"))
    return frame(payload.encode(), event_type=kind, content_type="application/json", message_type="event")


def exception(kind: str, message: str) -> bytes:
    """An exception in the middle of a stream."""
    payload = json.dumps({"message": message}).encode()
    return frame(payload, exception_type=kind, content_type="application/json", message_type="exception")


def framed(events: Iterable[tuple[str, Document]]) -> bytes:
    """A whole stream of events."""
    return b"".join(event(kind, document) for kind, document in events)


@cache
def operation(name: str) -> OperationModel:
    """What botocore knows of an operation of Bedrock's runtime."""
    return botocore.session.get_session().get_service_model("bedrock-runtime").operation_model(name)


def parsed(body: bytes) -> Document:
    """A plain answer as botocore reads it."""
    told = {"status_code": 200, "headers": {"content-type": "application/json"}, "body": body}
    found: Document = create_parser("rest-json").parse(told, operation("Converse").output_shape)
    return found


def parsed_stream(body: bytes, pieces: int = 1024) -> list[Document]:
    """The events of a stream as botocore reads them; raises its ``EventStreamError`` at an exception."""
    shape = operation("ConverseStream").get_event_stream_output()
    return list(EventStream(_Raw(body, pieces), shape, EventStreamJSONParser(), "ConverseStream"))


class _Raw:
    """What botocore takes for the body of an answer that is still coming."""

    def __init__(self, body: bytes, pieces: int) -> None:
        self._body = io.BytesIO(body)
        self._pieces = pieces

    def stream(self) -> Iterable[bytes]:
        return iter(lambda: self._body.read(self._pieces), b"")


@dataclass
class Signed:
    """What a request's ``authorization`` header says of it."""

    id: str
    scope: str
    names: list[str]
    signature: str


def read_signature(call: Call) -> Signed:
    """The header in its parts."""
    algorithm, _, rest = call.headers["authorization"].partition(" ")
    assert algorithm == "AWS4-HMAC-SHA256"
    told = dict(part.split("=", 1) for part in rest.split(", "))
    key, _, scope = told["Credential"].partition("/")
    return Signed(key, scope, told["SignedHeaders"].split(";"), told["Signature"])


def check_signature(call: Call, *, region: str = REGION, token: str | None = TOKEN) -> None:
    """Fail unless botocore signs the same request in the same way."""
    said = read_signature(call)
    headers = {name: call.headers[name] for name in said.names}
    assert {"host", "x-amz-date"} <= headers.keys()
    assert headers.get("x-amz-security-token") == token
    request = AWSRequest(call.method, f"http://{call.headers['host']}{call.target}", headers, call.body)
    request.context["timestamp"] = headers["x-amz-date"]
    signer = SigV4Auth(Credentials(ID, SECRET, token), "bedrock", region)
    assert (said.id, said.scope) == (ID, signer.credential_scope(request))
    assert said.signature == signer.signature(
        signer.string_to_sign(request, signer.canonical_request(request)), request
    )


def check_request(body: Document, model: str) -> None:
    """Fail unless botocore would take these parameters for Converse: every name, type, least value and union."""
    shape = operation("Converse").input_shape
    report = ParamValidator().validate(_with_bytes({"modelId": model, **body}, shape), shape)
    assert not report.has_errors(), report.generate_report()


def _with_bytes(value: Any, shape: Shape) -> Any:
    """The parameters with bytes where the wire has base64."""
    if shape.type_name == "blob":
        return base64.b64decode(value, validate=True)
    if shape.type_name == "list":
        return [_with_bytes(part, shape.member) for part in value]
    if shape.type_name == "structure" and isinstance(value, dict) and not shape.is_document_type:
        members = shape.members
        return {name: _with_bytes(part, members[name]) if name in members else part for name, part in value.items()}
    return value
