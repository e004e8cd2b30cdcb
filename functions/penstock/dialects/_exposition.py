"""What was counted, in Prometheus's words. Imported when first asked for: the library takes 70 ms to start."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from penstock.core.families import Families, Family


class _Counted(Collector):
    """The families as they are."""

    def __init__(self, families: Families) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for family in self._families.values():
            if family.kind == "histogram":
                yield _histogram(family)
                continue
            kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
            told = kind(family.name, family.help, labels=family.labels)
            for labels, (value,) in family.values.items():
                told.add_metric(labels, value)
            yield told


def _histogram(family: Family) -> Metric:
    told = HistogramMetricFamily(family.name, family.help, labels=family.labels)
    names = [*map(floatToGoString, family.bounds), "+Inf"]
    for labels, (*counts, total) in family.values.items():
        told.add_metric(labels, list(zip(names, accumulate(counts), strict=True)), total)
    return told


def expose(families: Families, accept: str) -> tuple[bytes, str]:
    """All that was counted, and its content type: Prometheus's text, or OpenMetrics for who accepts that."""
    encode, content_type = choose_encoder(accept)
    return encode(_Counted(families)), content_type
