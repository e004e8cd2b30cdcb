"""Who tells how the gateway does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from penstock import __version__, telemetry
from penstock.bootstrap.places import deployments
from penstock.core.counted import count
from penstock.core.ports import Store
from penstock.core.tracer import Tracer
from penstock.core.vitals import Vitals
from penstock.hardware import machine
from penstock.schema.outcome import Outcome
from penstock.settings import Settings, fault

if TYPE_CHECKING:
    from penstock.core.pool import Pool
    from penstock.tracing import Spans

Tell = Callable[[Sequence[Outcome]], None]


def build_vitals(settings: Settings, store: Store) -> Vitals:
    """The numbers of the ledger; a provider that is configured is among them before it was called."""
    providers = [each.name for each in settings.document.providers or () if each.enabled]
    return Vitals(store, providers, machine)


def build_pool(settings: Settings) -> Pool | None:
    """Where several processes of one server put what they count together."""
    if not settings.metrics_folder:
        return None
    from penstock.core.pool import Pool  # noqa: PLC0415 - most servers are one process

    return Pool(settings.metrics_folder)


def build_spans(settings: Settings) -> Spans | None:
    """Who sends spans, where somebody takes them. Raises ``SettingsError`` where what that needs is not installed."""
    section = settings.document.telemetry
    if section is None or not section.endpoints:
        return None
    from penstock.tracing import Spans  # noqa: PLC0415 - only who sends spans needs it

    try:
        return Spans(section, __version__, at_once=bool(settings.door))
    except ImportError:
        message = "needs OpenTelemetry, which is not installed: pip install 'penstock[telemetry]'"
        raise fault(settings.source, ["telemetry", "enabled"], message) from None


def build_tracer(settings: Settings) -> Tracer | None:
    """Who gives requests their places in traces, where that is wanted."""
    section = settings.document.telemetry
    return Tracer(section.sampling.probability) if section is not None and section.enabled else None


def build_tell(settings: Settings, spans: Spans | None) -> Tell:
    """Who is told of outcomes: counters, log and spans. A function's log lines hold its metrics."""
    listeners: list[Tell] = [count, _lines(settings) if settings.door else telemetry.tell]
    if spans is not None:
        listeners.append(spans.tell)

    def tell(batch: Sequence[Outcome]) -> None:
        for listener in listeners:
            listener(batch)

    return tell


def _lines(settings: Settings) -> Tell:
    from penstock import cloudwatch  # noqa: PLC0415 - only functions need it

    configured, sources, spare = deployments(settings)
    providers = {place.provider for place in (*configured, *sources, *spare)}
    return cloudwatch.Lines(settings.service, providers).tell
