"""The section ``telemetry`` of a configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from penstock.schema.bounds import require

TRACES = "/v1/traces"
"""The path at which a collector takes OTLP over HTTP."""


def _traces(endpoint: str, retired: str, port: int | None) -> str:
    """Where OTLP is spoken at an endpoint: an address of the ``retired`` wire stands for the port of OTLP beside it."""
    parts = urlsplit(endpoint)
    if parts.path.rstrip("/") in ("", retired):
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        moved = port is not None and parts.path.rstrip("/") == retired
        netloc = f"{host}:{port}" if moved else parts.netloc
        return urlunsplit((parts.scheme, netloc, TRACES, "", ""))
    return endpoint


def _checked(endpoint: str) -> None:
    try:
        parts = urlsplit(endpoint)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    require("endpoint", good, "an address such as http://localhost:4318/v1/traces")


@dataclass(frozen=True, slots=True)
class Otlp:
    """A collector that takes OpenTelemetry's protocol over HTTP."""

    enabled: bool = False
    endpoint: str = "http://localhost:4318/v1/traces"

    def __post_init__(self) -> None:
        _checked(self.endpoint)

    @property
    def traces(self) -> str:
        """Where spans are sent."""
        return _traces(self.endpoint, "", None)


@dataclass(frozen=True, slots=True)
class Jaeger:
    """A Jaeger, which takes OTLP on port 4318: the address of its own retired wire stands for that."""

    enabled: bool = False
    endpoint: str = "http://localhost:14268/api/traces"

    def __post_init__(self) -> None:
        _checked(self.endpoint)

    @property
    def traces(self) -> str:
        """Where spans are sent."""
        return _traces(self.endpoint, "/api/traces", 4318)


@dataclass(frozen=True, slots=True)
class Zipkin:
    """A Zipkin with its OTLP collector, beside the address of its own wire."""

    enabled: bool = False
    endpoint: str = "http://localhost:9411/api/v2/spans"

    def __post_init__(self) -> None:
        _checked(self.endpoint)

    @property
    def traces(self) -> str:
        """Where spans are sent."""
        return _traces(self.endpoint, "/api/v2/spans", urlsplit(self.endpoint).port)


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which share of the traces that begin here is sent; one that began elsewhere is sent if it was sampled there."""

    probability: float = 1.0

    def __post_init__(self) -> None:
        require("probability", 0 <= self.probability <= 1, "from 0 to 1")


@dataclass(frozen=True, slots=True)
class TelemetrySection:
    """Traces: once enabled each request has one, which its caller may have begun and its provider is told of. Spans are
    sent to those below that are enabled.
    """

    enabled: bool = False
    service_name: str = "penstock"
    service_version: str = ""
    otlp: Otlp = field(default_factory=Otlp)
    jaeger: Jaeger = field(default_factory=Jaeger)
    zipkin: Zipkin = field(default_factory=Zipkin)
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        require("service_name", bool(self.service_name.strip()), "a name")

    @property
    def endpoints(self) -> list[str]:
        """Where spans are sent, each address once."""
        if not self.enabled:
            return []
        return list(dict.fromkeys(each.traces for each in (self.otlp, self.jaeger, self.zipkin) if each.enabled))
