"""``POST /infer``: one route for every registered model, whatever it does (docs/infer.md)."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from penstock.core.cards import merged
from penstock.core.json import to_json
from penstock.dialects._body import read_body
from penstock.dialects._exchange import Exchange, WireRouter
from penstock.dialects._openai import request_of, respond
from penstock.dialects._presented import idempotency_key, presented_key
from penstock.dialects._templates import fill_template
from penstock.errors import InvalidRequest, ModelNotFound, NoDeploymentAvailable
from penstock.house import House
from penstock.schema.checked import check
from penstock.schema.key import Caller
from penstock.schema.request import CHAT, COMPLETIONS, EMBEDDINGS, IMAGES, INFER, Request
from penstock.schema.wire import ChatBody, CompletionBody, EmbeddingBody, ImageBody, ModelName, Wire

Task = Literal["chat", "completion", "embedding", "image", "custom"]
ENDPOINTS = {"chat": CHAT, "completion": COMPLETIONS, "embedding": EMBEDDINGS, "image": IMAGES, "custom": INFER}
TASKS = {endpoint: task for task, endpoint in ENDPOINTS.items()}
BODIES: dict[str, type[Wire]] = {
    CHAT: ChatBody,
    COMPLETIONS: CompletionBody,
    EMBEDDINGS: EmbeddingBody,
    IMAGES: ImageBody,
}


class InferBody(BaseModel):
    """``POST /infer``. The ``task`` is told from the model and the input where it is not said."""

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)

    model: ModelName
    input: dict[str, Any]
    task: Task | None = None


router = WireRouter()


async def infer(exchange: Exchange) -> None:
    """Answer ``input`` by whatever the model does, as ``output``."""
    house = exchange.house
    caller = await house.keyring.authenticate(presented_key(exchange))
    asked = await read_body(exchange, InferBody)
    model, given = asked["model"], asked["input"]
    endpoint = await _endpoint(house, caller, model, given, asked.get("task"))
    if endpoint == INFER:
        request = request_of(exchange, caller, endpoint, {"model": model, "input": given})
        request.stream = given.get("stream") is True
        if request.stream and (exchange.header(b"prefer") is not None or idempotency_key(exchange) is not None):
            raise InvalidRequest(
                "The stream of a model's own endpoint is not kept: leave out Prefer and Idempotency-Key, or it.",
                param="input.stream",
            )
        await respond(exchange, request)
        return
    body = _body(endpoint, given) | {"model": model}
    try:
        if endpoint == CHAT and ("template" in body or "template_variables" in body):
            await fill_template(exchange, body)
        check(body, BODIES[endpoint])
    except InvalidRequest as error:
        within = f"input.{error.param}" if error.param else "input"
        raise InvalidRequest(f"{error.message.replace(error.param or '', within, 1)}", param=within) from None
    request = request_of(exchange, caller, endpoint, body)
    await respond(exchange, request, dress=partial(_dressed, request))


router.wire("/infer", infer, body=InferBody, summary="Ask any model, whatever it does")


async def _endpoint(house: House, caller: Caller, model: str, given: dict[str, Any], task: Task | None) -> str:
    """What serves the input: the model's own endpoint, if it has one, else what is said, or shows, or is known."""
    try:
        places = await house.registry.candidates(model, caller)
    except (ModelNotFound, NoDeploymentAvailable):
        places = ()  # the gateway tells it
    if any(place.path for place in places):
        return INFER
    if task is not None:
        return ENDPOINTS[task]
    if "messages" in given:
        return CHAT
    if "input" in given:
        return EMBEDDINGS
    offers = (await house.registry.offers(caller)).get(model)
    able = set(merged(offers).capabilities) if offers else set()
    if not able or "chat" in able:
        return CHAT
    kinds = (("completions", COMPLETIONS), ("images", IMAGES), ("embeddings", EMBEDDINGS))
    return next((endpoint for kind, endpoint in kinds if kind in able), CHAT)


def _body(endpoint: str, given: dict[str, Any]) -> dict[str, Any]:
    """The body that the endpoint wants; a bare ``prompt`` is what a chat's user says, and what is embedded."""
    if "prompt" not in given:
        return given
    rest = {name: value for name, value in given.items() if name != "prompt"}
    if endpoint == CHAT and "messages" not in given:
        return {"messages": [{"role": "user", "content": given["prompt"]}], **rest}
    if endpoint == EMBEDDINGS and "input" not in given:
        return {"input": given["prompt"], **rest}
    return given


def _dressed(request: Request, answer: bytes) -> bytes:
    """The answer of a task's own route, as this one's ``output``."""
    return b'{"model":%b,"task":%b,"output":%b}' % (to_json(request.model), to_json(TASKS[request.endpoint]), answer)
