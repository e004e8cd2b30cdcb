"""Traces: the caller's goes on to the provider, and a collector is told what each request and attempt was."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from penstock import settings
from penstock.bootstrap import build
from penstock.errors import SettingsError
from tests.wire import gateway as gateways
from tests.wire.gateway import Gateway
from tests.wire.upstream import HELLO, Upstream, answering, completion, streaming

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CANARY = "canary-prompt"


class Collector(ThreadingHTTPServer):
    """Takes OTLP over HTTP, as a collector does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Taking)
        self.taken: list[tuple[str, ExportTraceServiceRequest]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def spans(self) -> dict[str, Span]:
        """What was taken, by name and kind."""
        found = {}
        for _, told in self.taken:
            for resource in told.resource_spans:
                for scope in resource.scope_spans:
                    found |= {f"{Span.SpanKind.Name(span.kind)} {span.span_id.hex()}": span for span in scope.spans}
        return found

    def resource(self) -> dict[str, Any]:
        """Who sent it."""
        return values(self.taken[0][1].resource_spans[0].resource.attributes)


class Taking(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        told = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
        self.server.taken.append((self.path, told))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def values(attributes: Any) -> dict[str, Any]:
    """Attributes as a mapping."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def section(collector: Collector | None, **more: Any) -> Mapping[str, Any]:
    """The section ``telemetry``, with a collector for those that are sampled."""
    otlp = {"otlp": {"enabled": True, "endpoint": collector.url}} if collector else {}
    return {"telemetry": {"enabled": True, "service_name": "llm-proxy-api", "service_version": "2.0.0", **otlp, **more}}


async def ask(gateway: Gateway, stream: bool = False, **headers: str) -> httpx.Response:
    request = gateway.request({"messages": [{"role": "user", "content": CANARY}], "stream": stream})
    request.headers.update(headers)
    return await gateway.client.send(request)


@pytest.mark.row("P11")
async def test_a_request_is_a_span_below_its_callers_and_its_attempts_are_below_it(
    tmp_path: Path, upstream: Upstream, second: Upstream, collector: Collector
) -> None:
    upstream.script = answering({"error": {"message": "out of order"}}, 500)
    second.script = streaming(*HELLO)
    providers = [gateways.provider(upstream.url), gateways.provider(second.url, name="second", priority=2)]
    async with gateways.serve(tmp_path, *providers, sections=section(collector)) as gateway:
        told = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=abc"}
        assert (await ask(gateway, stream=True, **told)).status_code == 200
        await gateway.outcome()
    spans = collector.spans()
    [request] = [span for name, span in spans.items() if name.startswith("SPAN_KIND_SERVER")]
    attempts = {span.span_id.hex(): span for name, span in spans.items() if name.startswith("SPAN_KIND_CLIENT")}
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE}
    assert request.parent_span_id.hex() == PARENT
    assert {span.parent_span_id for span in attempts.values()} == {request.span_id}
    passed = [each.calls[0].headers["traceparent"].split("-") for each in (upstream, second)]
    assert [(parts[1], parts[3]) for parts in passed] == [(TRACE, "01")] * 2
    assert {parts[2] for parts in passed} == set(attempts), "each provider is told the span of its own attempt"
    assert upstream.calls[0].headers["tracestate"] == "vendor=abc"
    failed, answered = (values(attempts[parts[2]].attributes) for parts in passed)
    assert (failed["gen_ai.provider.name"], failed["error.type"]) == ("first", "upstream_unavailable")
    assert (answered["gen_ai.provider.name"], answered["gen_ai.usage.output_tokens"]) == ("second", 2)
    whole = values(request.attributes)
    assert request.name == "chat public-1"
    assert (whole["gen_ai.operation.name"], whole["gen_ai.request.model"]) == ("chat", "public-1")
    assert (whole["http.response.status_code"], whole["penstock.attempts"]) == (200, 2)
    assert whole["gen_ai.response.time_to_first_chunk"] > 0
    assert request.start_time_unix_nano < request.end_time_unix_nano
    assert collector.taken[0][0] == "/v1/traces"
    assert collector.resource()["service.name"] == "llm-proxy-api"
    assert collector.resource()["service.version"] == "2.0.0"
    assert CANARY not in str(collector.taken)
    assert gateways.KEY not in str(collector.taken)


async def test_a_trace_that_nobody_began_begins_here(tmp_path: Path, upstream: Upstream, collector: Collector) -> None:
    upstream.script = answering(completion())
    async with gateways.serve(tmp_path, gateways.provider(upstream.url), sections=section(collector)) as gateway:
        for wrong in (
            "",
            "nonsense",
            f"ff-{TRACE}-{PARENT}-01",
            f"00-{'0' * 32}-{PARENT}-01",
            f"00-{TRACE}-{PARENT}-01-x",
        ):
            assert (await ask(gateway, traceparent=wrong)).status_code == 200
        await gateway.outcomes(5)
    requests = [span for name, span in collector.spans().items() if name.startswith("SPAN_KIND_SERVER")]
    assert len({span.trace_id for span in requests} - {bytes.fromhex(TRACE)}) == 5
    assert not any(span.parent_span_id for span in requests)


async def test_what_is_not_sampled_is_passed_on_and_sent_nowhere(
    tmp_path: Path, upstream: Upstream, collector: Collector
) -> None:
    upstream.script = answering(completion())
    sections = section(collector, sampling={"probability": 0.0})
    async with gateways.serve(tmp_path, gateways.provider(upstream.url), sections=sections) as gateway:
        await ask(gateway)
        await ask(gateway, traceparent=f"00-{TRACE}-{PARENT}-00")
        await gateway.outcomes(2)
    assert not collector.taken
    own, passed = (call.headers["traceparent"] for call in upstream.calls)
    assert own.endswith("-00")
    assert passed.split("-")[1::2] == [TRACE, "00"]


async def test_without_telemetry_nobody_is_told_of_a_trace(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script = answering(completion())
    await ask(gateway, traceparent=f"00-{TRACE}-{PARENT}-01")
    assert "traceparent" not in upstream.calls[0].headers


async def test_a_collector_that_is_away_disturbs_nobody(tmp_path: Path, upstream: Upstream) -> None:
    upstream.script = answering(completion())
    sections = {"telemetry": {"enabled": True, "otlp": {"enabled": True, "endpoint": "http://127.0.0.1:9/v1/traces"}}}
    async with gateways.serve(tmp_path, gateways.provider(upstream.url), sections=sections) as gateway:
        assert (await ask(gateway)).status_code == 200
        await gateway.outcome()


@pytest.fixture
def the_log_as_it_was() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.mark.usefixtures("the_log_as_it_was")
def test_without_the_extra_one_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    config = tmp_path / "config.yaml"
    told = "telemetry:\n  enabled: true\n  jaeger: {enabled: %s}\nlogging: {level: ERROR}\nproviders: []\n"
    config.write_text(told % "true", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"config\.yaml:2: .*pip install 'penstock\[telemetry\]'"):
        build(settings.load({}, config=str(config), state=f"sqlite:///{tmp_path}/state.db"))
    config.write_text(told % "false", encoding="utf-8")
    house = build(settings.load({}, config=str(config), state=f"sqlite:///{tmp_path}/state.db"))
    assert house.spans is None, "there is nobody to send spans to"
    assert house.gateway.tracer is not None, "traces are passed on all the same"
