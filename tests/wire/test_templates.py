"""Requests that name a template: what the upstream sees of them, whole, streamed and as jobs; and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.wire import gateway as gateways
from tests.wire.gateway import MODEL, Gateway, eventually
from tests.wire.upstream import HELLO, Call, Upstream, answering, completion, streaming

URL = "/v1/chat/completions"


@pytest.fixture
async def filling(tmp_path: Path, upstream: Upstream) -> AsyncIterator[Gateway]:
    """A gateway with templates, and an upstream that is content."""
    folder = tmp_path / "prompts"
    folder.mkdir()
    (folder / "greet.j2").write_text("You greet {{ name }}.")
    (folder / "broken.j2").write_text("{% if %}")
    (tmp_path / "secret.txt").write_text("the crown jewels")
    upstream.script = answering(completion())
    sections = {"templates": {"directory": "prompts"}}
    async with gateways.serve(tmp_path, gateways.provider(upstream.url), sections=sections) as gateway:
        yield gateway


def ask(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "template": "greet", "template_variables": {"name": "Ada"}, **fields}


async def sent(gateway: Gateway, upstream: Upstream, **fields: Any) -> Any:
    """What the upstream gets of a request."""
    response = await gateway.client.post(URL, json=ask(**fields))
    assert response.status_code == 200, response.text
    return upstream.calls[-1].json


async def test_a_template_alone_is_what_the_user_says_and_its_fields_stay_here(
    filling: Gateway, upstream: Upstream
) -> None:
    body = await sent(filling, upstream)
    assert body == {"model": "engine-1", "messages": [{"role": "user", "content": "You greet Ada."}]}


async def test_a_template_before_messages_is_the_instruction_for_them(filling: Gateway, upstream: Upstream) -> None:
    turn = {"role": "user", "content": "Hi"}
    body = await sent(filling, upstream, messages=[turn])
    assert body["messages"] == [{"role": "system", "content": "You greet Ada."}, turn]


@pytest.mark.parametrize("role", ["system", "developer"])
async def test_instructions_are_one_message_with_those_of_the_request(
    filling: Gateway, upstream: Upstream, role: str
) -> None:
    turns = [{"role": role, "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    body = await sent(filling, upstream, messages=turns)
    assert body["messages"] == [{"role": role, "content": "You greet Ada.\n\nBe kind."}, turns[1]]


async def test_streams_are_filled_as_well(filling: Gateway, upstream: Upstream) -> None:
    upstream.script = streaming(*HELLO)
    response = await filling.client.post(URL, json=ask(stream=True))
    assert "[DONE]" in response.text
    assert upstream.calls[-1].json["messages"][0]["content"] == "You greet Ada."


async def test_a_job_is_kept_with_its_template_filled(filling: Gateway, upstream: Upstream) -> None:
    accepted = await filling.client.post(URL, json=ask(), headers={"prefer": "respond-async"})
    assert accepted.status_code == 202
    await eventually(lambda: bool(upstream.calls))
    assert upstream.calls[0].json["messages"] == [{"role": "user", "content": "You greet Ada."}]
    assert "template" not in upstream.calls[0].json


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a variable is missing": ({"template_variables": {}}, "template_variables"),
    "no variables": ({"template_variables": None}, "template_variables"),
    "variables in a list": ({"template_variables": ["Ada"]}, "template_variables"),
    "no such template": ({"template": "nobody"}, "template"),
    "out of the directory": ({"template": "../secret.txt"}, "template"),
    "from the root": ({"template": "/etc/passwd"}, "template"),
    "out of it and back": ({"template": "x/../../secret.txt"}, "template"),
    "hidden": ({"template": ".greet.j2"}, "template"),
    "no name": ({"template": ""}, "template"),
    "a number": ({"template": 5}, "template"),
    "a directory": ({"template": "x/"}, "template"),
    "variables without a template": ({"template": None}, "template"),
    "messages that are none": ({"messages": "Hi"}, "messages"),
}


@pytest.mark.parametrize(("fields", "param"), WRONG.values(), ids=WRONG.keys())
async def test_what_is_wrong_is_named(filling: Gateway, upstream: Upstream, fields: dict[str, Any], param: str) -> None:
    response = await filling.client.post(URL, json=ask(**fields))
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert "jewels" not in response.text
    assert not upstream.calls


async def test_a_template_that_is_broken_is_told_as_that_without_its_place(filling: Gateway) -> None:
    response = await filling.client.post(URL, json=ask(template="broken"))
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (500, "template_broken")
    assert "Traceback" not in response.text
    assert "/prompts" not in response.text


async def test_the_fields_mean_nothing_where_they_are_null(filling: Gateway, upstream: Upstream) -> None:
    turn = {"role": "user", "content": "Hi"}
    body = await sent(filling, upstream, template=None, template_variables=None, messages=[turn])
    assert body == {"model": "engine-1", "messages": [turn]}


async def test_a_gateway_without_templates_says_so(gateway: Gateway, upstream: Upstream) -> None:
    response = await gateway.client.post(URL, json=ask())
    assert response.status_code == 400
    assert "no templates" in response.json()["error"]["message"]
    assert not upstream.calls


async def test_what_a_template_says_is_reserved_as_a_prompt(tmp_path: Path, upstream: Upstream) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "long.j2").write_text("word " * 4000)
    go = asyncio.Event()

    async def wait(call: Call) -> None:
        await go.wait()
        call.answer(completion())

    upstream.script = wait
    limits = {"key": {"tokens_per_minute": 30_000}, "max_tokens": 100}
    sections: dict[str, Any] = {"templates": {}}
    body = {"model": MODEL, "template": "long"}
    async with gateways.serve(tmp_path, gateways.provider(upstream.url), limits=limits, sections=sections) as gateway:
        first = asyncio.ensure_future(gateway.client.post(URL, json=body))
        await upstream.call()
        second = await gateway.client.post(URL, json=body)
        go.set()
        assert (await first).status_code == 200
    assert second.status_code == 429, "two times 20,000 bytes may be more tokens than the key has in a minute"


async def test_infer_fills_a_template_as_the_chat_route_does(filling: Gateway, upstream: Upstream) -> None:
    given = {"template": "greet", "template_variables": {"name": "Ada"}}
    response = await filling.client.post("/infer", json={"model": MODEL, "task": "chat", "input": given})
    assert response.status_code == 200, response.text
    assert upstream.calls[-1].json == {"model": "engine-1", "messages": [{"role": "user", "content": "You greet Ada."}]}
    given["template"] = "nobody"
    wrong = await filling.client.post("/infer", json={"model": MODEL, "task": "chat", "input": given})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "input.template")
