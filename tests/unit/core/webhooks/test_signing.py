"""Signatures are those of the Standard Webhooks specification: its own examples, and its official package, say so."""

from __future__ import annotations

from base64 import b64decode
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook as Standard

from penstock.core.webhooks.signing import new_secret, signature, signed_headers
from penstock.schema.secret import Secret
from penstock.schema.webhook import Webhook

EXAMPLE = Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
EXAMPLE_ID, EXAMPLE_AT, EXAMPLE_BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'


def test_the_example_of_the_specification_s_libraries_is_signed_as_they_sign_it() -> None:
    signed = signature(EXAMPLE, EXAMPLE_ID, EXAMPLE_AT, EXAMPLE_BODY)
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(body=st.text().map(lambda text: text.encode("utf-8", "replace")), at=st.integers(0, 4_000_000_000))
def test_any_message_is_signed_as_the_official_package_signs_it(body: bytes, at: int) -> None:
    secret = new_secret()
    theirs = Standard(secret.reveal()).sign("msg_1", datetime.fromtimestamp(at, UTC), body.decode())
    assert signature(secret, "msg_1", at, body) == theirs


def test_a_secret_is_random_and_as_long_as_the_specification_wants() -> None:
    one, other = new_secret(), new_secret()
    assert one != other
    assert one.reveal().startswith("whsec_")
    assert 24 <= len(b64decode(one.reveal().removeprefix("whsec_"))) <= 64


@pytest.mark.parametrize(("now", "signatures"), [(99.9, 2), (100.0, 1), (1e9, 1)])
def test_the_secret_before_signs_as_well_until_its_grace_is_over(now: float, signatures: int) -> None:
    webhook = Webhook("wh_1", "https://example.com", new_secret(), previous=new_secret(), previous_until=100.0)
    headers = dict(signed_headers(webhook, "msg_1", now, b"{}"))
    assert headers["webhook-timestamp"] == str(int(now))
    assert headers["webhook-id"] == "msg_1"
    assert headers["webhook-signature"].split(" ") == [
        signature(secret, "msg_1", int(now), b"{}") for secret in (webhook.secret, webhook.previous)[:signatures]
    ]
