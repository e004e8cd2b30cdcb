"""The official Python client raises its own classes for what goes wrong, and they say what it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.e2e.server import KEY, Server, free_port
from tests.sdk.upstream import Upstream

pytestmark = pytest.mark.timeout(240)
ECHO = "simulated/echo"
HI: list[Any] = [{"role": "user", "content": "hi"}]


def ask(client: OpenAI, **fields: Any) -> Any:
    return client.chat.completions.create(**{"model": ECHO, "messages": HI, **fields})


def simulated(status: int) -> Callable[[OpenAI], Any]:
    return lambda client: ask(client, extra_body={"simulate": {"error": status}})


FAILURES: dict[str, tuple[Callable[[OpenAI], Any], type[openai.APIStatusError], int, str, str | None]] = {
    "unknown model": (
        lambda client: ask(client, model="nope"),
        openai.NotFoundError,
        404,
        "model_not_found",
        "model",
    ),
    "unknown model, described": (
        lambda client: client.models.retrieve("no/such/model"),
        openai.NotFoundError,
        404,
        "model_not_found",
        "model",
    ),
    "unknown route": (
        lambda client: client.responses.create(model=ECHO, input="hi"),
        openai.NotFoundError,
        404,
        "not_found",
        None,
    ),
    "wrong type": (
        lambda client: ask(client, temperature="hot"),
        openai.BadRequestError,
        400,
        "invalid_request",
        "temperature",
    ),
    "wrong field, streamed": (
        lambda client: ask(client, stream=True, messages=[{"role": "user", "content": 5}]),
        openai.BadRequestError,
        400,
        "invalid_request",
        "messages.0.content",
    ),
    "refused upstream": (lambda client: ask(client, model="refuses"), openai.BadRequestError, 400, "bad_n", "n"),
    "unprocessable upstream": (
        lambda client: ask(client, model="unprocessable"),
        openai.UnprocessableEntityError,
        422,
        "bad_n",
        "n",
    ),
    "broken upstream": (
        lambda client: ask(client, model="breaks"),
        openai.InternalServerError,
        502,
        "upstream_unavailable",
        None,
    ),
    "no stream upstream": (
        lambda client: ask(client, model="no-stream", stream=True),
        openai.InternalServerError,
        502,
        "upstream_protocol_error",
        None,
    ),
    "rate limit": (simulated(429), openai.RateLimitError, 429, "rate_limited", None),
    "conflict": (simulated(409), openai.ConflictError, 409, "upstream_error", None),
    "busy": (simulated(503), openai.InternalServerError, 503, "upstream_busy", None),
    "slow upstream": (simulated(504), openai.InternalServerError, 504, "upstream_timeout", None),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_has_its_class(failure: str, client: OpenAI) -> None:
    act, kind, status, code, param = FAILURES[failure]
    with pytest.raises(kind) as caught:
        act(client)
    error = caught.value
    assert type(error) is kind
    assert (error.status_code, error.code, error.param) == (status, code, param)
    assert str(error.request_id).startswith("req_")
    body: Any = error.response.json()
    assert body.keys() == {"error", "detail", "timestamp"}
    assert body["error"].keys() >= {"message", "type", "param", "code"}
    older = "Rate limit exceeded" if body["error"]["code"] == "rate_limited" else body["error"]["message"]
    assert body["detail"] == older, "what older clients look for"
    assert body["error"]["message"] in error.message


def test_a_limit_says_when_to_come_back(client: OpenAI) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        simulated(429)(client)
    assert caught.value.response.headers["retry-after"] == "1"
    assert caught.value.type == "rate_limit_error"


@pytest.mark.parametrize("key", ["wrong", "test-ke", "test-key2", "TEST-KEY"])
def test_a_wrong_key_is_an_authentication_error(key: str, gateway: Server) -> None:
    with OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0) as client:
        for act in (ask, lambda client: client.models.list()):
            with pytest.raises(openai.AuthenticationError) as caught:
                act(client)
            assert (caught.value.code, caught.value.status_code) == ("invalid_api_key", 401)


def test_a_key_opens_only_the_models_that_it_is_for(gateway: Server, limited_key: str) -> None:
    with OpenAI(base_url=f"{gateway.url}/v1", api_key=limited_key, max_retries=0) as client:
        assert ask(client).choices[0].message.content == "[simulated] hi"
        assert {model.id for model in client.models.list()} == {ECHO}
        with pytest.raises(openai.PermissionDeniedError) as caught:
            ask(client, model="good")
        assert (caught.value.code, caught.value.param) == ("insufficient_permissions", "model")
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("good")


BREAKS = {"cut": r"without \[DONE\]", "error-frame": "out of memory"}


@pytest.mark.parametrize("model", BREAKS)
def test_a_stream_that_breaks_raises_after_what_came(model: str, client: OpenAI, provider: Upstream) -> None:
    with ask(client, model=model, stream=True) as stream:
        assert next(stream).choices[0].delta.content == "Hel"
        provider.seen_by_caller.set()
        with pytest.raises(openai.APIError, match=BREAKS[model]):
            next(stream)


@pytest.mark.parametrize("model", BREAKS)
async def test_an_asynchronous_stream_that_breaks_raises(model: str, aclient: AsyncOpenAI, provider: Upstream) -> None:
    stream = await aclient.chat.completions.create(model=model, messages=HI, stream=True)
    assert (await anext(stream)).choices[0].delta.content == "Hel"
    provider.seen_by_caller.set()
    with pytest.raises(openai.APIError, match=BREAKS[model]):
        await anext(stream)
    await stream.close()


async def test_an_asynchronous_call_that_fails_raises(aclient: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        await aclient.chat.completions.create(model="nope", messages=HI)


def test_the_client_comes_back_to_a_busy_provider(gateway: Server, provider: Upstream) -> None:
    with OpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=2) as client:
        assert ask(client, model="busy-once").choices[0].message.content == "Hello"
    with provider.lock:
        assert sum(body["model"] == "busy-once" for body in provider.seen) == 2


def test_a_client_that_does_not_wait_raises_a_timeout(client: OpenAI) -> None:
    with pytest.raises(openai.APITimeoutError):
        ask(client, timeout=0.3, extra_body={"simulate": {"ttft": 30}})


def test_no_server_is_a_connection_error() -> None:
    with (
        OpenAI(base_url=f"http://127.0.0.1:{free_port()}/v1", api_key=KEY, max_retries=0) as client,
        pytest.raises(openai.APIConnectionError),
    ):
        ask(client)
