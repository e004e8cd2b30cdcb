"""What an administrator has selected of a provider, put to use: in the calls that go there."""

from __future__ import annotations

from penstock.core.limits.estimate import asked
from penstock.core.ports import Call
from penstock.schema.model import Deployment
from penstock.schema.request import GENERATIVE, Request


def call_to(place: Deployment, request: Request, prompt: int) -> Call:
    """The call of a request to a place; what the request leaves open is as it was selected there."""
    body, cap = request.body, request.cap
    if request.endpoint in GENERATIVE:
        if place.temperature is not None and body.get("temperature") is None:
            body = {**body, "temperature": place.temperature}
        if place.max_tokens is not None and asked(request) is None:
            cap = min(cap or place.max_tokens, place.max_tokens)
    call = Call(request.endpoint, body, request.deadline, request.id, cap, prompt)
    call.key_id, call.injected = request.caller.key_id, request.injected
    call.priority = request.caller.priority
    return call
