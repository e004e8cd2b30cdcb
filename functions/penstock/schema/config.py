"""``config.yaml`` as records: what may be said, what holds where nothing is said, and what is out of bounds.

Types are checked by ``penstock.config`` when a file is read; bounds are checked here, whoever makes a record. A
``ValueError`` begins with the field's name. Times are in seconds, sizes in bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from penstock.schema.app_section import AppSection
from penstock.schema.bounds import NETWORKS, is_network, require
from penstock.schema.http_section import HttpSection
from penstock.schema.limit_section import BudgetSection, LimitSection
from penstock.schema.logging_section import Logging
from penstock.schema.model import MODEL_NAME, MODEL_NAMES, ColdStart
from penstock.schema.rate_limit_section import RateLimitSection
from penstock.schema.webhook_section import WebhookSection

if TYPE_CHECKING:  # a section that most leave out is imported where a file is read, or where it is used
    from penstock.schema.alert_section import AlertSection
    from penstock.schema.caching_section import CachingSection, MemorySection
    from penstock.schema.chaos_section import ChaosSection
    from penstock.schema.classification_section import ClassificationSection
    from penstock.schema.condensation_section import CondensationSection
    from penstock.schema.telemetry_section import TelemetrySection
    from penstock.schema.template_section import TemplateSection

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ADDRESS = "an address such as http://127.0.0.1:30000/v1, without user name and query"
_HEADER = re.compile(r"[A-Za-z0-9-]+")
_VISIBLE = re.compile(r"[!-~]+")
_PATH = re.compile(r"/[!-\"$-~]*")
_HASH = re.compile(r"(?!sha256:).*|sha256:[0-9a-f]{64}")
HASHED = "sha256:"
"""How a key begins that is not said itself, but its SHA-256."""
_DEAREST = 1_000
_ORIGIN = re.compile(r"\*|https?://[^/\s?#@]+")
_ORIGINS = "origins such as https://app.example, or *"
_VALUE = re.compile(r"[ -~\xa0-\xff]*")


def _reachable(url: str) -> bool:
    """Whether a client can make something of the address."""
    try:
        parts = urlsplit(url)
        labels = (parts.hostname or "").rstrip(".").split(".")
        whole = parts.port != 0 and not (parts.username or parts.query or parts.fragment)
    except ValueError:
        return False
    named = all(0 < len(label) < 64 for label in labels)
    return parts.scheme in ("http", "https") and named and whole and bool(_VISIBLE.fullmatch(url))


INSIDE = ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
"""Loopback and the private networks of RFC 1918 and RFC 4193."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where ``penstock serve`` listens; the command line goes before it. ``grace`` is the time that open requests have
    to finish once the server is told to stop. ``trusted_proxies`` are networks whose ``X-Forwarded-For`` is believed.
    ``debug`` logs at ``DEBUG``, whatever ``logging`` says; with ``reload`` a change of the file is noticed by itself.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    grace: int = 30
    debug: bool = False
    reload: bool = True
    trusted_proxies: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        require("trusted_proxies", all(map(is_network, self.trusted_proxies)), NETWORKS)
        require("port", 1 <= self.port <= 65535, "from 1 to 65535")
        require("grace", 0 <= self.grace <= 3600, "from 0 to 3600 seconds")


@dataclass(frozen=True, slots=True)
class Auth:
    """Who may call. ``api_keys`` are full keys that need no store, or ``sha256:`` and a key's SHA-256; the header is a
    second place to look for one.

    Callers from ``trusted_networks`` may administer keys without one.
    """

    mode: Literal["keys", "none"] = "keys"
    api_keys: list[str] = field(default_factory=list, repr=False)
    api_key_header: str = "X-API-Key"
    trusted_networks: list[str] = field(default_factory=lambda: list(INSIDE))

    def __post_init__(self) -> None:
        require(
            "api_key_header", bool(_HEADER.fullmatch(self.api_key_header)), "a header's name: letters, digits and -"
        )
        require("trusted_networks", all(map(is_network, self.trusted_networks)), NETWORKS)
        require("api_keys", all(map(_VISIBLE.fullmatch, self.api_keys)), "keys of visible ASCII characters")
        require("api_keys", all(map(_HASH.fullmatch, self.api_keys)), "keys, or sha256: and 64 lower-case digits each")


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of one request: time for all attempts together, bytes of its body, attempts, silence between pings. A
    prompt may have ``max_prompt_tokens``, as they are guessed from its size.

    With ``proxy_info`` an answer says in ``_proxy_info`` who gave it.
    """

    timeout: float = 300.0
    max_body_bytes: int = 20 * 1024 * 1024
    max_prompt_tokens: int | None = None
    attempts: int = 3
    ping_interval: float = 15.0
    proxy_info: bool = True

    def __post_init__(self) -> None:
        require("timeout", 0 < self.timeout <= 3600, "more than 0 and at most 3600 seconds")
        require("max_body_bytes", self.max_body_bytes >= 1024, "at least 1024")
        require("max_prompt_tokens", self.max_prompt_tokens is None or self.max_prompt_tokens >= 1, "at least 1")
        require("attempts", 1 <= self.attempts <= 20, "from 1 to 20")
        require("ping_interval", 0 < self.ping_interval <= 15, "more than 0 and at most 15 seconds")


@dataclass(frozen=True, slots=True)
class Model:
    """A public model name, and what the provider calls it: the same, where that is not said.

    One with a ``path`` is served by the provider's own endpoint there, and takes ``POST /infer`` alone.
    """

    name: str
    upstream: str = ""
    path: str = ""

    def __post_init__(self) -> None:
        require("upstream", bool(self.upstream or self.path), "given, unless there is a path")
        require("path", not self.path or bool(_PATH.fullmatch(self.path)), "a path such as /generate")


@dataclass(frozen=True, slots=True)
class Provider:
    """One place that answers: an engine or a vendor. A lower ``priority`` is tried first, a ``forced`` one before all.

    Among places of one priority ``weight`` is its share. With ``pass_priority`` its engine schedules by the priority of
    the caller's key. ``max_retries`` are further attempts at this same place once
    all others have failed, after ``retry_delay``, which doubles, or its own ``Retry-After``.
    """

    name: str
    type: str
    base_url: str | None = None
    api_key_env: str | None = None
    models: list[str | Model] = field(default_factory=list)
    enabled: bool = True
    forced: bool = False
    priority: int = 1
    weight: int = 1
    pass_priority: bool = False
    max_retries: int = 0
    retry_delay: float = 1.0
    timeout: float | None = None
    connect_timeout: float | None = None
    first_token_timeout: float | None = None
    max_connections: int | None = None
    max_keepalive_connections: int | None = None
    keepalive_expiry: float | None = None
    custom_headers: dict[str, str] = field(default_factory=dict)
    cold_start: ColdStart | None = None
    options: dict[str, float | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [model if isinstance(model, str) else model.name for model in self.models]
        require("name", bool(_NAME.fullmatch(self.name)), "1 to 64 letters, digits, dots, dashes and underscores")
        require("base_url", self.base_url is None or _reachable(self.base_url), _ADDRESS)
        require("models", all(map(MODEL_NAME.fullmatch, names)), MODEL_NAMES)
        require("models", len(set(names)) == len(names), "a list that has each name once")
        require("custom_headers", all(map(_HEADER.fullmatch, self.custom_headers)), "named by letters, digits and -")
        require("custom_headers", all(map(_VALUE.fullmatch, self.custom_headers.values())), "of one line each")
        wake_url = self.cold_start.wake_url if self.cold_start else None
        require("cold_start", wake_url is None or _reachable(wake_url), f"with a wake_url that is {_ADDRESS}")
        require("weight", 1 <= self.weight <= 1000, "from 1 to 1000")
        require("max_retries", 0 <= self.max_retries <= 10, "from 0 to 10")
        require("retry_delay", 0 < self.retry_delay <= 60, "more than 0 and at most 60 seconds")
        require("timeout", self.timeout is None or 0 < self.timeout <= 3600, "more than 0 and at most 3600 seconds")
        first = self.first_token_timeout
        require("first_token_timeout", first is None or 0 < first <= 3600, "more than 0 and at most 3600 seconds")
        connect = self.connect_timeout
        require("connect_timeout", connect is None or 0 < connect <= 60, "more than 0 and at most 60 seconds")
        most, idle, expiry = self.max_connections, self.max_keepalive_connections, self.keepalive_expiry
        require("max_connections", most is None or 1 <= most <= 100_000, "from 1 to 100000")
        require("max_keepalive_connections", idle is None or 0 <= idle <= 100_000, "from 0 to 100000")
        require("keepalive_expiry", expiry is None or 0 < expiry <= 3600, "more than 0 and at most 3600 seconds")


@dataclass(frozen=True, slots=True)
class PriceRow:
    """What the models that fit two globs cost: dollars per million tokens, per image, per second of a GPU.

    ``provider`` fits a provider's name or type, ``model`` its public name or the upstream's. Tokens from the provider's
    cache cost as ``input`` where ``cached_input`` is not said; what else is not said costs nothing.
    """

    provider: str = "*"
    model: str = "*"
    input: float | None = None
    cached_input: float | None = None
    output: float | None = None
    image: float | None = None
    gpu_second: float | None = None

    def __post_init__(self) -> None:
        said = {name: getattr(self, name) for name in ("input", "cached_input", "output", "image", "gpu_second")}
        for name, dollars in said.items():
            require(name, dollars is None or 0 <= dollars <= _DEAREST, f"from 0 to {_DEAREST} dollars")
        require("input", any(dollars is not None for dollars in said.values()), "given, or another price; 0 is free")


@dataclass(frozen=True, slots=True)
class Workers:
    """What is added to what workers say of themselves: the variable that holds their engines' key, their rank, and
    whether they schedule by the priority of the caller's key.
    """

    api_key_env: str | None = None
    priority: int = 1
    pass_priority: bool = False
    timeout: float = 300.0
    first_token_timeout: float | None = None

    def __post_init__(self) -> None:
        first = self.first_token_timeout
        require("timeout", 0 < self.timeout <= 3600, "more than 0 and at most 3600 seconds")
        require("first_token_timeout", first is None or 0 < first <= 3600, "more than 0 and at most 3600 seconds")


@dataclass(frozen=True, slots=True)
class Routing:
    """In which order places of one priority are tried."""

    policy: Literal["affinity", "power_of_two", "least_latency", "round_robin", "weighted"] = "affinity"


@dataclass(frozen=True, slots=True)
class CircuitBreaker:
    """When a place is left alone: after so many failures in a row, for ``recovery_timeout`` seconds; then so many calls
    at a time try it. ``expected_exception`` says which failures count: every one, connections that fail and answers
    that come too late (``OSError``), or one of these alone.
    """

    failure_threshold: int = 5
    recovery_timeout: float = 60.0
    half_open_max_calls: int = 1
    expected_exception: Literal["Exception", "OSError", "ConnectionError", "TimeoutError"] = "Exception"

    def __post_init__(self) -> None:
        require("failure_threshold", 1 <= self.failure_threshold <= 1000, "from 1 to 1000")
        require("recovery_timeout", 0 < self.recovery_timeout <= 3600, "more than 0 and at most 3600 seconds")
        require("half_open_max_calls", 1 <= self.half_open_max_calls <= 100, "from 1 to 100")


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """How often one of all processes looks whether providers are there: every ``interval`` seconds, for ``timeout`` at
    most. A provider that failed ``unhealthy_after`` looks in a row is down.

    ``/health`` tells of ``providers``, who are looked at for that, of the condensation of contexts, of ``memory`` and
    of the ``cache``, of each unless it is off.
    """

    enabled: bool = True
    interval: float = 30.0
    timeout: float = 10.0
    unhealthy_after: int = 2
    providers: bool = True
    context_service: bool = True
    memory: bool = True
    cache: bool = True

    def __post_init__(self) -> None:
        require("interval", 1 <= self.interval <= 3600, "from 1 to 3600 seconds")
        require("timeout", 0 < self.timeout <= self.interval, "more than 0 and at most the interval")
        require("unhealthy_after", 1 <= self.unhealthy_after <= 100, "from 1 to 100")


@dataclass(frozen=True, slots=True)
class JobSection:
    """Jobs: results are kept for ``retention`` seconds; a try may take ``timeout``, and so many ``attempts`` are made.
    All tries of one together may take ``time_limit``. A server runs ``concurrency`` of them at once.
    """

    retention: float = 86_400.0
    timeout: float = 840.0
    attempts: int = 5
    concurrency: int = 8
    time_limit: float | None = None

    def __post_init__(self) -> None:
        require("retention", 60 <= self.retention <= 90 * 86_400, "from 60 seconds to 90 days (7776000)")
        require("timeout", 1 <= self.timeout <= 86_400, "from 1 to 86400 seconds")
        require("attempts", 1 <= self.attempts <= 100, "from 1 to 100")
        require("concurrency", 0 <= self.concurrency <= 1000, "from 0 to 1000")
        limit = self.time_limit
        require("time_limit", limit is None or 1 <= limit <= 86_400, "from 1 to 86400 seconds")


@dataclass(frozen=True, slots=True)
class TaskSection:
    """What ``POST /generate`` takes where its request says nothing: the ``model`` (the first there is, if none is named
    here either), and bounds of the answer. ``key_in_url`` lets ``/stream/{id}`` be asked with ``?api_key=``, which
    pages of ``allowed_origins`` may do; ``*`` is any.
    """

    model: str | None = None
    max_tokens: int = 512
    temperature: float = 0.7
    key_in_url: bool = True
    allowed_origins: list[str] = field(default_factory=lambda: ["*"])

    def __post_init__(self) -> None:
        require(
            "model",
            self.model is None or bool(MODEL_NAME.fullmatch(self.model)),
            MODEL_NAMES.replace("names", "a name"),
        )
        require("max_tokens", 1 <= self.max_tokens <= 10**6, "from 1 to 1000000")
        require("temperature", 0 <= self.temperature <= 2, "from 0 to 2")
        require("allowed_origins", all(map(_ORIGIN.fullmatch, self.allowed_origins)), _ORIGINS)


@dataclass(frozen=True, slots=True)
class FileSection:
    """Files: one may have ``max_bytes``, and is kept for ``retention`` seconds where its caller says nothing of it."""

    max_bytes: int = 512 * 1024 * 1024
    retention: float = 30 * 86_400.0

    def __post_init__(self) -> None:
        require("max_bytes", 1024 <= self.max_bytes <= 2**36, "from 1024 to 68719476736 bytes (64 GiB)")
        require("retention", 3600 <= self.retention <= 366 * 86_400, "from an hour (3600) to a year (31622400)")


@dataclass(frozen=True, slots=True)
class BatchSection:
    """Batches: one may have ``max_lines``, of which ``window`` are open at once."""

    max_lines: int = 50_000
    window: int = 256

    def __post_init__(self) -> None:
        require("max_lines", 1 <= self.max_lines <= 10**7, "from 1 to 10000000")
        require("window", 1 <= self.window <= 1024, "from 1 to 1024")


@dataclass(frozen=True, slots=True)
class Document:
    """The whole file. ``providers`` is ``None`` where it says nothing of them: then they are looked for."""

    app: AppSection = field(default_factory=AppSection)
    server: Server = Server()
    auth: Auth = field(default_factory=Auth)
    request: Bounds = Bounds()
    logging: Logging = field(default_factory=Logging)
    http_client: HttpSection = field(default_factory=HttpSection)
    providers: list[Provider] | None = None
    workers: Workers = Workers()
    routing: Routing = Routing()
    circuit_breaker: CircuitBreaker = CircuitBreaker()
    health_check: HealthCheck = HealthCheck()
    jobs: JobSection = JobSection()
    tasks: TaskSection = field(default_factory=TaskSection)
    files: FileSection = FileSection()
    batches: BatchSection = BatchSection()
    webhooks: WebhookSection = field(default_factory=WebhookSection)
    classification: ClassificationSection | None = None
    alerts: AlertSection | None = None
    limits: LimitSection = field(default_factory=LimitSection)
    rate_limit: RateLimitSection | None = None
    budgets: BudgetSection = field(default_factory=BudgetSection)
    caching: CachingSection | None = None
    memory: MemorySection | None = None
    telemetry: TelemetrySection | None = None
    prices: list[PriceRow] = field(default_factory=list)
    templates: TemplateSection | None = None
    condensation: CondensationSection | None = None
    chaos_engineering: ChaosSection | None = None
