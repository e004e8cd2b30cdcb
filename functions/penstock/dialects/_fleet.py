"""Who of the fleet speaks: requests that are signed with the secret which workers and the gateway share."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from pydantic import Field

from penstock.dialects._guard import Here
from penstock.errors import Authentication, NotConfigured

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


async def signed(request: Request, house: Here) -> None:
    """Admits requests that are signed with the fleet's secret."""
    signature = request.headers.get("x-penstock-signature")
    if signature is None:
        raise Authentication("Workers sign their requests with the fleet's secret: x-penstock-signature is missing.")
    if not house.fleet.exists:
        raise NotConfigured("No worker can register here: set PENSTOCK_FLEET_SECRET for the gateway and its workers.")
    house.fleet.verify(signature, request.method, request.url.path, await request.body())


Signed = Depends(signed)
