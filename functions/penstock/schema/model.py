"""Models and the places that serve them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from penstock.schema.secret import Secret

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}")


@dataclass(frozen=True, slots=True)
class Deployment:
    """One place that serves one public model name. Times in seconds.

    ``forced`` goes before every ``priority``. ``retries`` are further attempts at this same place, for one request.
    ``reported`` is the number of requests that a worker said it has, of all gateways together. ``pool`` is the name
    that providers share who come and go: ``workers``, or empty.
    """

    id: str
    model: str
    provider: str
    kind: str
    upstream_model: str
    base_url: str
    credential: Secret | None = None
    headers: tuple[tuple[str, str], ...] = ()
    priority: int = 1
    forced: bool = False
    weight: int = 1
    retries: int = 0
    retry_delay: float = 1.0
    reported: int = 0
    pool: str = ""
    timeout: float = 300.0
    connect_timeout: float = 5.0
    options: tuple[tuple[str, str | int | float | bool], ...] = field(default=())


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What ``GET /v1/models`` says of one public name."""

    id: str
    owned_by: str
    provider_type: str
    created: int
    upstream: str = ""
    context_window: int | None = None


@dataclass(frozen=True, slots=True)
class Registry:
    """An immutable, numbered list of the models found at providers; version 0 is the empty one."""

    version: int = 0
    cards: tuple[ModelCard, ...] = ()
    refreshed_at: float = 0.0
