"""Where spans are sent: the documents' addresses of Jaeger and Zipkin stand for those where they take OTLP."""

from __future__ import annotations

import pytest

from penstock.core.tracer import Tracer
from penstock.schema.telemetry_section import Jaeger, Otlp, Sampling, TelemetrySection, Zipkin


@pytest.mark.parametrize(
    ("told", "traces"),
    [
        (Otlp(endpoint="http://collector:4318"), "http://collector:4318/v1/traces"),
        (Otlp(endpoint="https://otlp.example/v1/traces"), "https://otlp.example/v1/traces"),
        (Otlp(endpoint="https://example/tenant/otlp"), "https://example/tenant/otlp"),
        (Jaeger(), "http://localhost:4318/v1/traces"),
        (Jaeger(endpoint="http://[::1]:14268/api/traces"), "http://[::1]:4318/v1/traces"),
        (Jaeger(endpoint="http://jaeger:4318/v1/traces"), "http://jaeger:4318/v1/traces"),
        (Zipkin(), "http://localhost:9411/v1/traces"),
        (Zipkin(endpoint="http://zipkin:9411"), "http://zipkin:9411/v1/traces"),
    ],
)
def test_an_endpoint_stands_for_where_otlp_is_spoken(told: Otlp | Jaeger | Zipkin, traces: str) -> None:
    assert told.traces == traces


def test_those_that_are_enabled_are_sent_to_each_once() -> None:
    both = TelemetrySection(enabled=True, otlp=Otlp(enabled=True), jaeger=Jaeger(enabled=True))
    assert both.endpoints == ["http://localhost:4318/v1/traces"]
    assert TelemetrySection(enabled=False, otlp=Otlp(enabled=True)).endpoints == []
    assert TelemetrySection(enabled=True).endpoints == []


@pytest.mark.parametrize("endpoint", ["localhost:4318", "ftp://host/", "http://", "http://host:99999/"])
def test_an_endpoint_that_is_none_is_refused(endpoint: str) -> None:
    with pytest.raises(ValueError, match="endpoint"):
        Otlp(endpoint=endpoint)


def test_a_share_of_the_traces_is_sampled() -> None:
    with pytest.raises(ValueError, match="probability"):
        Sampling(1.5)
    sampled = sum(Tracer(0.1).begin().sampled for _ in range(10_000))
    assert 700 < sampled < 1300
    assert all(Tracer(1.0).begin().sampled for _ in range(1000))


def test_ids_of_attempts_are_all_different_and_never_none() -> None:
    trace = Tracer(1.0).begin()
    ids = [trace.span_id, *(trace.attempt(number) for number in range(1, 20))]
    assert len(set(ids)) == 20
    assert "0" * 16 not in ids
