"""A line to a service of AWS: each request is signed by who this process is to AWS."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from penstock.aws import Identity, signature
from penstock.errors import UpstreamError, UpstreamTimeout, UpstreamUnavailable
from penstock.outbound import HttpClient, Response, Target
from penstock.providers._line import Line
from penstock.providers._profiles import Profile
from penstock.schema.model import Deployment

_STALE = ("ExpiredToken", "UnrecognizedClient")
"""How the kinds of errors begin that a fresh key may mend."""


class SignedLine(Line):
    """Posts to one deployment of the service that the profile is named after, in the region that the options name."""

    def __init__(
        self, deployment: Deployment, client: HttpClient, profile: Profile, base: str, identity: Identity
    ) -> None:
        super().__init__(deployment, client, profile, base, ())
        self._identity = identity
        self._place = {
            "region": str(dict(deployment.options).get("region", "us-east-1")),
            "service": profile.name,
        }

    async def _target(self, method: str, path: str, body: bytes, deadline: float) -> Target:
        try:
            async with asyncio.timeout_at(deadline):
                key = await self._identity.key()
        except TimeoutError:
            raise UpstreamTimeout(f"{self.deployment.provider}: AWS credentials took too long") from None
        except UpstreamUnavailable as error:
            raise UpstreamUnavailable(
                f"{self.deployment.provider}: {error.message}", provider=self.deployment.provider
            ) from None
        url = self._base + path
        signed = signature(method, url, {}, body, key=key, **self._place, at=datetime.now(UTC))
        return Target(method, url, (*self._headers, *signed), self.deployment.wire)

    async def failure(self, response: Response) -> UpstreamError:
        """What a refusal stands for; one of a key that has become stale has it fetched anew."""
        if response.headers.get("x-amzn-errortype", "").startswith(_STALE):
            self._identity.forget()
        return await super().failure(response)
