"""An engine's own endpoint: any JSON goes to the path that the configuration names, and what it answers comes back."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from penstock.core.json import parse, to_json
from penstock.core.ports import Answer, Call
from penstock.core.sse import DONE, EventDecoder
from penstock.errors import UpstreamError, UpstreamProtocolError
from penstock.outbound import Response
from penstock.providers._line import Line, refused
from penstock.providers._relay import Opened

_STREAM = "text/event-stream"


async def own_answer(line: Line, call: Call) -> Answer:
    """What the endpoint answers to ``input``, as ``output`` beside the model's name; its usage counts, if it tells one.

    An answer that is no JSON, such as a sound, is told as its ``content_type`` and its bytes in ``base64``.
    """
    response = await _post(line, call)
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await response.read()
    try:
        output: Any = parse(body)
    except ValueError:
        if "json" in kind:
            raise UpstreamProtocolError(f"{line.deployment.provider} answered what is not valid JSON") from None
        output = {"content_type": kind or "application/octet-stream", "base64": b64encode(body).decode()}
        body = to_json(output)
    usage = output.get("usage") if isinstance(output, dict) else None
    model = call.body["model"]
    told = b'{"model":%b,"task":"custom","output":%b}' % (to_json(model), body.strip())
    return Answer(told, {"model": model, "output": output, "usage": usage})


async def own_stream(line: Line, call: Call) -> Opened:
    """The events of the endpoint, as they come. It ends with ``[DONE]``, or with its body."""
    response = await _post(line, call)
    found = response.headers.get("content-type", "")
    if not found.startswith(_STREAM):
        response.close()
        raise UpstreamProtocolError(f"{line.deployment.provider} answered a stream with content type {found or 'none'}")
    return Opened(response, _ToTheEnd(), _AsTheyCome(), "its end")


async def _post(line: Line, call: Call) -> Response:
    path = line.deployment.path
    if not path:
        raise refused(f"The model {call.body['model']!r} has no endpoint of its own.", "model")
    return await line.post(path, call.body["input"], call)


class _ToTheEnd(EventDecoder):
    """Events of a stream whose end is that of its body."""

    def last(self) -> list[bytes]:
        """That it is done."""
        return [DONE]


class _AsTheyCome:
    """Payloads that nobody looks into."""

    def __init__(self) -> None:
        self.done = False
        self.count = 0

    def read(self, payloads: list[bytes]) -> tuple[list[bytes], UpstreamError | None]:
        """All of them, but for the mark of the end."""
        if DONE in payloads:
            self.done = True
            payloads = payloads[: payloads.index(DONE)]
        self.count += len(payloads)
        return payloads, None
