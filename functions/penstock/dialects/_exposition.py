"""What this process counts, in Prometheus's words. Imported when first asked for: the library takes 70 ms to start."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from penstock.core.counters import COUNTERS, Counter


class _Counted(Collector):
    """The counters as they are now; one that has no labels is told from the start, as zero."""

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        for counter in COUNTERS:
            family = CounterMetricFamily if isinstance(counter, Counter) else GaugeMetricFamily
            told = family(counter.name, counter.help, labels=counter.labels)
            for labels, value in counter.values.items() or ([] if counter.labels else [((), 0)]):
                told.add_metric(labels, value)
            yield told


def expose(accept: str) -> tuple[bytes, str]:
    """Everything that is counted, and its content type: Prometheus's text, or OpenMetrics for who accepts that."""
    encode, content_type = choose_encoder(accept)
    return encode(_Counted()), content_type
