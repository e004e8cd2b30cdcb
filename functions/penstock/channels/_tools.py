"""What a channel may use of the process that it is in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.schema.secret import Secret

if TYPE_CHECKING:
    from penstock.outbound import HttpClient


@dataclass(frozen=True, slots=True)
class Tools:
    """The HTTP client, AWS's region where it is known, and the secrets that options name by their variables."""

    client: HttpClient
    region: str
    secret: Callable[[str], Secret]
