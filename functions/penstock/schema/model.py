"""Models and the places that serve them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from penstock.schema.http_section import USUAL, Wire
from penstock.schema.secret import Secret

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}")
MODEL_NAMES = "names of 1 to 200 of the characters A-Z a-z 0-9 . _ : / @ + -, beginning with a letter or digit"
"""The same for people."""


@dataclass(frozen=True, slots=True)
class ColdStart:
    """How a place that sleeps while nobody calls it wakes up. Times in seconds.

    It may sleep ``idle`` after its last answer, a start takes about ``seconds``, and a request waits ``budget`` for it
    at most. What serves already is asked before it, unless ``wait`` says that it keeps its rank. ``wake_url`` is sent
    a POST to start it; without one the check of its health does. With ``job`` a plain request that would have to wait
    for it becomes a job.
    """

    seconds: float = 60.0
    budget: float = 180.0
    idle: float = 300.0
    wait: bool = False
    wake_url: str | None = None
    job: bool = False

    def __post_init__(self) -> None:
        for name, longest in (("seconds", 3600), ("budget", 3600), ("idle", 86_400)):
            if not 0 < getattr(self, name) <= longest:
                raise ValueError(f"{name}: must be more than 0 and at most {longest} seconds")


CAPABILITIES = ("chat", "completions", "embeddings", "images", "tools", "vision", "reasoning")
"""What a model may be able to do, in the order in which it is told."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """One place that serves one public model name. Times in seconds.

    ``forced`` goes before every ``priority``. ``retries`` are further attempts at this same place, for one request.
    ``wire`` is how connections to it are kept. ``reported`` is the number of requests that a worker said it has, of all
    gateways together. ``pool`` is the name that providers share who come and go: ``workers``, or empty. ``cold_start``
    is of those that may sleep, ``generation`` of workers: another one after each start. ``max_tokens`` and
    ``temperature`` hold for requests that name none. ``path`` is the engine's own endpoint, of a model that is served
    there and nowhere else. With ``pass_priority`` the engine is told the priority of the caller's key.
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
    pass_priority: bool = False
    retries: int = 0
    retry_delay: float = 1.0
    reported: int = 0
    pool: str = ""
    generation: str = ""
    max_tokens: int | None = None
    temperature: float | None = None
    path: str = ""
    cold_start: ColdStart | None = None
    timeout: float = 300.0
    connect_timeout: float = 5.0
    first_token_timeout: float | None = None
    wire: Wire = USUAL
    options: tuple[tuple[str, str | int | float | bool], ...] = field(default=())


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a provider says of one of its models; ``None`` and empty where it does not.

    ``context_window`` and ``max_tokens``, of an answer, are tokens; ``capabilities`` are words of ``CAPABILITIES``.
    """

    id: str
    owned_by: str
    provider_type: str
    created: int
    upstream: str = ""
    context_window: int | None = None
    max_tokens: int | None = None
    capabilities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Selection:
    """What an administrator has chosen of one provider: the public names that are served, all where there are none, and
    what holds for them in the place of the configuration's. One that is not ``editable`` is changed by nobody unawares.
    """

    provider: str
    models: tuple[str, ...] = ()
    editable: bool = True
    priority: int | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Registry:
    """An immutable, numbered list of the models found at providers, and what was selected of them; version 0 is the
    empty one.
    """

    version: int = 0
    cards: tuple[ModelCard, ...] = ()
    refreshed_at: float = 0.0
    selections: tuple[Selection, ...] = ()
