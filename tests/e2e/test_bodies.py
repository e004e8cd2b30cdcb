"""Whatever a body holds, the answer is a 4xx that names the field at fault, or the body goes through as it is."""

from __future__ import annotations

import gzip
import json
from typing import Any

import httpx
import pytest

from tests.e2e.server import chat

pytestmark = pytest.mark.timeout(240)
CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
GOOD: dict[str, dict[str, Any]] = {
    CHAT: chat(),
    COMPLETIONS: {"model": "echo", "prompt": "hello"},
    EMBEDDINGS: {"model": "echo", "input": "hello"},
}
ROUTES = tuple(GOOD)
NAME = "must be 1 to 200 of the characters A-Z a-z 0-9 . _ : / @ + -, beginning with a letter or digit"


def refusal(answer: httpx.Response, status: int = 400) -> tuple[str, str | None]:
    """The message and the param of an error in our wire form."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"].startswith("req_")
    body = answer.json()
    assert body.keys() == {"error", "detail", "timestamp"}
    error = body["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert body["detail"] == error["message"]
    return error["message"], error["param"]


def post(client: httpx.Client, route: str, content: bytes, **headers: str) -> httpx.Response:
    return client.post(route, content=content, headers={"content-type": "application/json", **headers})


@pytest.mark.parametrize("route", ROUTES)
def test_a_good_body_is_answered(route: str, client: httpx.Client) -> None:
    assert client.post(route, json=GOOD[route]).status_code == 200


NO_JSON = {
    "{": "EOF while parsing an object",
    "}": "expected value",
    "[": "EOF while parsing a list",
    "{]": "key must be a string",
    '{"model"': "EOF while parsing an object",
    '{"model":': "EOF while parsing a value",
    '{"model":}': "expected value",
    '{"model" "echo"}': "expected `:`",
    '{"model":"echo"': "EOF while parsing an object",
    '{"model":"echo}': "EOF while parsing a string",
    '{"model":"echo",}': "trailing comma",
    '{"model":"echo" "n":1}': "expected `,` or `}`",
    '{"model":"echo"}}': "trailing characters",
    '{"model":"echo"}{"model":"echo"}': "trailing characters",
    "{'model':'echo'}": "key must be a string",
    '{model:"echo"}': "key must be a string",
    '{5:"echo"}': "key must be a string",
    '{"model":echo}': "expected value",
    '{"model":"echo"} // mine': "trailing characters",
    '/* mine */ {"model":"echo"}': "expected value",
    '{"n":NaN}': "expected value",
    '{"n":Infinity}': "expected value",
    '{"n":-Infinity}': "invalid number",
    '{"n":+1}': "expected value",
    '{"n":01}': "invalid number",
    '{"n":.5}': "expected value",
    '{"n":1.}': "EOF while parsing|invalid number",
    '{"n":1e}': "invalid number",
    '{"n":0x10}': "expected `,` or `}`",
    '{"n":1_000}': "expected `,` or `}`",
    '{"n":True}': "expected value",
    '{"n":None}': "expected value",
    '{"n":undefined}': "expected value",
    "model=echo&n=1": "expected value",
    "<xml/>": "expected value",
    "hello": "expected value",
}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("text", NO_JSON)
def test_what_is_no_json_is_refused(text: str, route: str, client: httpx.Client) -> None:
    message, _ = refusal(post(client, route, text.encode()))
    assert message.startswith("The body is not valid JSON: ")
    assert any(reason in message for reason in NO_JSON[text].split("|")), message


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("text", ["[]", "[{}]", "null", "true", "5", "-0.5", '"model"', " [] "])
def test_what_is_json_but_no_object_is_refused(text: str, route: str, client: httpx.Client) -> None:
    assert refusal(post(client, route, text.encode())) == ("The body must be a JSON object.", None)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("content", [b"", b"  \r\n\t "])
def test_an_empty_body_is_refused(content: bytes, route: str, client: httpx.Client) -> None:
    assert refusal(post(client, route, content)) == ("The body is empty: send a JSON object.", None)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be", "utf-8-sig"])
def test_other_encodings_are_refused_by_name(encoding: str, route: str, client: httpx.Client) -> None:
    content = json.dumps(GOOD[route]).encode(encoding)
    assert refusal(post(client, route, content)) == ("The body must be UTF-8 without a byte order mark.", None)


@pytest.mark.parametrize("route", ROUTES)
def test_a_compressed_body_is_refused_by_name(route: str, client: httpx.Client) -> None:
    content = gzip.compress(json.dumps(GOOD[route]).encode())
    for answer in (post(client, route, content), post(client, route, content, content_encoding="gzip")):
        assert refusal(answer) == ("The body is compressed: send it as plain JSON.", "Content-Encoding")


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "*/*"])
def test_a_body_that_says_it_is_something_else_is_refused(kind: str, route: str, client: httpx.Client) -> None:
    answer = client.post(route, content=json.dumps(GOOD[route]).encode(), headers={"content-type": kind})
    message = f"The body must be JSON, but its Content-Type is {kind!r}: send 'Content-Type: application/json'."
    assert refusal(answer) == (message, "Content-Type")


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8", "application/problem+json"])
def test_every_way_to_say_json_is_good(kind: str, client: httpx.Client) -> None:
    answer = client.post(CHAT, content=json.dumps(chat()).encode(), headers={"content-type": kind})
    assert answer.status_code == 200


TEXTS = {CHAT: "messages.0.content", COMPLETIONS: "prompt", EMBEDDINGS: "input"}


def holding(route: str, text: bytes) -> bytes:
    """A good body in which the text stands as it is between quotes."""
    good = json.dumps({**GOOD[route], "input": "@"} if route == EMBEDDINGS else GOOD[route])
    return good.replace("hello", "@").encode().replace(b"@", text)


BAD_TEXTS = {
    b"\\ud800": "holds half of a surrogate pair",
    b"a\\udfffb": "holds half of a surrogate pair",
    b"\\ud83dx": "holds half of a surrogate pair",
    b"\\u12": "holds an escape that JSON does not have",
    b"\\x41": "holds an escape that JSON does not have",
    b"\xed\xa0\x80": "holds bytes that are not UTF-8",
    b"\xff": "holds bytes that are not UTF-8",
    b"caf\xe9": "holds bytes that are not UTF-8",
    b"\xc0\x80": "holds bytes that are not UTF-8",
    b"\x00": "holds a control character",
    b"a\nb": "holds a control character",
    b"\x1b[31m": "holds a control character",
    b"\\u0000": "holds a control character",
    b"\\u001b[31m": "holds a control character",
    b"\\u0007": "holds a control character",
}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("text", BAD_TEXTS)
def test_a_text_that_is_none_is_refused_where_it_stands(text: bytes, route: str, client: httpx.Client) -> None:
    field = TEXTS[route]
    assert refusal(post(client, route, holding(route, text))) == (f"{field}: {BAD_TEXTS[text]}.", field)


@pytest.mark.parametrize(
    "text", [b"\\n\\t\\r\\b\\f", b"\\ud83d\\ude00", b"\x7f", b'\\/\\\\ \\"', "\u2028 é \U0001f600".encode()]
)
def test_every_other_text_is_taken(text: bytes, client: httpx.Client) -> None:
    answer = post(client, CHAT, holding(CHAT, b"x" + text))
    assert answer.json()["choices"][0]["message"]["content"] == "[simulated] " + json.loads(b'"x' + text + b'"')


@pytest.mark.parametrize("route", ROUTES)
def test_what_is_nested_without_end_is_refused(route: str, client: httpx.Client) -> None:
    deep = "is nested deeper than 200 levels."
    assert refusal(post(client, route, b"[" * 100_000))[0].endswith(deep)
    assert refusal(post(client, route, b'{"a":' * 100_000))[0] == f"a.a.a.a.a.a.a.a....: {deep}"
    message, param = refusal(post(client, route, b'{"model":"echo","user":' + b"[" * 5000 + b"]" * 5000 + b"}"))
    assert (message, param) == (f"user.0.0.0.0.0.0.0....: {deep}", "user.0.0.0.0.0.0.0....")


@pytest.mark.parametrize("route", ROUTES)
def test_numbers_that_nobody_can_hold_are_refused(route: str, client: httpx.Client) -> None:
    good = json.dumps(GOOD[route])[:-1].encode()
    for number in (b"9" * 5000, b"-" + b"9" * 5000, b"9" * 5000 + b".5"):
        assert refusal(post(client, route, good + b',"extra":[' + number + b"]}")) == (
            "extra.0: is a number too large.",
            "extra.0",
        )
    for number in (b"1e999", b"-1e999"):
        assert refusal(post(client, route, good + b',"extra":{"a":[1,' + number + b"]}}"))[1] == "extra.a.1"


@pytest.mark.parametrize("route", ROUTES)
def test_of_a_key_that_is_given_twice_the_last_one_counts(route: str, client: httpx.Client) -> None:
    good = json.dumps(GOOD[route])
    assert post(client, route, good.replace("{", '{"model":5,', 1).encode()).status_code == 200
    assert refusal(post(client, route, good[:-1].encode() + b',"model":5}')) == ("model: must be a string.", "model")


FIELDS: dict[str, dict[str, dict[str, Any]]] = {
    CHAT: {
        "must be a list": {"messages": [{}, "hi", 5, True]},
        "must not be empty": {"messages": [[]]},
        "must be a string": {"user": [5, [], {}], "model": [5, None, [], {}, True]},
        NAME: {"model": ["", " ", "a b", "../x", "-x", "x" * 201, "é", "a\tb", "a?b"]},
        "must be a number": {"temperature": ["1", [], {}, True], "top_p": ["1"], "presence_penalty": ["x"]},
        "must be a whole number": {
            "n": [1.5, "1", True],
            "max_tokens": ["9", 0.1],
            "seed": [1.5],
            "top_logprobs": ["1"],
        },
        "must be true or false": {
            "stream": ["true", 1, 0, [], {}],
            "logprobs": [1, "yes"],
            "parallel_tool_calls": ["no"],
        },
        "must be at least 1": {"n": [0, -1], "max_tokens": [0, -5], "max_completion_tokens": [0]},
        "must be at most 128": {"n": [129, 10**30]},
        "must be at least 0": {"temperature": [-0.1], "top_p": [-1], "top_logprobs": [-1]},
        "must be at most 2": {"temperature": [2.1, 1e300], "presence_penalty": [3], "frequency_penalty": [2.5]},
        "must be at most 1": {"top_p": [1.01]},
        "must be at least -2": {"presence_penalty": [-2.1], "frequency_penalty": [-3]},
        "must be at most 20": {"top_logprobs": [21]},
        "must be a string or a list": {"stop": [5, True, {}]},
        "must be a string or an object": {"tool_choice": [5, []]},
        "must be an object": {"response_format": ["json", [], 5], "stream_options": [[], "x"], "logit_bias": [[], 5]},
        "needs 'json_schema'": {"response_format": [{"type": "json_schema"}]},
    },
    COMPLETIONS: {
        "is required": {"prompt": [...], "model": [...]},
        "must be a string or a list": {"prompt": [5, None, {}, True]},
        "must not be empty": {"prompt": [[]]},
        "must be a string": {"suffix": [5]},
        "must be a whole number": {"logprobs": [True, "1"]},
        "must be at least 1": {"best_of": [0], "n": [0]},
        "must be at least 0": {"max_tokens": [-1], "logprobs": [-1]},
        "must be at most 20": {"logprobs": [21]},
        "must be true or false": {"echo": ["yes"], "stream": [1]},
    },
    EMBEDDINGS: {
        "is required": {"input": [...], "model": [...]},
        "must be a string or a list": {"input": [5, None, {}, False]},
        "must not be empty": {"input": [[]]},
        "must be 'float' or 'base64'": {"encoding_format": ["hex", 5, []]},
        "must be at least 1": {"dimensions": [0, -1]},
        "must be a whole number": {"dimensions": [1.5, "64"]},
        "must be a string": {"user": [5], "model": [5, []]},
    },
}
WRONG = [
    (route, field, value, reason)
    for route, reasons in FIELDS.items()
    for reason, fields in reasons.items()
    for field, values in fields.items()
    for value in values
]


@pytest.mark.parametrize(("route", "field", "value", "reason"), WRONG)
def test_a_field_of_the_wrong_kind_is_named(
    route: str, field: str, value: Any, reason: str, client: httpx.Client
) -> None:
    body = {**GOOD[route], field: value}
    if value is ...:
        del body[field]
    assert refusal(client.post(route, json=body)) == (f"{field}: {reason}.", field)


INSIDE: list[tuple[str, str, Any, str, str]] = [
    (CHAT, "messages", ["hi"], "messages.0", "must be an object"),
    (CHAT, "messages", [{}], "messages.0.role", "is required"),
    (CHAT, "messages", [{"role": "user"}], "messages.0", "needs 'content'"),
    (CHAT, "messages", [{"role": 5, "content": "x"}], "messages.0.role", "must be a string"),
    (CHAT, "messages", [{"role": "", "content": "x"}], "messages.0.role", "must not be empty"),
    (CHAT, "messages", [{"role": "x" * 65, "content": "x"}], "messages.0.role", "must have at most 64 characters"),
    (CHAT, "messages", [{"role": "user", "content": 5}], "messages.0.content", "must be a string or a list"),
    (CHAT, "messages", [{"role": "user", "content": {}}], "messages.0.content", "must be a string or a list"),
    (CHAT, "messages", [{"role": "user", "content": [1]}], "messages.0.content.0", "must be an object"),
    (
        CHAT,
        "messages",
        [{"role": "tool", "content": "x", "tool_call_id": 5}],
        "messages.0.tool_call_id",
        "must be a string",
    ),
    (CHAT, "messages", [{"role": "assistant", "tool_calls": {}}], "messages.0.tool_calls", "must be a list"),
    (CHAT, "stop", ["a", 5], "stop.1", "must be a string"),
    (CHAT, "tools", {}, "tools", "must be a list"),
    (CHAT, "tools", [5], "tools.0", "must be an object"),
    (CHAT, "tools", [{}], "tools.0", "needs 'function'"),
    (CHAT, "tools", [{"type": 5}], "tools.0.type", "must be a string"),
    (CHAT, "tools", [{"function": 5}], "tools.0.function", "must be an object"),
    (CHAT, "tools", [{"function": {}}], "tools.0.function.name", "is required"),
    (CHAT, "tools", [{"function": {"name": 5}}], "tools.0.function.name", "must be a string"),
    (CHAT, "tools", [{"function": {"name": "f", "parameters": 5}}], "tools.0.function.parameters", "must be an object"),
    (CHAT, "tool_choice", {}, "tool_choice.type", "is required"),
    (CHAT, "tool_choice", {"type": "function", "function": 5}, "tool_choice.function", "must be an object"),
    (CHAT, "tool_choice", {"type": "function", "function": {}}, "tool_choice.function.name", "is required"),
    (CHAT, "response_format", {}, "response_format.type", "is required"),
    (
        CHAT,
        "response_format",
        {"type": "json_schema", "json_schema": {"schema": 5}},
        "response_format.json_schema.schema",
        "must be an object",
    ),
    (CHAT, "stream_options", {"include_usage": 1}, "stream_options.include_usage", "must be true or false"),
    (CHAT, "logit_bias", {"5": "x"}, "logit_bias.5", "must be a number"),
    (CHAT, "logit_bias", {"str": 101}, "logit_bias.str", "must be at most 100"),
    (COMPLETIONS, "prompt", [[]], "prompt.0", "must not be empty"),
    (COMPLETIONS, "prompt", [-1], "prompt.0", "must be at least 0"),
    (COMPLETIONS, "prompt", [1.5], "prompt.0", "must be a string or a whole number or a list"),
    (COMPLETIONS, "prompt", ["a", 1], "prompt.1", "must be a string or a list"),
    (COMPLETIONS, "prompt", [[1, "a"]], "prompt.0.1", "must be a whole number"),
    (EMBEDDINGS, "input", [[1], []], "input.1", "must not be empty"),
    (EMBEDDINGS, "input", [None], "input.0", "must be a string or a whole number or a list"),
]


@pytest.mark.parametrize("mistake", INSIDE, ids=lambda mistake: f"{mistake[3]} {mistake[4]}")
def test_a_mistake_deep_inside_is_found(mistake: tuple[str, str, Any, str, str], client: httpx.Client) -> None:
    route, field, value, place, reason = mistake
    assert refusal(client.post(route, json={**GOOD[route], field: value})) == (f"{place}: {reason}.", place)


def test_what_is_missing_is_told_before_what_is_wrong(client: httpx.Client) -> None:
    assert refusal(client.post(CHAT, json={"messages": [{"role": 5}]})) == ("model: is required.", "model")
    assert refusal(client.post(CHAT, json={"model": "echo"})) == ("messages: is required.", "messages")


def test_a_field_that_is_null_is_as_good_as_absent(client: httpx.Client) -> None:
    body = chat(stream=None, n=None, tools=None, stop=None, temperature=None, response_format=None, logit_bias=None)
    assert client.post(CHAT, json=body).status_code == 200
