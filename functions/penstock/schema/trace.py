"""Where a request stands in a trace, by W3C's Trace Context."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trace:
    """A request's span: ids are of lower-case hexadecimal digits, ``parent_id`` is empty where the trace begins here.

    ``state`` is what other tracers have to say to one another.
    """

    trace_id: str
    span_id: str
    parent_id: str = ""
    sampled: bool = True
    state: str = ""

    def attempt(self, number: int) -> str:
        """The id of the span of an attempt, which are counted from 1."""
        return f"{(int(self.span_id, 16) + number) % 2**64 or 2**63:016x}"

    def headers(self, number: int) -> tuple[tuple[str, str], ...]:
        """What the provider is told that an attempt calls."""
        parent = f"00-{self.trace_id}-{self.attempt(number)}-{'01' if self.sampled else '00'}"
        return (("traceparent", parent), *((("tracestate", self.state),) if self.state else ()))
