"""Outcomes as OpenTelemetry spans, by its conventions for generative AI, sent by OTLP; needs the extra `telemetry`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from penstock.core.traffic import NOBODY, provider_of
from penstock.schema.outcome import FAILED, Outcome
from penstock.schema.price import dollars
from penstock.schema.request import CHAT, COMPLETIONS, EMBEDDINGS
from penstock.schema.telemetry_section import TelemetrySection
from penstock.schema.trace import Trace

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

OPERATIONS = {CHAT: "chat", COMPLETIONS: "text_completion", EMBEDDINGS: "embeddings"}
"""The conventions' names of what is asked for; other endpoints go by their own."""
NANO = 1_000_000_000
CUT = 256
"""Characters of a model's name, which in a request that no place serves is the caller's."""


class Spans:
    """Sends a span for each outcome that is sampled, and one below it for each of its attempts.

    With ``at_once`` a span is sent before ``tell`` returns: by a function, which may be frozen with its answer. Raises
    ``ImportError`` if OpenTelemetry is not installed.
    """

    def __init__(self, section: TelemetrySection, version: str, *, at_once: bool) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import export  # noqa: PLC0415
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415

        named = {"service.name": section.service_name, "service.version": section.service_version or version}
        self._resource = Resource.create(named)
        self._scope = InstrumentationScope("penstock", version)
        processor = export.SimpleSpanProcessor if at_once else export.BatchSpanProcessor
        self._processors = [processor(OTLPSpanExporter(endpoint=endpoint)) for endpoint in section.endpoints]

    def tell(self, batch: Sequence[Outcome]) -> None:
        """Send the spans of outcomes."""
        for outcome in batch:
            if outcome.trace is not None and outcome.trace.sampled:
                for span in self._spans(outcome, outcome.trace):
                    for processor in self._processors:
                        processor.on_end(span)

    def close(self) -> None:
        """Send what waits; takes seconds where nobody listens."""
        for processor in self._processors:
            processor.shutdown()

    def _spans(self, outcome: Outcome, trace: Trace) -> Iterator[ReadableSpan]:
        """The attempts one after the other, as they were made, and the request."""
        began, number = outcome.started_at, 0
        for number, failure in enumerate(outcome.failures, 1):
            told = _place(outcome, failure.deployment) | {"error.type": failure.code}
            yield self._span(trace, number, began, began + failure.seconds, told)
            began += failure.seconds
        if outcome.deployment not in NOBODY and (outcome.ended != FAILED or not outcome.failures):
            told = _place(outcome, outcome.deployment) | _answer(outcome)
            yield self._span(trace, number + 1, began, outcome.started_at + outcome.duration, told)
        told = _place(outcome, outcome.deployment) | _answer(outcome) | _request(outcome)
        yield self._span(trace, 0, outcome.started_at, outcome.started_at + outcome.duration, told)

    def _span(self, trace: Trace, number: int, began: float, ended: float, told: dict[str, Any]) -> ReadableSpan:
        """A span: that of an attempt, or with 0 of the request."""
        from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415 - it was imported for this object
        from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState  # noqa: PLC0415

        def context(span_id: str, *, remote: bool = False) -> SpanContext:
            state = TraceState.from_header([trace.state]) if trace.state else None
            return SpanContext(int(trace.trace_id, 16), int(span_id, 16), remote, TraceFlags(1), state)

        parent = (
            context(trace.span_id) if number else context(trace.parent_id, remote=True) if trace.parent_id else None
        )
        return ReadableSpan(
            name=f"{told['gen_ai.operation.name']} {told['gen_ai.request.model']}",
            context=context(trace.attempt(number) if number else trace.span_id),
            parent=parent,
            resource=self._resource,
            attributes={name: value for name, value in told.items() if value is not None},
            kind=SpanKind.CLIENT if number else SpanKind.SERVER,
            status=Status(StatusCode.ERROR if "error.type" in told else StatusCode.UNSET),
            start_time=int(began * NANO),
            end_time=int(max(began, ended) * NANO),
            instrumentation_scope=self._scope,
        )


def _place(outcome: Outcome, deployment: str) -> dict[str, Any]:
    """What was asked, and of whom."""
    return {
        "gen_ai.operation.name": OPERATIONS.get(outcome.endpoint, outcome.endpoint),
        "gen_ai.request.model": outcome.model[:CUT],
        "gen_ai.provider.name": provider_of(deployment) or None,
        "penstock.deployment": deployment or None,
    }


def _answer(outcome: Outcome) -> dict[str, Any]:
    """What came of it."""
    told: dict[str, Any] = {
        "gen_ai.usage.input_tokens": outcome.usage.prompt_tokens,
        "gen_ai.usage.output_tokens": outcome.usage.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": outcome.usage.cached_tokens or None,
        "gen_ai.response.time_to_first_chunk": outcome.ttft,
    }
    if outcome.ended == FAILED:
        told["error.type"] = outcome.code
    return told


def _request(outcome: Outcome) -> dict[str, Any]:
    """What is told of a request alone."""
    return {
        "http.response.status_code": outcome.status,
        "penstock.request_id": outcome.request_id,
        "penstock.attempts": outcome.attempts,
        "penstock.ended": outcome.ended,
        "penstock.cost_dollars": dollars(outcome.cost_nanos) if outcome.cost_nanos is not None else None,
    }
