"""What an upstream's bad answer means, and that nothing of its insides, or of ours, is passed on."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.json import to_json
from penstock.errors import (
    UpstreamBusy,
    UpstreamError,
    UpstreamLacks,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from penstock.outbound.retry_after import retry_after
from penstock.providers._faults import clean, fault, frame_fault
from penstock.providers._profiles import PROFILES
from penstock.schema.model import Deployment
from penstock.schema.secret import Secret

OPENAI, SGLANG = PROFILES["openai"], PROFILES["sglang"]
PLACE = Deployment("first/m", "m", "first", "openai", "up", "http://x/v1", Secret("hunter2-credential"))

# Messages


PATHS = [
    "/srv/models/tiny",
    "/opt/.cache/huggingface/hub",
    "/usr/lib/python3.11/site-packages/vllm/engine.py",
    "/project/cpp/json_schema_converter.cc",
    r"C:\Users\ann\models\tiny",
]
AROUND = ["at {}", "'{}' is missing", "`{}`", "[{}]", "({})", "<{}>", "path={}", "file:{}", "a,{}", '"{}"', "~{}", "{}"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("around", AROUND)
def test_a_path_is_not_passed_on(path: str, around: str) -> None:
    message = clean(around.format(path))
    for part in ("srv", "models", "huggingface", "site-packages", "cpp", "Users", "tiny"):
        assert part not in message


def test_an_account_of_aws_is_not_passed_on() -> None:
    said = "Invocation of arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc isn't allowed."
    assert clean(said) == "Invocation of [path] isn't allowed."


@pytest.mark.parametrize(
    "message",
    [
        "temperature must be a non-negative finite number, got -3.0.",
        "The model `org/model-7b` does not exist",
        "either and/or both, 1/2 or 3/4, on 12/24/2026",
        "expected text/event-stream, see https://example.com/docs/errors",
        "unexpected '/' in input",
        "",
    ],
)
def test_a_message_without_a_path_stays_as_it_is(message: str) -> None:
    assert clean(message) == (message or "internal error")


KEYS = [
    "sk-proj-abcdefghijklmnop",
    "sk_live_abcdefghijkl",
    "xai-0123456789abcdef",
    "gsk_0123456789abcdef",
    "hf_AbCdEfGhIjKl",
    "psk-abcdefghijklmnop",
    "AKIAIOSFODNN7EXAMPLE",
    "ASIAIOSFODNN7EXAMPLE",
    "Bearer eyJhbGciOi.whatever",
    "sk-****wxyz",
]


@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_not_passed_on(key: str) -> None:
    assert clean(f"Incorrect API key provided: {key}.").startswith("Incorrect API key provided: [key]")
    assert key.removeprefix("Bearer ") not in clean(f"({key})")


def test_our_credential_is_not_passed_on_whatever_it_looks_like() -> None:
    assert clean("no quota for hunter2-credential!", Secret("hunter2-credential")) == "no quota for [key]!"


@pytest.mark.parametrize(
    "trace",
    ['\n  File "/x/y.py", line 3, in z\n    boom()', "\nTraceback (most recent call last):\n  File ...\nKeyError: 'x'"],
)
def test_a_traceback_is_not_passed_on(trace: str) -> None:
    assert clean(f"1 validation error:\n  temperature{trace}") == "1 validation error:\n  temperature"


LONG = ["x", "\n", "\n ", " ", "/", "/a", "/a/b ", "sk-", "Bearer ", "a.py", "C:\\", "context ", '"', "\n  File"]


@pytest.mark.parametrize("part", LONG, ids=repr)
@pytest.mark.parametrize("size", [7_000, 30_000_000])
def test_a_long_message_is_cut_in_no_time(part: str, size: int) -> None:
    began = time.process_time()
    assert len(clean(part * (size // len(part)))) <= 1001
    assert time.process_time() - began < 0.5


@given(st.text(max_size=300))
def test_any_message_can_be_cleaned_and_is_clean_then(message: str) -> None:
    once = clean(message)
    assert clean(once) == once or len(once) > 1000


# Statuses


STATUSES: dict[int, type[UpstreamError]] = {
    400: UpstreamRefused,
    402: UpstreamUnavailable,
    404: UpstreamLacks,
    405: UpstreamLacks,
    407: UpstreamUnavailable,
    410: UpstreamUnavailable,
    408: UpstreamTimeout,
    409: UpstreamRefused,
    413: UpstreamRefused,
    422: UpstreamRefused,
    424: UpstreamUnavailable,
    429: UpstreamBusy,
    529: UpstreamBusy,
    500: UpstreamUnavailable,
    503: UpstreamUnavailable,
    504: UpstreamTimeout,
    302: UpstreamUnavailable,
    206: UpstreamUnavailable,
}


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", b'{"error": {"message": "x"}}', b'{"detail": "x"}'])
def test_a_status_says_what_kind_of_failure_it_is(status: int, body: bytes) -> None:
    error = fault(status, {}, body, PLACE, OPENAI)
    assert type(error) is STATUSES[status]
    assert error.provider == "first"
    assert error.message
    if isinstance(error, UpstreamRefused):
        assert error.status == status


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_credential_is_our_fault_and_not_the_callers(status: int) -> None:
    body = to_json({"error": {"message": "Incorrect API key provided: hunter2-credential"}})
    error = fault(status, {}, body, PLACE, OPENAI)
    assert type(error) is UpstreamUnavailable
    assert error.message == "first does not accept our credential"


@pytest.mark.parametrize("named", ["type", "code"])
def test_a_spent_quota_is_no_queue(named: str) -> None:
    body = to_json({"error": {"message": "You exceeded your current quota.", named: "insufficient_quota"}})
    error = fault(429, {"retry-after": "1"}, body, PLACE, OPENAI)
    assert type(error) is UpstreamUnavailable
    assert error.message == "first has no credit left for our key"


def test_a_503_that_says_when_to_come_again_is_busy() -> None:
    error = fault(503, {"retry-after": "7"}, b"", PLACE, OPENAI)
    assert type(error) is UpstreamBusy
    assert error.retry_after == 7


@pytest.mark.parametrize(
    ("status", "message"),
    [(402, "Payment required"), (402, "Insufficient Balance"), (400, "Your credit balance is too low to access it.")],
)
def test_an_empty_purse_is_our_fault_and_not_the_callers(status: int, message: str) -> None:
    error = fault(status, {}, to_json({"error": {"message": message}}), PLACE, OPENAI)
    assert type(error) is UpstreamUnavailable
    assert error.message == "first has no credit left for our key"


def test_a_full_queue_of_sglang_is_busy() -> None:
    assert type(fault(503, {}, b"", PLACE, SGLANG)) is UpstreamBusy


FORMS: dict[str, Any] = {
    "nested": {"error": {"message": "No.", "type": "t", "param": "seed", "code": "bad"}},
    "flat": {"object": "error", "message": "No.", "type": "t", "param": "seed", "code": "bad"},
    "a string": {"error": "No.", "param": "seed", "code": "bad"},
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_an_error_is_read(form: str) -> None:
    error = fault(400, {}, to_json(FORMS[form]), PLACE, OPENAI)
    assert isinstance(error, UpstreamRefused)
    assert (error.message, error.param, error.upstream_code) == ("No.", "seed", "bad")


def test_a_number_for_a_code_is_none() -> None:
    error = fault(400, {}, to_json({"message": "No.", "code": 400}), PLACE, OPENAI)
    assert isinstance(error, UpstreamRefused)
    assert error.upstream_code == "invalid_request"


@pytest.mark.parametrize(
    "message",
    [
        "The input (9013 tokens) is longer than the model's context length (1024 tokens).",
        "This model's maximum context length is 8192 tokens. However, you requested 9000",
        "Requested token count exceeds the model's maximum context length of 1024 tokens.",
        "the request exceeds the available context window",
        "prompt is too long: 209000 tokens > 200000 maximum",
        "input length and `max_tokens` exceed context limit: 190000 + 32000 > 200000",
    ],
)
def test_an_overflow_has_openais_code(message: str) -> None:
    error = fault(400, {}, to_json({"message": message}), PLACE, OPENAI)
    assert isinstance(error, UpstreamRefused)
    assert (error.upstream_code, error.param) == ("context_length_exceeded", "messages")


# Frames


@pytest.mark.parametrize("document", [None, [], 7, "error", {}, {"error": None}, {"choices": []}, {"object": "chat"}])
def test_what_holds_no_error_is_none(document: Any) -> None:
    assert frame_fault(document, PLACE, OPENAI) is None


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 400}, UpstreamRefused),
        ({"status_code": 429, "code": "rate_limit_exceeded"}, UpstreamBusy),
        ({"code": "rate_limit_exceeded"}, UpstreamBusy),
        ({"type": "overloaded_error"}, UpstreamBusy),
        ({"type": "invalid_request_error", "code": "unknown"}, UpstreamRefused),
        ({"type": "insufficient_quota"}, UpstreamUnavailable),
        ({"code": "weird"}, UpstreamUnavailable),
        ({"code": 200}, UpstreamUnavailable),
        ({}, UpstreamUnavailable),
        ("Unauthorized", UpstreamUnavailable),
        ([], UpstreamUnavailable),
        (True, UpstreamUnavailable),
    ],
    ids=repr,
)
def test_the_code_of_a_frame_is_its_status(error: Any, kind: type[UpstreamError]) -> None:
    assert type(frame_fault({"error": error}, PLACE, OPENAI)) is kind


# Retry-After


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("1e400", 86400.0),
        ("nan", None),
        ("soon", None),
        ("", None),
        (None, None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
    ],
)
def test_retry_after_is_read(value: str | None, seconds: float | None) -> None:
    assert retry_after({} if value is None else {"retry-after": value}) == seconds


def test_retry_after_may_be_a_date() -> None:
    seconds = retry_after({"retry-after": format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)})
    assert seconds is not None
    assert 80 < seconds <= 90


@pytest.mark.parametrize(("value", "seconds"), [("250", 0.25), ("soon", 7.0), ("", 7.0), ("-1", 0.0)])
def test_milliseconds_are_finer(value: str, seconds: float) -> None:
    assert retry_after({"retry-after-ms": value, "retry-after": "7"}) == seconds


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_retry_after_can_be_read(value: str, finer: str) -> None:
    seconds = retry_after({"retry-after": value, "retry-after-ms": finer})
    assert seconds is None or 0 <= seconds <= 86400
