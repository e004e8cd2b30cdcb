"""Who the process is to AWS: found where the usual chain looks, refreshed in time, asked for once at a time."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import botocore.session
import pytest
from botocore.parsers import create_parser

from penstock.aws import Identity
from penstock.errors import UpstreamUnavailable

VARIABLES = (
    *("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE", "REGION", "DEFAULT_REGION"),
    *("CONTAINER_CREDENTIALS_FULL_URI", "CONTAINER_AUTHORIZATION_TOKEN_FILE", "ROLE_ARN", "WEB_IDENTITY_TOKEN_FILE"),
)


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine that is nobody to AWS."""
    for name in VARIABLES:
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))


GRANTED = """<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleWithWebIdentityResult>
    <SubjectFromWebIdentityToken>system:serviceaccount:default:penstock</SubjectFromWebIdentityToken>
    <AssumedRoleUser><Arn>arn:aws:sts::1:assumed-role/r/s</Arn><AssumedRoleId>A:s</AssumedRoleId></AssumedRoleUser>
    <Credentials>
      <AccessKeyId>ASIAWEB</AccessKeyId><SecretAccessKey>s+/=</SecretAccessKey>
      <SessionToken>t+/=</SessionToken><Expiration>UNTIL</Expiration>
    </Credentials>
  </AssumeRoleWithWebIdentityResult>
</AssumeRoleWithWebIdentityResponse>"""


@dataclass
class Metadata:
    """A client whose other end hands out keys, each good for some minutes."""

    minutes: float = 60.0
    asked: list[str] = field(default_factory=list)
    wait: Callable[[], Awaitable[object]] | None = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    async def request(self, method: str, url: str, *, headers: Any, body: bytes, **_: Any) -> Metadata:
        self.asked.append(f"{method} {url}")
        self.headers, self.body = dict(headers), body
        if self.wait:
            await self.wait()
        return self

    async def read(self) -> bytes:
        if self.asked[-1].endswith("/api/token/"):
            return b"token"
        if self.asked[-1].endswith("/security-credentials/"):
            return b"role"
        until = datetime.now(UTC) + timedelta(minutes=self.minutes)
        if self.asked[-1].startswith("POST"):
            return GRANTED.replace("UNTIL", until.strftime("%Y-%m-%dT%H:%M:%SZ")).encode()
        key = {"AccessKeyId": f"ASIA{len(self.asked)}", "SecretAccessKey": "s", "Token": "t"}
        return json.dumps({**key, "Expiration": until.strftime("%Y-%m-%dT%H:%M:%SZ")}).encode()


def identity(client: Metadata) -> Identity:
    return Identity(client)  # type: ignore[arg-type]


@pytest.fixture
def container(monkeypatch: pytest.MonkeyPatch) -> Metadata:
    """A container with an address for its keys."""
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials")
    return Metadata()


async def test_the_environment_goes_first(monkeypatch: pytest.MonkeyPatch, container: Metadata) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    key = await identity(container).key()
    assert (key.id, key.secret, key.token) == ("AKIA1", "secret", "token")
    assert not container.asked


async def test_a_profile_of_the_credentials_file_is_next(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, container: Metadata
) -> None:
    (tmp_path / ".aws").mkdir()
    lines = "[default]\naws_access_key_id = A\naws_secret_access_key = a\n"
    lines += "[work]\naws_access_key_id = B\naws_secret_access_key = b\naws_session_token = t\n"
    (tmp_path / ".aws" / "credentials").write_text(lines, encoding="utf-8")
    assert (await identity(container).key()).id == "A"
    monkeypatch.setenv("AWS_PROFILE", "work")
    key = await identity(container).key()
    assert (key.id, key.secret, key.token) == ("B", "b", "t")


async def test_a_container_is_asked_once_while_its_key_is_good(container: Metadata) -> None:
    who = identity(container)
    assert [(await who.key()).id for _ in range(3)] == ["ASIA1"] * 3
    assert container.asked == ["GET http://169.254.170.23/v1/credentials"]


async def test_a_machine_tells_by_its_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
    client = Metadata()
    assert (await identity(client).key()).token == "t"
    base = "http://169.254.169.254/latest"
    roles = f"{base}/meta-data/iam/security-credentials/"
    assert client.asked == [f"PUT {base}/api/token/", f"GET {roles}", f"GET {roles}role"]


async def test_a_pods_token_is_read_from_its_file_each_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, container: Metadata
) -> None:
    token = tmp_path / "eks-pod-identity-token"
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(token))
    token.write_text("first\n", encoding="ascii")
    who = identity(container)
    await who.key()
    assert container.headers["Authorization"] == "first"
    token.write_text("second\n", encoding="ascii")
    who.forget()
    await who.key()
    assert container.headers["Authorization"] == "second"


@pytest.mark.parametrize(
    ("region", "address"), [("eu-west-1", "https://sts.eu-west-1.amazonaws.com/"), ("", "https://sts.amazonaws.com/")]
)
async def test_a_service_accounts_token_is_changed_for_its_roles_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, container: Metadata, region: str, address: str
) -> None:
    monkeypatch.setenv("AWS_REGION", region)
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/penstock")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    (tmp_path / "token").write_text("eyJ.x+/=", encoding="ascii")
    key = await identity(container).key()
    theirs = create_parser("query").parse(
        {"status_code": 200, "headers": {}, "body": GRANTED.replace("UNTIL", "2026-11-21T00:00:00Z").encode()},
        botocore.session.get_session()
        .get_service_model("sts")
        .operation_model("AssumeRoleWithWebIdentity")
        .output_shape,
    )["Credentials"]
    assert (key.id, key.secret, key.token) == tuple(
        theirs[name] for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")
    )
    assert container.asked == [f"POST {address}"]
    assert dict(parse_qsl(container.body.decode())) == {
        "Action": "AssumeRoleWithWebIdentity",
        "Version": "2011-06-15",
        "RoleArn": "arn:aws:iam::123456789012:role/penstock",
        "RoleSessionName": "penstock",
        "WebIdentityToken": "eyJ.x+/=",
    }


async def test_a_token_that_is_gone_leaves_it_to_the_next_place(
    monkeypatch: pytest.MonkeyPatch, container: Metadata
) -> None:
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/penstock")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere/token")
    assert (await identity(container).key()).id == "ASIA1"


async def test_a_key_is_fetched_anew_before_it_expires(container: Metadata) -> None:
    container.minutes = 9.0
    who = identity(container)
    assert (await who.key()).id == "ASIA1"
    container.minutes = 60.0
    assert (await who.key()).id == "ASIA2"
    assert (await who.key()).id == "ASIA2"


async def test_a_key_that_aws_no_longer_takes_is_forgotten(container: Metadata) -> None:
    who = identity(container)
    who.forget()
    assert (await who.key()).id == "ASIA1"
    who.forget()
    assert (await who.key()).id == "ASIA2"


async def test_many_who_ask_at_once_wait_for_one_answer_and_may_leave(container: Metadata) -> None:
    go = asyncio.Event()
    container.wait = go.wait
    who = identity(container)
    asking = [asyncio.ensure_future(who.key()) for _ in range(5)]
    await asyncio.sleep(0)
    asking[0].cancel()
    await asyncio.sleep(0)
    go.set()
    left, *keys = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(left, asyncio.CancelledError)
    assert {key.id for key in keys} == {"ASIA1"}  # type: ignore[union-attr]
    assert len(container.asked) == 1


async def test_nobody_is_told_what_to_do(container: Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    with pytest.raises(UpstreamUnavailable, match="there are no AWS credentials: set AWS_ACCESS_KEY_ID"):
        await identity(container).key()


async def test_a_place_that_no_longer_answers_is_an_error_and_no_crash(container: Metadata) -> None:
    who = identity(container)
    await who.key()
    who.forget()
    container.status = 500
    began = time.monotonic()
    with pytest.raises(UpstreamUnavailable, match="AWS credentials cannot be fetched"):
        await who.key()
    assert time.monotonic() - began < 5
    container.status = 200
    assert (await who.key()).id
