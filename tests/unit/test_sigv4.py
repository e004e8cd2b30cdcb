"""Whatever is signed is signed as botocore signs it."""

from __future__ import annotations

import string
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.aws import Key, signature
from tests.wire.amazon import ID, SECRET, TOKEN

AT = datetime(2026, 11, 21, 20, 30, 5, tzinfo=UTC)
ARN = "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/abc123"

models = st.text(string.ascii_letters + string.digits + ".:-_~/ +@é", min_size=1, max_size=40).filter(
    lambda name: name.strip(".") and "/" not in quote(name, safe="")
)
words = st.text(string.ascii_letters + string.digits + "%-_.~", min_size=1, max_size=8)
queries = st.lists(st.tuples(words, words), max_size=4).map(lambda pairs: "&".join(f"{n}={v}" for n, v in pairs))
keys = st.builds(Key, words, st.text(string.printable, min_size=1, max_size=40), st.none() | words)


requests = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["GET", "POST"]),
        "host": st.sampled_from(["bedrock-runtime.us-east-1.amazonaws.com", "127.0.0.1:8123", "Proxy.Example:8443"]),
        "path": models.map(lambda name: f"/model/{quote(name, safe='')}/converse-stream") | st.sampled_from(["/", ""]),
        "query": queries,
        "extra": st.dictionaries(st.sampled_from(["content-type", "x-team"]), st.text("ab  c", min_size=1, max_size=9)),
        "body": st.binary(max_size=60),
    }
)
TRICKY = {"method": "POST", "host": "h:1", "path": f"/model/{quote(ARN, safe='')}/converse", "query": ""}


@given(requests, keys, st.sampled_from(["us-east-1", "eu-central-2"]))
@example({**TRICKY, "extra": {}, "body": b"{}"}, Key("a", "b"), "us-east-1")
def test_botocore_signs_the_same(asked: dict[str, Any], key: Key, region: str) -> None:
    method, extra, body = asked["method"], asked["extra"], asked["body"]
    url = f"https://{asked['host']}{asked['path']}" + (f"?{asked['query']}" if asked["query"] else "")
    signed = dict(signature(method, url, extra, body, key=key, region=region, service="bedrock", at=AT))

    headers = {**extra, "host": urlsplit(url).netloc.lower()}
    headers |= {name: value for name, value in signed.items() if name != "authorization"}
    request = AWSRequest(method, url, headers, body)
    request.context["timestamp"] = "20261121T203005Z"
    theirs = SigV4Auth(Credentials(key.id, key.secret, key.token), "bedrock", region)
    told = theirs.signature(theirs.string_to_sign(request, theirs.canonical_request(request)), request)
    theirs._inject_signature_to_request(request, told)
    assert signed["authorization"] == request.headers["Authorization"]
    assert signed.get("x-amz-security-token") == key.token


def test_a_secret_is_in_no_header() -> None:
    key = Key(ID, SECRET, TOKEN)
    signed = signature("POST", "https://h/", {}, b"{}", key=key, region="us-east-1", service="bedrock", at=AT)
    assert SECRET not in str(signed)
    assert SECRET not in repr(key)
    assert TOKEN not in repr(key)
