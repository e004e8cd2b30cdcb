"""Who a process is to AWS: aiodynamo's chain of credentials, asked over Penstock's own HTTP client, and signatures.

Found, in this order, in the environment, by a role's web identity, in the credentials file, at a container's address,
at the machine's own; what expires is fetched anew some minutes before. Imported where AWS is spoken to, and only there.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urlsplit

from aiodynamo.credentials import (
    ChainCredentials,
    ContainerMetadataCredentials,
    Credentials,
    EnvironmentCredentials,
    FileCredentials,
    InstanceMetadataCredentialsV1,
    InstanceMetadataCredentialsV2,
    Key,
    Metadata,
    MetadataCredentials,
    StaticCredentials,
    TooManyRetries,
    fetch_with_retry_and_timeout,
)
from aiodynamo.http.types import HttpImplementation, Request, RequestFailed, Response

from penstock.errors import UpstreamError, UpstreamUnavailable
from penstock.settings import Tokens, tokens

if TYPE_CHECKING:
    from penstock.outbound import HttpClient

__all__ = ["Identity", "Key", "at_home", "send", "signature", "usual"]

PATIENCE = 2.0
"""Seconds for one answer about credentials."""
ALGORITHM = "AWS4-HMAC-SHA256"
_TAG = re.compile(r"<(AccessKeyId|SecretAccessKey|SessionToken|Expiration)>([^<]+)</")

# Its lines would hold bodies of requests, and tracebacks of every place where no credentials were found.
logging.getLogger("aiodynamo").setLevel(logging.CRITICAL)


async def send(client: HttpClient, request: Request, *, seconds: float, connect_timeout: float) -> Response:
    """What aiodynamo wants of an HTTP client. Raises its ``RequestFailed``."""
    try:
        response = await client.request(
            request.method,
            request.url,
            headers=list((request.headers or {}).items()),
            body=request.body or b"",
            deadline=asyncio.get_running_loop().time() + seconds,
            connect_timeout=connect_timeout,
        )
        return Response(response.status, await response.read())
    except UpstreamError as error:
        raise RequestFailed(error) from error


def usual() -> Credentials:
    """The chain of every place where credentials may be."""
    left = tokens()
    return ChainCredentials(
        [
            EnvironmentCredentials(),
            WebIdentity(left),
            FileCredentials(),
            PodIdentity(token_file=left.pod),
            InstanceMetadataCredentialsV2(),
            InstanceMetadataCredentialsV1(),
        ]
    )


def at_home() -> Credentials:
    """For a server of one's own: what is set, or else a key that such servers do not check."""
    chain = ChainCredentials([EnvironmentCredentials(), FileCredentials(), ContainerMetadataCredentials()])
    return StaticCredentials(Key("local", "local")) if chain.is_disabled() else chain


@dataclass
class PodIdentity(ContainerMetadataCredentials):
    """A container's credentials, asked for with a token that may stand in a file and change there."""

    token_file: str = ""

    async def fetch_metadata(self, http: HttpImplementation) -> Metadata:
        """A key that is good for some time."""
        if self.token_file:
            self.auth_token = _read(self.token_file)
        return await super().fetch_metadata(http)


@dataclass
class WebIdentity(MetadataCredentials):
    """The credentials of a role that a cluster's token stands for, as AWS's token service gives them.

    https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
    """

    tokens: Tokens = field(repr=False)

    def is_disabled(self) -> bool:
        """Whether nobody left a token."""
        return not (self.tokens.role and self.tokens.web)

    async def fetch_metadata(self, http: HttpImplementation) -> Metadata:
        """A key that is good for some time. Raises ``KeyError`` if the answer holds none."""
        asked = {
            "Action": "AssumeRoleWithWebIdentity",
            "Version": "2011-06-15",
            "RoleArn": self.tokens.role,
            "RoleSessionName": self.tokens.session,
            "WebIdentityToken": _read(self.tokens.web),
        }
        form = {"content-type": "application/x-www-form-urlencoded"}
        request = Request("POST", self.tokens.sts.rstrip("/") + "/", form, urlencode(asked).encode())
        body = await fetch_with_retry_and_timeout(http=http, max_attempts=2, timeout=PATIENCE, request=request)
        told = dict(_TAG.findall(body.decode()))
        key = Key(told["AccessKeyId"], told["SecretAccessKey"], told["SessionToken"])
        return Metadata(key, datetime.fromisoformat(told["Expiration"]))


def _read(path: str) -> str:
    """The token in a file. Raises ``ValueError``."""
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None


class Identity:
    """Who this process is to AWS; ``credentials`` stand in the place of the usual chain."""

    def __init__(self, client: HttpClient, credentials: Credentials | None = None) -> None:
        self._client = client
        self._credentials = credentials
        self._finding: asyncio.Task[Key | None] | None = None

    async def key(self) -> Key:
        """The key to sign with now. Who asks at once waits for the same answer. Raises ``UpstreamUnavailable``."""
        if self._credentials is None:
            self._credentials = usual()
        if self._finding is None or self._finding.done():
            self._finding = asyncio.ensure_future(self._credentials.get_key(self._send))
            self._finding.add_done_callback(lambda task: task.cancelled() or task.exception())  # if all have left
        try:
            key = await asyncio.shield(self._finding)  # aiodynamo takes a caller's leaving for a failure of the place
        except (KeyError, TooManyRetries, UpstreamError, ValueError) as error:
            raise UpstreamUnavailable(f"AWS credentials cannot be fetched: {error or 'no answer'}") from None
        if key is None:
            raise UpstreamUnavailable(
                "there are no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or"
                " give the machine a role"
            )
        return key

    def forget(self) -> None:
        """Fetch a key anew that AWS no longer takes, where it can be."""
        if self._credentials is not None:
            self._credentials.invalidate()

    async def _send(self, request: Request) -> Response:
        return await send(self._client, request, seconds=PATIENCE, connect_timeout=PATIENCE)


def signature(
    method: str, url: str, headers: Mapping[str, str], body: bytes, *, key: Key, region: str, service: str, at: datetime
) -> list[tuple[str, str]]:
    """The headers that sign a request to ``url``, which is encoded as it will be sent, ``at`` a time in UTC (SigV4).

    ``headers`` are what is signed besides them and the host, by lower-case names.
    """
    stamp = at.strftime("%Y%m%dT%H%M%SZ")
    parts = urlsplit(url)
    dated = {"x-amz-date": stamp} | ({"x-amz-security-token": key.token} if key.token else {})
    told = {"host": parts.netloc.lower(), **headers, **dated}
    names = sorted(told)
    canonical = [
        method,
        quote(parts.path or "/", safe="/~"),  # encoded once more, as for every service but S3
        "&".join(sorted(parts.query.split("&"))),
        *(f"{name}:{' '.join(told[name].split())}" for name in names),
        "",
        ";".join(names),
        hashlib.sha256(body).hexdigest(),
    ]
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    digest = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
    proof = f"AWS4{key.secret}".encode()
    for word in (stamp[:8], region, service, "aws4_request", "\n".join((ALGORITHM, stamp, scope, digest))):
        proof = hmac.digest(proof, word.encode(), "sha256")
    said = f"{ALGORITHM} Credential={key.id}/{scope}, SignedHeaders={';'.join(names)}, Signature={proof.hex()}"
    return [*dated.items(), ("authorization", said)]
