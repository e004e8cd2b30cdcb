"""AWS's Signature Version 4: the headers that a signed request carries.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import quote, urlsplit

from penstock.aws import Key

ALGORITHM = "AWS4-HMAC-SHA256"


def signature(
    method: str, url: str, headers: Mapping[str, str], body: bytes, *, key: Key, region: str, service: str, at: datetime
) -> list[tuple[str, str]]:
    """The headers that sign a request to ``url``, which is encoded as it will be sent, made ``at`` a time in UTC.

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
